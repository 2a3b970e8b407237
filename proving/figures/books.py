"""The database as an auditor reads it: straight from its tables, past everything tulbur says."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import asyncpg


class Books:
    """A PostgreSQL database of tulbur's."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - the driver has no types
        self._connection = connection

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, url: str) -> AsyncIterator[Books]:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute("SET default_transaction_isolation TO 'read committed'")
            yield cls(connection)
        finally:
            await connection.close()

    async def number(self, table: str, where: str = "true") -> int:
        """Rows of a table; both texts are ours."""
        return int(await self._connection.fetchval(f"SELECT count(*) FROM {table} WHERE {where}"))  # noqa: S608

    async def order_sets(self, shops: int) -> int:
        """Sessions that have exactly one order of each of so many shops."""
        sets = "SELECT session_id FROM tulbur_orders GROUP BY session_id HAVING count(*) = $1"
        return int(
            await self._connection.fetchval(
                f"SELECT count(*) FROM ({sets} AND count(DISTINCT shop_id) = $1) AS whole",  # noqa: S608 - ours
                shops,
            )
        )

    async def statuses(self) -> dict[str, str]:
        """Each session's status."""
        return {
            row["id"]: row["status"] for row in await self._connection.fetch("SELECT id, status FROM tulbur_sessions")
        }

    async def ordered(self) -> dict[str, int]:
        """How many orders each session has that has any."""
        rows = await self._connection.fetch("SELECT session_id, count(*) AS n FROM tulbur_orders GROUP BY session_id")
        return {row["session_id"]: row["n"] for row in rows}

    async def tallied(self) -> int:
        """Callbacks in the shared counts of where their sessions were."""
        return int(await self._connection.fetchval("SELECT coalesce(sum(count), 0) FROM tulbur_tallies"))

    async def content(self) -> dict[str, str]:
        """A hash of all rows of each of tulbur's tables."""
        tables = await self._connection.fetch(
            "SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'tulbur%' ORDER BY table_name"
        )
        hashes = {}
        for (table,) in tables:
            rows = await self._connection.fetch(f"SELECT t::text FROM {table} AS t ORDER BY 1")  # noqa: S608
            hashes[table] = sha256("\n".join(row[0] for row in rows).encode()).hexdigest()
        return hashes
