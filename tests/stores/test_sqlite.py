"""What is SQLite's own: its modes, locks held by others, a failing disk, threads, and several processes on a file."""

import asyncio
import gc
import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from tulbur.core.session import Session, Status
from tulbur.errors import CommitUnknown, SessionExists, SettingsError, StoreUnavailable
from tulbur.ports import Committed
from tulbur.stores.contracts.samples import (
    NOW,
    added,
    answered,
    called_back,
    delivered,
    invoiced,
    paid,
    session,
    told,
    won,
)
from tulbur.stores.harnesses import LossySqliteStore
from tulbur.stores.lane import Lane
from tulbur.stores.sqlite import SqliteStore

pytestmark = pytest.mark.anyio

T = TypeVar("T")


@asynccontextmanager
async def started(store: SqliteStore) -> AsyncIterator[SqliteStore]:
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


@asynccontextmanager
async def locked(path: Path) -> AsyncIterator[sqlite3.Connection]:
    """Another process, as SQLite sees it, that is writing."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other
        if other.in_transaction:
            other.execute("ROLLBACK")


def writer(store: SqliteStore) -> Lane:
    assert store._writer
    return store._writer


async def in_writer(store: SqliteStore, work: Callable[[Connection], T]) -> T:
    lane = writer(store)
    return await lane.run(lambda: work(lane.connection()))


def pragma(name: str) -> Callable[[Connection], Any]:
    def run(connection: Connection) -> Any:
        done = connection.exec_driver_sql(f"PRAGMA {name}")
        return done.scalar() if done.returns_rows else None

    return run


def is_in_transaction(connection: Connection) -> bool:
    raw = connection.connection.dbapi_connection
    return bool(getattr(raw, "in_transaction", None))


# --- modes


async def test_the_modes_are_really_set(folder: Path) -> None:
    async with started(SqliteStore(folder / "a.db", busy_seconds=1.5)) as store:
        for run in (lambda work: in_writer(store, work), store._read):
            assert await run(pragma("journal_mode")) == "wal"
            assert await run(pragma("synchronous")) == 2
            assert await run(pragma("foreign_keys")) == 1
        assert await store._read(pragma("busy_timeout")) == 1500
        assert await store._read(pragma("query_only")) == 1


NO_FILE = ["sqlite://", "sqlite:///:memory:", ":memory:", "sqlite:///a.db?mode=ro", "postgresql://h/d", "://"]


@pytest.mark.parametrize("url", NO_FILE)
def test_an_address_without_a_file_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"sqlite:///tulbur\.db"):
        SqliteStore(url)


def test_addresses_name_files(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.chdir(folder)
    assert SqliteStore("sqlite:///a.db").path == folder / "a.db"
    assert SqliteStore(f"sqlite:///{folder}/a%b?c.db".replace("?", "%3F").replace("a%b", "a%25b")).path.parent == folder
    assert SqliteStore("a.db").path == SqliteStore(folder / "a.db").path == folder / "a.db"


async def test_the_clock_given_decides_when_leases_end(folder: Path) -> None:
    time = NOW
    async with started(SqliteStore(folder / "a.db", lambda: time)) as store:
        assert await store.lease("token", "a", 10)
        time += 9_999_999
        assert not await store.lease("token", "b", 10)
        time += 1
        assert await store.lease("token", "b", 10)


# --- locks


async def test_a_lock_that_is_not_released_is_unavailable_and_changes_nothing(folder: Path) -> None:
    async with started(SqliteStore(folder / "a.db", busy_seconds=0.01)) as store:
        before = await invoiced(store)
        async with locked(store.path):
            with pytest.raises(StoreUnavailable, match="another process"):
                await store.commit(before, answered(before, "pay-1"))
            with pytest.raises(StoreUnavailable):
                await store.claim_due(NOW, "w", 10, 1)
            assert await store.get("s-1") == before  # readers do not wait for the writer
            assert not await in_writer(store, is_in_transaction)
        await won(store, before, answered(before, "pay-1"))


async def test_a_lock_that_is_released_is_waited_for(folder: Path) -> None:
    class Counting(SqliteStore):
        tries = 0

        def _try(self, lane: Lane, work: Callable[[Connection], T]) -> T:
            self.tries += 1
            if self.tries == 3:
                other.execute("ROLLBACK")
            return super()._try(lane, work)

    async with started(Counting(folder / "a.db", busy_seconds=20)) as store:
        assert isinstance(store, Counting)
        before = await invoiced(store)
        async with locked(store.path) as other:
            store.tries = 0
            await won(store, before, called_back(before))
            assert store.tries == 3


async def test_two_stores_that_start_at_once_make_the_tables_once(folder: Path) -> None:
    stores = [SqliteStore(folder / "a.db") for _ in range(4)]
    await asyncio.gather(*(store.start() for store in stores))
    await added(stores[0])
    assert all([await store.get("s-1") for store in stores])
    await asyncio.gather(*(store.stop() for store in stores))


# --- a failing disk


async def test_a_full_disk_is_unavailable_and_changes_nothing(folder: Path) -> None:
    async with started(SqliteStore(folder / "a.db")) as store:
        before = await invoiced(store)
        pages = await in_writer(store, pragma("page_count"))
        await in_writer(store, pragma(f"max_page_count={pages}"))
        with pytest.raises(StoreUnavailable, match="full"):
            await store.add(session("s-2", metadata={"long": "x" * 100_000}))
        assert not await in_writer(store, is_in_transaction)
        await in_writer(store, pragma("max_page_count=1000000"))
        assert await store.get("s-2") is None
        await won(store, before, called_back(before))


async def test_a_database_that_cannot_be_written_is_unavailable(folder: Path) -> None:
    async with started(SqliteStore(folder / "a.db")) as store:
        before = await invoiced(store)
        await in_writer(store, pragma("query_only=ON"))
        with pytest.raises(StoreUnavailable, match="cannot be written"):
            await store.commit(before, called_back(before))
        assert await store.get("s-1") == before


async def test_a_file_that_cannot_be_opened_is_unavailable(folder: Path) -> None:
    store = SqliteStore(folder / "missing" / "a.db")
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        await store.start()
    with pytest.raises(StoreUnavailable, match="not started"):
        await store.get("s-1")


async def test_a_file_that_is_no_database_is_unavailable(folder: Path) -> None:
    (folder / "a.db").write_bytes(b"nothing that SQLite wrote" * 100)
    with pytest.raises(StoreUnavailable, match="not a SQLite database"):
        await SqliteStore(folder / "a.db").start()


async def test_a_damaged_file_is_unavailable(folder: Path) -> None:
    async with started(SqliteStore(folder / "a.db")) as store:
        for n in range(50):
            await added(store, f"s-{n}", metadata={"long": "x" * 5000})
    content = bytearray((folder / "a.db").read_bytes())
    content[200_000:300_000] = b"\xff" * 100_000
    (folder / "a.db").write_bytes(content)
    async with started(SqliteStore(folder / "a.db")) as store:
        results = await asyncio.gather(*(store.get(f"s-{n}") for n in range(50)), return_exceptions=True)
    failed = {str(result) for result in results if isinstance(result, Exception)}
    assert failed == {"the database file is damaged", "a stored session cannot be read by this release"}


async def test_one_unreadable_session_keeps_no_other_from_its_work(folder: Path) -> None:
    async with started(SqliteStore(folder / "a.db")) as store:
        for n in range(3):
            await added(store, f"s-{n}", now=NOW + n)
        spoil = "UPDATE tulbur_sessions SET document = x'7b7d' WHERE id = 's-1'"
        await store._write(lambda c: c.exec_driver_sql(spoil))
        claimed = await store.claim_due(NOW * 2, "w", 10, 30)
        assert [one.id for one in claimed] == ["s-0", "s-2"]
        with pytest.raises(StoreUnavailable, match="cannot be read"):
            await store.get("s-1")


async def test_one_unreadable_session_keeps_no_other_from_being_blanked(folder: Path) -> None:
    async with started(SqliteStore(folder / "a.db")) as store:
        for n in range(3):
            await paid(store, f"s-{n}", now=NOW + n)
        await delivered(store)
        spoil = "UPDATE tulbur_sessions SET document = x'7b7d' WHERE id = 's-1'"
        await store._write(lambda c: c.exec_driver_sql(spoil))
        assert await store.blank(finished_before=NOW * 2, late_before=0, now=NOW * 2, limit=10) == 2


async def test_an_exception_of_a_later_release_is_counted_by_its_name(folder: Path) -> None:
    async with started(SqliteStore(folder / "a.db")) as store:
        await added(store)
        name = "UPDATE tulbur_sessions SET exceptions = ',late,surprised,'"
        await store._write(lambda c: c.exec_driver_sql(name))
        assert (await store.stats(NOW)).by_exception == {"late": 1, "surprised": 1}


# --- lost answers


class Twisted(LossySqliteStore):
    """Executes COMMIT, lets `meanwhile` happen, and loses the answer."""

    meanwhile: Callable[[], None] | None = None

    def _send_commit(self, connection: Connection) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is None:
            super()._send_commit(connection)
            return
        self.lose = True
        try:
            super()._send_commit(connection)
        finally:
            meanwhile()


async def test_a_commit_is_recognised_after_others_have_gone_on(folder: Path) -> None:
    async with started(Twisted(folder / "a.db")) as store, started(SqliteStore(folder / "a.db")) as other:
        assert isinstance(store, Twisted)
        before = await invoiced(store)
        after = answered(before, "pay-1")
        loop = asyncio.get_running_loop()

        async def go_on() -> None:
            stored = await other.get("s-1")
            assert stored
            await won(other, stored, called_back(stored, "pay-2"))

        store.meanwhile = lambda: asyncio.run_coroutine_threadsafe(go_on(), loop).result()
        assert await store.commit(before, after) is Committed.WON
        stored = await other.get("s-1")
        assert stored
        assert stored.version == before.version + 2
        assert (await told(store, "s-1"))[-1] == "callback.received"


class Silent(SqliteStore):
    """Executes every COMMIT, and answers none while it is silent."""

    silent = False
    sent = 0

    def _send_commit(self, connection: Connection) -> None:
        super()._send_commit(connection)
        self.sent += 1
        if self.silent:
            raise OperationalError("COMMIT", None, ConnectionError("the answer was lost"))


async def test_an_outcome_nobody_can_tell_is_unknown(folder: Path) -> None:
    async with started(Silent(folder / "a.db")) as store:
        assert isinstance(store, Silent)
        before = await invoiced(store)
        store.silent, store.sent = True, 0
        with pytest.raises(CommitUnknown):
            await store.commit(before, called_back(before))
        assert store.sent == 4
        with pytest.raises(CommitUnknown):
            await store.tally(NOW, {"cache": 1})
        assert store.sent == 5  # counting twice would be a lie, so it is not sent again
        store.silent = False
        assert (await store.stats(NOW)).loads == {"cache": 1}


async def test_a_lost_answer_and_then_a_lock_is_unknown(folder: Path) -> None:
    async with started(Twisted(folder / "a.db", busy_seconds=0.01)) as store:
        assert isinstance(store, Twisted)
        before = await invoiced(store)
        with closing(sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)) as other:
            store.meanwhile = lambda: other.execute("BEGIN IMMEDIATE") and None
            with pytest.raises(CommitUnknown):
                await store.commit(before, called_back(before))
            other.execute("ROLLBACK")
        assert await store.commit(before, called_back(before)) is Committed.LOST


# --- threads and tasks


async def test_a_mistake_inside_a_transaction_leaves_none_open(folder: Path) -> None:
    async with started(SqliteStore(folder / "a.db")) as store:

        def mistake(connection: Connection) -> None:
            connection.exec_driver_sql("DELETE FROM tulbur_leases")
            raise LookupError("a bug")

        with pytest.raises(LookupError):
            await store._write(mistake)
        assert not await in_writer(store, is_in_transaction)
        with pytest.raises(StoreUnavailable, match="no such table"):
            await store._write(lambda c: c.exec_driver_sql("DELETE FROM tulbur_nothing"))
        await added(store)


async def test_a_cancelled_commit_is_whole_or_not_there(folder: Path) -> None:
    async with started(SqliteStore(folder / "a.db", busy_seconds=20)) as store:
        befores = [await invoiced(store, f"s-{n}") for n in range(8)]
        async with locked(store.path):
            tasks = [
                asyncio.create_task(store.commit(before, answered(before, f"pay-{before.id}"))) for before in befores
            ]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        assert not await in_writer(store, is_in_transaction)
        for before in befores:
            stored = await store.get(before.id)
            assert stored
            assert bool(stored.orders) == (await store.by_payment(f"pay-{before.id}") is not None)
            assert len(await told(store, before.id)) == stored.event_count
        await added(store, "s-x")


async def test_no_more_wait_than_allowed(folder: Path) -> None:
    async with started(SqliteStore(folder / "a.db", busy_seconds=20, most_waiting=3)) as store:
        async with locked(store.path):
            waiting = [asyncio.create_task(store.add(session(f"s-{n}"))) for n in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(StoreUnavailable, match="too many"):
                await store.add(session("s-9"))
            assert await store.get("s-9") is None
        await asyncio.gather(*waiting)
        await store.add(session("s-9"))


async def test_stopping_waits_for_the_work_under_way(folder: Path) -> None:
    store = SqliteStore(folder / "a.db", busy_seconds=20)
    await store.start()
    await store.start()
    async with locked(store.path):
        work = asyncio.create_task(store.add(session()))
        await asyncio.sleep(0)
        stopping = asyncio.create_task(store.stop())
        await asyncio.sleep(0)
        assert not stopping.done()
    await stopping
    await work
    await store.stop()
    with pytest.raises(StoreUnavailable):
        await store.add(session("s-2"))
    async with started(SqliteStore(folder / "a.db")) as again:
        assert await again.get("s-1")
    gc.collect()  # a connection left open would warn, and a warning is an error
    assert not (folder / "a.db-wal").exists()


async def test_a_store_works_in_one_loop_after_another(folder: Path) -> None:
    store = SqliteStore(folder / "a.db")

    async def once(id_: str) -> None:
        async with started(store):
            await added(store, id_)

    for id_ in ("s-1", "s-2"):
        await asyncio.to_thread(asyncio.run, once(id_))
    async with started(store):
        assert await store.get("s-1")
        assert await store.get("s-2")


# --- several processes

PROCESS = """
import asyncio, json, sys
from tulbur.errors import SessionExists
from tulbur.ports import Committed
from tulbur.stores.contracts.samples import answered, session, with_qr
from tulbur.stores.sqlite import SqliteStore

