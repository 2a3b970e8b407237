"""Databases as Prisma makes them from the old shop's schema, filled, and read back whole to see if anything changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

from tests.importer.old_shop import Case, Row

KINDS: Final = ("mongodb", "postgres", "mariadb")
TABLES: Final = ("QPayPaymentSession", "QPayProcessedInvoice", "orders")

_POSTGRES: Final = """
CREATE TABLE "QPayPaymentSession" ("id" TEXT PRIMARY KEY, "sessionId" TEXT NOT NULL UNIQUE,
 "provider" TEXT NOT NULL DEFAULT 'qpay', "invoiceId" TEXT UNIQUE, "userId" TEXT NOT NULL,
 "amount" DOUBLE PRECISION NOT NULL, "currency" TEXT NOT NULL DEFAULT 'MNT', "payload" JSONB NOT NULL,
 "status" TEXT NOT NULL DEFAULT 'PENDING', "callbackToken" TEXT, "expiresAt" TIMESTAMP(3), "lastCheckAt" TIMESTAMP(3),
 "cancelledAt" TIMESTAMP(3), "paymentId" TEXT, "ebarimtStatus" TEXT, "ebarimtReceiptId" TEXT, "ebarimtQrData" TEXT,
 "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, "updatedAt" TIMESTAMP(3) NOT NULL);
CREATE TABLE "QPayProcessedInvoice" ("id" TEXT PRIMARY KEY, "invoiceId" TEXT NOT NULL UNIQUE, "sessionId" TEXT,
 "status" TEXT NOT NULL, "orderIds" TEXT[], "processedAt" TIMESTAMP(3) NOT NULL);
CREATE TABLE "orders" ("id" TEXT PRIMARY KEY, "userId" TEXT NOT NULL, "shopId" TEXT NOT NULL,
 "total" DOUBLE PRECISION NOT NULL, "createdAt" TIMESTAMP(3) NOT NULL);
"""
_MYSQL: Final = """
CREATE TABLE `QPayPaymentSession` (`id` VARCHAR(191) PRIMARY KEY, `sessionId` VARCHAR(191) NOT NULL UNIQUE,
 `provider` VARCHAR(191) NOT NULL DEFAULT 'qpay', `invoiceId` VARCHAR(191) UNIQUE, `userId` VARCHAR(191) NOT NULL,
 `amount` DOUBLE NOT NULL, `currency` VARCHAR(191) NOT NULL DEFAULT 'MNT', `payload` JSON NOT NULL,
 `status` VARCHAR(191) NOT NULL DEFAULT 'PENDING', `callbackToken` VARCHAR(191), `expiresAt` DATETIME(3) NULL,
 `lastCheckAt` DATETIME(3) NULL, `cancelledAt` DATETIME(3) NULL, `paymentId` VARCHAR(191),
 `ebarimtStatus` VARCHAR(191), `ebarimtReceiptId` VARCHAR(191), `ebarimtQrData` TEXT, `createdAt` DATETIME(3) NOT NULL,
 `updatedAt` DATETIME(3) NOT NULL) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
CREATE TABLE `QPayProcessedInvoice` (`id` VARCHAR(191) PRIMARY KEY, `invoiceId` VARCHAR(191) NOT NULL UNIQUE,
 `sessionId` VARCHAR(191), `status` VARCHAR(191) NOT NULL, `orderIds` JSON, `processedAt` DATETIME(3) NOT NULL
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
CREATE TABLE `orders` (`id` VARCHAR(191) PRIMARY KEY, `userId` VARCHAR(191) NOT NULL, `shopId` VARCHAR(191) NOT NULL,
 `total` DOUBLE NOT NULL, `createdAt` DATETIME(3) NOT NULL) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
"""


def tables(made: Sequence[Case]) -> dict[str, list[Row]]:
    return {
        "QPayPaymentSession": [case.row for case in made],
        "QPayProcessedInvoice": [row for case in made for row in case.processed],
        "orders": [row for case in made for row in case.orders],
    }


async def fill(kind: str, url: str, made: Sequence[Case]) -> None:
    """Make the tables and put everything in."""
    await {"mongodb": _fill_mongo, "postgres": _fill_postgres, "mariadb": _fill_mysql}[kind](url, tables(made))


async def execute(url: str, statement: str, *values: str) -> None:
    """One statement of the old shop's on PostgreSQL, while it still runs."""
    connection = await _postgres(url)
    await connection.execute(statement, *values)
    await connection.close()


async def digest(kind: str, url: str) -> str:
    """Over all there is in the source."""
    if kind == "mongodb":
        rows = await _dump_mongo(url)
    elif kind == "postgres":
        connection = await _postgres(url)
        rows = [await connection.fetch(f'SELECT * FROM "{name}" ORDER BY "id"') for name in TABLES]
        rows += await connection.fetch("SELECT relname FROM pg_stat_user_tables ORDER BY relname")
        await connection.close()
    else:
        rows = await _dump_mysql(url)
    return sha256(repr(rows).encode()).hexdigest()


# --- MongoDB


async def _fill_mongo(url: str, data: dict[str, list[Row]]) -> None:
    from pymongo import AsyncMongoClient  # noqa: PLC0415 - of an extra

    async with AsyncMongoClient(url) as client:
        database = client.get_default_database()
        for name, rows in data.items():
            if rows:
                await database[name].insert_many([_document(name, row, i) for i, row in enumerate(rows)])


def _document(name: str, row: Row, i: int) -> Row:
    """As Prisma writes it: an ObjectId, and null or nothing at all; the hand of an admin left some ids as text."""
    from bson import Decimal128, ObjectId  # noqa: PLC0415 - of an extra

    document = {key: value for key, value in row.items() if value is not None or i % 2}
    id_ = document.pop("id")
    as_text = name == "QPayPaymentSession" and i % 7 == 0
    if name == "QPayPaymentSession" and i % 11 == 0:
        document["amount"] = Decimal128(repr(document["amount"]))
    return {"_id": id_ if as_text else ObjectId(id_), **document}


async def _dump_mongo(url: str) -> list[Any]:
    from pymongo import AsyncMongoClient  # noqa: PLC0415 - of an extra

    async with AsyncMongoClient(url) as client:
        database = client.get_default_database()
        names = sorted(await database.list_collection_names())
        return [names, *[await database[name].find().sort("_id", 1).to_list() for name in names]]


# --- PostgreSQL


async def _postgres(url: str) -> Any:
    import asyncpg  # noqa: PLC0415 - of an extra

    return await asyncpg.connect(url)


async def _fill_postgres(url: str, data: dict[str, list[Row]]) -> None:
    connection = await _postgres(url)
    await connection.execute(_POSTGRES)
    for name, rows in data.items():
        if rows:
            records = [tuple(_column(value, lists=True) for value in row.values()) for row in rows]
            names, marks = ", ".join(f'"{n}"' for n in rows[0]), ", ".join(f"${i + 1}" for i in range(len(rows[0])))
            await connection.executemany(f'INSERT INTO "{name}" ({names}) VALUES ({marks})', records)
    await connection.close()


# --- MariaDB


async def _mysql(url: str) -> Any:
    import asyncmy  # noqa: PLC0415 - of an extra

    parts = urlsplit(url)
    return await asyncmy.connect(
        host=parts.hostname, port=parts.port, user=parts.username, password=parts.password, db=parts.path[1:],
        autocommit=True, charset="utf8mb4",
    )  # fmt: skip


async def _fill_mysql(url: str, data: dict[str, list[Row]]) -> None:
    connection = await _mysql(url)
    async with connection.cursor() as cursor:
        for statement in _MYSQL.split(";\n")[:-1]:
            await cursor.execute(statement)
        for name, rows in data.items():
            if rows:
                names = ", ".join(f"`{n}`" for n in rows[0])
                marks = ", ".join(["%s"] * len(rows[0]))
                records = [tuple(_column(value, lists=False) for value in row.values()) for row in rows]
                await cursor.executemany(f"INSERT INTO `{name}` ({names}) VALUES ({marks})", records)
    await connection.ensure_closed()


async def _dump_mysql(url: str) -> list[Any]:
    connection = await _mysql(url)
    rows = []
    async with connection.cursor() as cursor:
        await cursor.execute("SHOW TABLES")
        rows.append(sorted(await cursor.fetchall()))
        for name in TABLES:
            await cursor.execute(f"SELECT * FROM `{name}` ORDER BY id")
            rows.append(await cursor.fetchall())
    await connection.ensure_closed()
    return rows


def _column(value: Any, *, lists: bool) -> Any:
    if isinstance(value, dict) or (isinstance(value, list) and (not lists or value[:1] == [1])):
        return json.dumps(value)
    return value
