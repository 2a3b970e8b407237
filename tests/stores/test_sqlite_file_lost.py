"""The file taken away, put back or replaced under a running store; and a lock that outlasts many who wait."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from tests.stores.test_sqlite import locked, started

from tulbur.errors import StoreUnavailable
from tulbur.stores.contracts.samples import session
from tulbur.stores.sqlite import SqliteStore

pytestmark = pytest.mark.anyio


def _files(path: Path) -> list[Path]:
    return [path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")]


async def test_a_deleted_file_takes_no_writes_and_no_reads(folder: Path) -> None:
    path = folder / "a.db"
    async with started(SqliteStore(path)) as store:
        for file in _files(path):
            file.unlink(missing_ok=True)
        with pytest.raises(StoreUnavailable, match="moved or replaced"):
            await store.add(session())
        with pytest.raises(StoreUnavailable):
            await store.get("s1")
        with pytest.raises(StoreUnavailable):
            await store.ping()
        assert not path.exists(), "nobody was told to make a new database"


async def test_a_file_that_is_put_back_is_used_again(folder: Path) -> None:
    path = folder / "a.db"
    async with started(SqliteStore(path)) as store:
        path.rename(folder / "b.db")
        with pytest.raises(StoreUnavailable):
            await store.add(session())
        (folder / "b.db").rename(path)
        await store.add(session())
        assert await store.get(session().id)


async def test_a_restored_backup_is_not_written_before_a_restart(folder: Path) -> None:
    path = folder / "a.db"
    async with started(SqliteStore(path)) as store:
        await store.add(session())
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(folder / "b.db")) as backup:
            source.backup(backup)
        (folder / "b.db").replace(path)
        with pytest.raises(StoreUnavailable, match="restart"):
            await store.get(session().id)
    async with started(SqliteStore(path)) as store:
        assert await store.get(session().id)


async def test_a_lock_makes_nobody_wait_for_all_before_him(folder: Path) -> None:
    path = folder / "a.db"
    async with started(SqliteStore(path, busy_seconds=0.3)) as store, locked(path):
        asked = time.monotonic()
        answers = await asyncio.gather(*(store.tally(0, {"cache": 1}) for _ in range(20)), return_exceptions=True)
        assert all(isinstance(answer, StoreUnavailable) for answer in answers)
        assert time.monotonic() - asked < 20 * 0.3 / 3