async def main(path, name):
    store = SqliteStore(path)
    await store.start()
    print("ready", flush=True)
    sys.stdin.readline()
    counts = {"added": 0, "exists": 0, "WON": 0, "LOST": 0, "claimed": 0, "published": 0}
    async def one(n):
        new = session(f"s-{n}", scope="a", idempotency_key=f"k-{n}", user_id=name)
        try:
            await store.add(new)
            counts["added"] += 1
        except SessionExists:
            counts["exists"] += 1
        for step in (with_qr, lambda s: answered(s, f"pay-{s.id}")):
            before = await store.get(new.id)
            after = step(before)
            if after is not before:
                counts[(await store.commit(before, after)).name] += 1
        got = await store.publish(5)
        counts["published"] += got
    order = range(60) if name == "a" else range(59, -1, -1)
    for n in range(0, 60, 10):
        await asyncio.gather(*(one(k) for k in order[n : n + 10]))
    counts["claimed"] = len(await store.claim_events(name, 200, 3600))
    got = await store.publish(200)
    counts["published"] += got
    await store.stop()
    print(json.dumps(counts))

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


async def test_two_processes_share_one_file(folder: Path) -> None:
    for n in range(5):
        first, second = await both(folder / f"{n}.db")
        assert first["added"] + second["added"] == 60
        assert first["exists"] + second["exists"] == 60
        assert first["claimed"] + second["claimed"] <= 60
        async with started(SqliteStore(folder / f"{n}.db")) as store:
            versions = [(await stored(store, n)).version for n in range(60)]
            assert first["WON"] + second["WON"] == sum(versions) - 60
            stats = await store.stats(NOW)
            assert stats.orders == 2 * stats.by_status[Status.PAID]
            published = [one.no for after in (0, 200) for one in await store.events(after, 200)]
            assert published == list(range(1, first["published"] + second["published"] + 1))
            assert len(published) == stats.events_undelivered
        if min(first["added"], second["added"]) > 0:
            return
    raise AssertionError("the processes never met")


