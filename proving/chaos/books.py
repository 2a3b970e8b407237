"""What a database holds, read row by row past every proxy and past the store's own questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from sqlalchemy import create_engine, select

from tulbur.core.codec import decode
from tulbur.core.session import Session
from tulbur.settings import sqlite_path
from tulbur.stores import choosing, drivers, schema

Row: TypeAlias = Mapping[str, Any]

TABLES: Final = (schema.sessions, schema.payments, schema.orders, schema.events)


@dataclass(frozen=True)
class Books:
    """Every session as its document says, and the rows beside it."""

    sessions: Mapping[str, Session]
    payments: Mapping[str, Row]
    orders: list[Row]
    events: list[Row]


async def read(url: str) -> Books:
    """All of a database's books."""
    path = sqlite_path(url)
    if path is not None:
        engine = create_engine(f"sqlite:///{path}")
        with engine.connect() as connection:
            rows: dict[str, list[Row]] = {
                table.name: [dict(row._mapping) for row in connection.execute(select(table))] for table in TABLES
            }
        engine.dispose()
    elif url.partition(":")[0] in choosing.MONGO:
        rows = await _documents(url)
    else:
        rows = await _rows(url)
    return Books(
        {row["id"]: decode(bytes(row["document"]), int(row["version"])) for row in rows[schema.sessions.name]},
        {row["payment_id"]: row for row in rows[schema.payments.name]},
        rows[schema.orders.name],
        sorted(rows[schema.events.name], key=lambda row: (row["session_id"], row["seq"])),
    )


async def _rows(url: str) -> dict[str, list[Row]]:
    engine = await drivers.engine(drivers.read(url))
    try:
        async with engine.connect() as connection:
            return {
                table.name: [dict(row._mapping) for row in await connection.execute(select(table))] for table in TABLES
            }
    finally:
        await engine.dispose()


async def _documents(url: str) -> dict[str, list[Row]]:
    client: AsyncMongoClient[dict[str, Any]]
    async with AsyncMongoClient(url) as client:
        database: AsyncDatabase[dict[str, Any]] = client.get_default_database()
        return {table.name: [_row(found) async for found in database[table.name].find()] for table in TABLES}


def _row(document: Mapping[str, Any]) -> Row:
    """A document as the row it stands for: its `_id` is the key, of one column or of several."""
    key = document["_id"]
    return {**document, **(key if isinstance(key, Mapping) else {"id": key})}
