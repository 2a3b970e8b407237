"""The record of sweeps: written as they go on, read newest first."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, desc, select

from tulbur.core.session import Micros
from tulbur.ports import SweepRun
from tulbur.stores import rows
from tulbur.stores.dialects import insert_new
from tulbur.stores.rows import page
from tulbur.stores.schema import sweeps

_UNTIL: Final = select(sweeps.c.window_end).where(sweeps.c.complete == 1).order_by(desc(sweeps.c.window_end)).limit(1)


def put(connection: Connection, run: SweepRun) -> None:
    row = rows.sweep_row(run)
    if not insert_new(connection, sweeps, [row]):
        connection.execute(sweeps.update().where(sweeps.c.id == run.id).values(**row))


def listed(connection: Connection, limit: int, before: tuple[Micros, str] | None) -> list[SweepRun]:
    query = select(sweeps).order_by(desc(sweeps.c.started_at), desc(sweeps.c.id)).limit(page(limit))
    if before is not None:
        at, id_ = before
        query = query.where(sweeps.c.started_at <= at, (sweeps.c.started_at < at) | (sweeps.c.id < id_))
    return [rows.read_sweep(row) for row in connection.execute(query).mappings()]


def until(connection: Connection) -> Micros | None:
    return connection.execute(_UNTIL).scalar()