async def both(path: Path) -> list[dict[str, int]]:
    """What two processes that work on the same sessions from both ends have counted."""
    command = [sys.executable, "-W", "error", "-c", PROCESS, str(path)]
    pipe = subprocess.PIPE
    processes = [await asyncio.create_subprocess_exec(*command, name, stdin=pipe, stdout=pipe) for name in ("a", "b")]
    for process in processes:
        assert process.stdout
        assert await process.stdout.readline() == b"ready\n"
    outputs = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert [process.returncode for process in processes] == [0, 0]
    return [json.loads(output) for output, _ in outputs]


async def stored(store: SqliteStore, n: int) -> Session:
    found = await store.get(f"s-{n}")
    assert found
    return found


async def test_a_session_added_by_another_process_is_refused_here(folder: Path) -> None:
    async with started(SqliteStore(folder / "a.db")) as store, started(SqliteStore(folder / "a.db")) as other:
        await added(store, scope="a", idempotency_key="k")
        with pytest.raises(SessionExists):
            await other.add(session("s-2", scope="a", idempotency_key="k"))


KEYS = {
    "tulbur_orders": ("id", "session_id", "shop_id"),
    "tulbur_invoices": ("number", "provider", "invoice_id"),
    "tulbur_events": ("id", "session_id", "seq"),
}
"""Tables in which another row with the same last two columns, under another key, is refused by the file itself."""


@pytest.mark.parametrize("table", KEYS)
async def test_the_unique_keys_are_the_files_own(tmp_path: Path, table: str) -> None:
    path = tmp_path / "t.db"
    async with started(SqliteStore(path)) as store:
        await paid(store)
    key, *unique = KEYS[table]
    with closing(sqlite3.connect(path)) as raw:
        columns = [row[1] for row in raw.execute(f"PRAGMA table_info({table})")]
        first = dict(zip(columns, raw.execute(f"SELECT * FROM {table} LIMIT 1").fetchone(), strict=True))
        again = {**first, key: 99 if isinstance(first[key], int) else "another"}
        if "no" in again:
            again["no"] = None
        if "sender_invoice_no" in again:
            again["sender_invoice_no"] = "another"
        marks = ", ".join("?" * len(columns))
        with pytest.raises(sqlite3.IntegrityError, match=unique[-1]):
            raw.execute(f"INSERT INTO {table} VALUES ({marks})", [again[name] for name in columns])
