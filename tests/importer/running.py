"""An old shop that goes on working while it is imported: PostgreSQL, its Redis keys, and QPay's side of it."""

from __future__ import annotations

import json
from typing import Any

from tests.importer.filling import execute, fill
from tests.importer.old_shop import KINDS, Case, cases, tell_qpay
from tests.payments.world import World

from tulbur.importer.choosing import open_source
from tulbur.importer.moving import Move
from tulbur.importer.report import Report
from tulbur.importer.sources import Source

_NOW = "to_timestamp($5::text::float8) AT TIME ZONE 'UTC'"


async def no_pause() -> None: ...


def named(*kinds: str) -> list[Case]:
    """One session of each of these kinds."""
    every = {case.kind: case for case in cases(len(KINDS))}
    return [every[kind] for kind in kinds]


class Old:
    """A running old shop on PostgreSQL."""

    def __init__(self, w: World, url: str) -> None:
        self.w, self.url = w, url
        self.source: Source = open_source(url)

    async def has(self, made: list[Case]) -> Move:
        tell_qpay(self.w.simulator, made)
        await fill("postgres", self.url, made)
        await self.source.start()
        return Move(self.w.payments.desk, self.source)

    async def sql(self, statement: str, *values: str) -> None:
        await execute(self.url, statement, *values)

    async def processes(self, case: Case, *, session_id: str | None, names: int = 99, makes: int = 99) -> None:
        """Write what the old shop writes when a session is paid: orders, and a processed invoice that names them."""
        ids = []
        for n, (shop, total) in enumerate(list(case.totals.items())[:makes]):
            ids.append(f"made-{case.session_id}-{n}")
            await self.sql(
                f'INSERT INTO "orders" SELECT $1, $2, $3, $4::text::float8, {_NOW}',
                *(ids[-1], case.row["userId"], shop, repr(total), repr(self.w.clock() / 1e6)),
            )
        if names >= 0:
            await self.sql(
                f"""INSERT INTO "QPayProcessedInvoice" SELECT $1, $2, nullif($3, ''), 'PROCESSED',
                   string_to_array(nullif($4, ''), ','), {_NOW}""",
                *(f"p-{case.session_id}", case.row["invoiceId"], session_id or "", ",".join(ids[:names])),
                repr(self.w.clock() / 1e6),
            )


async def seed(redis: Any, case: Case, seconds: int | None = 600, **changes: Any) -> None:
    """Keep a session in Redis, as the old shop does."""
    payload = {**case.row["payload"], "invoiceId": case.row["invoiceId"], **changes}
    await redis.set(key(case), json.dumps(payload), ex=seconds)


def key(case: Case) -> str:
    return f"payment-session:{case.session_id}"


def address(redis: Any) -> str:
    options = redis.connection_pool.connection_kwargs
    return f"valkey://{options['host']}:{options['port']}/{options.get('db', 0)}"


def reasons(report: Report) -> dict[str, str]:
    return {problem.id: problem.why or problem.what for problem in report.problems}
