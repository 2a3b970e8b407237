"""What tests of the stores on database servers share."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.util import await_only

from tulbur.stores import drivers
from tulbur.stores.harnesses import LossyNetworkStore, empty
from tulbur.stores.network import NetworkStore

T = TypeVar("T")

SERVERS = ["postgres", "mariadb"]

_IN_TRANSACTION = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND xact_start IS NOT NULL"
)
_CONNECTED = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
_ACTIVE = re.compile(r"---TRANSACTION \d+, ACTIVE.*?thread id (\d+)", re.DOTALL)


@asynccontextmanager
async def started(store: NetworkStore) -> AsyncIterator[NetworkStore]:
    await store.start()
    try:
        yield store
        assert checked_out(store) == 0
    finally:
        await store.stop()


@asynccontextmanager
async def emptied(url: str, **options: Any) -> AsyncIterator[LossyNetworkStore]:
    """A started store on an empty database."""
    store = LossyNetworkStore(url, **options)
    async with started(store):
        await store._write(empty)
        yield store


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """A connection of somebody else."""
    engine = await drivers.engine(drivers.read(url))
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


async def in_transaction(server: str, other: Any) -> list[int]:
    """Which of the server's processes have a transaction open on the database of `other`."""
    if server == "postgres":
        return list((await other.exec_driver_sql(_IN_TRANSACTION)).scalars())
    # Not information_schema.innodb_trx, which tells the state of a while ago.
    connected_ids = set((await other.exec_driver_sql(_CONNECTED)).scalars())
    status = (await other.exec_driver_sql("SHOW ENGINE INNODB STATUS")).one()[2]
    return [int(found) for found in _ACTIVE.findall(status) if int(found) in connected_ids]


def checked_out(store: NetworkStore) -> int:
    assert store._engine
    return store._engine.sync_engine.pool.checkedout()  # type: ignore[attr-defined, no-any-return]


def one(query: str) -> Callable[[Connection], Any]:
    return lambda connection: connection.exec_driver_sql(query).scalar()


def waiting(until: Any) -> Callable[[Connection], None]:
    """Work that holds its connection until an event."""
    return lambda _: await_only(until.wait())
