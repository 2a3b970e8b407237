"""The databases of a benchmark, every commit of theirs on the disk; and what is counted in them afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from sqlalchemy import Connection, create_engine, text

from testbed.engine import Engine
from testbed.mariadb import MariaDB
from testbed.mongodb import MongoDB
from testbed.postgres import Postgres
from tulbur.settings import sqlite_path
from tulbur.stores import choosing, drivers

KINDS: Final = ("postgres", "sqlite", "mariadb", "mongodb")


class DurablePostgres(Postgres):
    """As PostgreSQL comes, which the tests' server is not; the last of several settings counts."""

    def argv(self, program: Path, folder: Path, port: int) -> list[str]:
        settings = {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "deadlock_timeout": "1s",
            "default_transaction_isolation": "read committed",
            "timezone": "UTC",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [*super().argv(program, folder, port), *options]


class DurableMariaDB(MariaDB):
    """Likewise."""

    def argv(self, program: Path, folder: Path, port: int) -> list[str]:
        return [
            *super().argv(program, folder, port),
            "--innodb-flush-log-at-trx-commit=1",
            "--innodb-flush-method=fsync",
            "--innodb-doublewrite=1",
            "--transaction-isolation=REPEATABLE-READ",
        ]


# MongoDB answers a majority write when it is in the journal on the disk; tulbur opens SQLite with synchronous=FULL.
ENGINES: Final[Mapping[str, Engine]] = {
    "postgres": DurablePostgres(),
    "mariadb": DurableMariaDB(),
    "mongodb": MongoDB(),
}


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows, as the database itself counts them."""

    sessions: int
    paid: int
    payments: int
    orders: int
    invoices: int

    def __sub__(self, before: Counts) -> Counts:
        return Counts(
            self.sessions - before.sessions,
            self.paid - before.paid,
            self.payments - before.payments,
            self.orders - before.orders,
            self.invoices - before.invoices,
        )


_QUESTIONS: Final[Mapping[str, tuple[str, str, Any]]] = {
    "sessions": ("sessions", "", None),
    "paid": ("sessions", "status", "PAID"),
    "payments": ("payments", "", None),
    "orders": ("orders", "", None),
    "invoices": ("invoices", "state", "open"),
}


async def counts(url: str, prefix: str = "tulbur") -> Counts:
    """How many sessions, payments, orders and open invoices there are in the tables of this prefix."""
    if url.partition(":")[0] in choosing.MONGO:
        return await _counts_of_documents(url, prefix)
    path = sqlite_path(url)
    if path is not None:
        engine = create_engine(f"sqlite:///{path}")
        try:
            with engine.connect() as connection:
                return _counts_of_rows(connection, prefix)
        finally:
            engine.dispose()
    server = await drivers.engine(drivers.read(url))
    try:
        async with server.connect() as connected:
            return await connected.run_sync(_counts_of_rows, prefix)
    finally:
        await server.dispose()


def _counts_of_rows(connection: Connection, prefix: str) -> Counts:
    found = {}
    for name, (table, column, value) in _QUESTIONS.items():
        where = f" WHERE {column} = '{value}'" if column else ""
        found[name] = int(connection.execute(text(f"SELECT count(*) FROM {prefix}_{table}{where}")).scalar_one())  # noqa: S608 - ours
    return Counts(**found)


async def _counts_of_documents(url: str, prefix: str) -> Counts:
    client: AsyncMongoClient[dict[str, Any]]
    async with AsyncMongoClient(url) as client:
        database: AsyncDatabase[dict[str, Any]] = client.get_default_database()
        found = {
            name: await database[f"{prefix}_{table}"].count_documents({column: value} if column else {})
            for name, (table, column, value) in _QUESTIONS.items()
        }
    return Counts(**found)
