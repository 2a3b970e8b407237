"""The record of sweeps: written as they go on, read newest first."""

from __future__ import annotations

from tulbur.core.session import Micros
from tulbur.ports import SweepRun
from tulbur.stores import mongo_documents as documents
from tulbur.stores import mongo_schema as schema
from tulbur.stores import rows
from tulbur.stores.mongo_documents import Document, plain
from tulbur.stores.mongo_link import Work


async def put(work: Work, run: SweepRun) -> None:
    document = documents.sweep_document(run)
    await work[schema.SWEEPS].replace_one({"_id": run.id}, document, upsert=True, session=work.session)


async def listed(work: Work, count: int, before: tuple[Micros, str] | None) -> list[SweepRun]:
    """One page; `count` is one or more."""
    wanted: Document = {}
    if before is not None:
        at, id_ = before
        wanted = {"started_at": {"$lte": at}, "$or": [{"started_at": {"$lt": at}}, {"_id": {"$lt": id_}}]}
    found = work[schema.SWEEPS].find(wanted, sort=[("started_at", -1), ("_id", -1)], limit=count, hint="started")
    return [rows.read_sweep(plain(one)) for one in await found.to_list(count)]


async def until(work: Work) -> Micros | None:
    latest = await work[schema.SWEEPS].find_one({"complete": 1}, {"window_end": 1}, sort=[("window_end", -1)])
    return int(latest["window_end"]) if latest else None
