"""The schema on database servers: the same tables, one migration at a time, a backup that can be put back anywhere."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect
from tests.stores.servers import SERVERS, connected, one, started

from tulbur.errors import Conflict, SettingsError, StoreUnavailable
from tulbur.ports import Unmatched
from tulbur.stores import backup, dialects, migrate, safety
from tulbur.stores.contracts.samples import NOW, added, paid
from tulbur.stores.migrations import env_filter
from tulbur.stores.network import NetworkStore
from tulbur.stores.places import place
from tulbur.stores.schema import VERSION_TABLE, metadata
from tulbur.stores.sqlite import SqliteStore

pytestmark = pytest.mark.anyio

DONE = migrate.SchemaStatus(migrate.HEAD, migrate.HEAD, ())


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest, database: Callable[[str], str]) -> str:
    return database(request.param)


def name(url: str) -> str:
    return urlsplit(url).path[1:]


def read(url: str, work: Callable[[Connection], object]) -> object:
    return place(url).read(work, 5)


def tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


def test_the_migrated_database_is_what_the_tables_say(url: str) -> None:
    migrate.up(url)

    def differences(connection: Connection) -> object:
        options = {"compare_type": True, "version_table": VERSION_TABLE, "include_name": env_filter.is_ours}
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    assert read(url, differences) == []
    assert read(url, tables) == {*metadata.tables, VERSION_TABLE}
    read(url, safety.check)


def test_up_down_and_up_again(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert migrate.status(url) == migrate.SchemaStatus(None, migrate.HEAD, ("0001_min0001", migrate.HEAD))
    with pytest.raises(Conflict, match="no tables of tulbur"):
        migrate.down(url, confirm=name(url), stamp="0")
    assert migrate.up(url) == DONE
    assert migrate.up(url) == DONE
    with pytest.raises(Conflict, match=f"is called {name(url)}"):
        migrate.down(url, confirm="other", stamp="1")
    assert migrate.down(url, confirm=name(url), stamp="1") == tmp_path / f"{name(url)}.1.backup.jsonl"
    assert read(url, tables) == set()
    assert migrate.up(url) == DONE
    with pytest.raises(Conflict, match="another stamp"):
        migrate.down(url, confirm=name(url), stamp="1")
    assert migrate.status(url) == DONE


def test_many_at_once(url: str) -> None:
    code = "import sys; from tulbur.stores import migrate; sys.stdin.read(1); print(migrate.up(sys.argv[1]).current)"
    command, pipe = [sys.executable, "-W", "error", "-c", code, url], subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        outputs = list(pool.map(lambda process: process.communicate("g", timeout=60), processes))
    assert [(output.strip(), error) for output, error in outputs] == [(migrate.HEAD, "")] * 3


def test_a_migration_that_was_cut_short_is_gone_on_with(database: Callable[[str], str]) -> None:
    url = database("mariadb")
    migrate.up(url)
    read(url, one_change("DROP TABLE tulbur_alembic_version"))
    read(url, one_change("DROP TABLE tulbur_leases"))
    read(url, one_change("DROP INDEX tulbur_events_no ON tulbur_events"))
    assert migrate.up(url) == DONE
    assert read(url, tables) == {*metadata.tables, VERSION_TABLE}
    made = place(url).read(lambda c: {index["name"] for index in inspect(c).get_indexes("tulbur_events")}, 5)
    assert made == {index.name for index in metadata.tables["tulbur_events"].indexes}


async def test_a_migration_that_fails_changes_nothing_on_postgresql(database: Callable[[str], str]) -> None:
    url = database("postgres")
    read(url, one_change("CREATE TABLE tulbur_orders (id TEXT)"))
    with pytest.raises(StoreUnavailable, match="DuplicateTableError"):
        migrate.up(url)
    assert read(url, tables) == {"tulbur_orders"}


async def test_a_lock_that_is_held_is_unavailable(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "LOCK_SECONDS", 0.05)
    take = {
        "postgresql": f"SELECT pg_advisory_lock({dialects._MIGRATION_KEY})",
        "mysql": "SELECT GET_LOCK(CONCAT('tulbur-', MD5(DATABASE())), 1)",
    }
    async with connected(url) as other:
        await other.exec_driver_sql(take[urlsplit(url).scheme])
        with pytest.raises(StoreUnavailable, match="another process holds"):
            migrate.up(url)
    assert migrate.up(url) == DONE


def test_the_tables_of_others_are_left_alone(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def theirs(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")

    read(url, theirs)
    migrate.up(url)
    migrate.down(url, confirm=name(url), stamp="1")
    assert read(url, tables) == {"orders", "alembic_version"}


async def at_the_first_revision(url: str) -> None:
    """A database of the release before, with payments in it."""
    migrate.up(url)
    async with started(NetworkStore(url)) as store:
        await paid(store)
    migrate.down(url, confirm=name(url), stamp="first", to="0001_min0001")


WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
    "AND query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'"
)
TRYING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND query LIKE 'SELECT pg%advisory_lock%'"
)
PAID_AGAIN = (
    "INSERT INTO tulbur_payments SELECT provider, 'pay-2', session_id, hinted_session_id, invoice_id, amount, "
    "currency, status, method, wallet, seen_at, due_at, paid_at, ordered, refund_due, refunded, held, raw "
    "FROM tulbur_payments"
)


@asynccontextmanager
async def building(url: str) -> AsyncIterator[tuple[Any, int, asyncio.Task[migrate.SchemaStatus]]]:
    """A migration that builds an index and waits for somebody's snapshot: a connection, its process, and itself."""
    async with connected(url) as slow, connected(url) as other:
        await slow.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await slow.exec_driver_sql("SELECT 1")
        running = asyncio.create_task(asyncio.to_thread(migrate.up, url))
        async with asyncio.timeout(30):
            while not (pids := (await other.exec_driver_sql(WAITING)).scalars().all()):
                assert not running.done(), running
                await asyncio.sleep(0.02)
        try:
            yield other, pids[0], running
        finally:
            await slow.exec_driver_sql("ROLLBACK")
            await asyncio.wait([running])


async def test_payments_are_written_while_an_index_is_built(
    database: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = database("postgres")
    await at_the_first_revision(url)
    async with building(url) as (other, _, running):
        await other.exec_driver_sql("SET lock_timeout = '5s'")
        await other.exec_driver_sql(PAID_AGAIN)
        await other.exec_driver_sql("UPDATE tulbur_events SET lease_until = 1")
        assert not running.done()
    assert await running == DONE
    test_the_migrated_database_is_what_the_tables_say(url)


async def test_an_index_whose_building_was_cut_short_is_built_again(
    database: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = database("postgres")
    await at_the_first_revision(url)
    async with building(url) as (other, pid, running):
        await other.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(StoreUnavailable):
            await running
    assert read(url, one("SELECT count(*) FROM pg_index WHERE NOT indisvalid")) == 1
    assert migrate.status(url).pending == (migrate.HEAD,)
    assert migrate.up(url) == DONE
    assert read(url, one("SELECT count(*) FROM pg_index WHERE NOT indisvalid")) == 0
    test_the_migrated_database_is_what_the_tables_say(url)


async def test_who_waits_to_migrate_is_not_in_the_way_of_an_index(
    database: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = database("postgres")
    await at_the_first_revision(url)
    async with building(url) as (other, _, running):
        second = asyncio.create_task(asyncio.to_thread(place(url).locked, lambda _: "had its turn", 30))
        async with asyncio.timeout(30):
            while not (await other.exec_driver_sql(TRYING)).scalars().all():
                await asyncio.sleep(0.02)
    assert await running == DONE
    assert await second == "had its turn"


def rows(url: str | Path) -> dict[str, list[tuple[object, ...]]]:
    def work(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
        return {
            table.name: [tuple(row) for row in connection.execute(table.select().order_by(*table.primary_key))]
            for table in metadata.sorted_tables
        }

    return place(url).read(work, 5)


async def test_a_backup_can_be_put_back_anywhere(
    url: str, folder: Path, database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(backup, "PAGE", 3)
    migrate.up(url)
    async with started(NetworkStore(url)) as store:
        for n in range(5):
            await paid(store, f"s-{n}", now=NOW + n)
        await added(store, "S-1", description="Цай ☕ \\ \" 'x'", metadata={"nul": None})
        await store.record_unmatched(Unmatched(payment_id="lone", seen_at=NOW, due_at=NOW, raw="х" * 70_000))
        await store.publish(4)
        await store.tally(NOW, {"cache": 1})
    before = rows(url)
    assert len(before["tulbur_sessions"]) == 6
    path = migrate.down(url, confirm=name(url), stamp="1")
    assert json.loads(path.read_text().splitlines()[0]) == {"tulbur": "backup", "schema": migrate.HEAD}
    assert path.stat().st_mode & 0o777 == 0o600
    for target in (url, database("postgres"), database("mariadb"), folder / "a.db"):
        migrate.up(target)
        assert migrate.restore(target, path) == sum(map(len, before.values()))
        assert rows(target) == before
        with pytest.raises(Conflict, match="not empty"):
            migrate.restore(target, path)
    store = SqliteStore(folder / "a.db")
    await store.start()
    assert await store.get("S-1")
    await store.stop()


@pytest.mark.parametrize("content", ["", "{}\n", '{"tulbur": "backup", "schema": "0009_min0001"}\n', "[]\n", "\0\n"])
def test_what_is_no_backup_of_ours_is_refused(folder: Path, content: str) -> None:
    migrate.up(folder / "a.db")
    (folder / "b.jsonl").write_text(content)
    with pytest.raises(SettingsError, match="backup"):
        migrate.restore(folder / "a.db", folder / "b.jsonl")


def test_a_version_of_the_future_is_left_alone(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    migrate.up(url)
    read(url, one_change("UPDATE tulbur_alembic_version SET version_num = '0009_min0003'"))
    with pytest.raises(SettingsError, match="newer release"):
        migrate.up(url)
    with pytest.raises(SettingsError, match="with that release"):
        migrate.down(url, confirm=name(url), stamp="1")
    assert read(url, one("SELECT count(*) FROM tulbur_sessions")) == 0


async def test_a_newer_schema_that_allows_this_release_is_used(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    migrate.up(url)
    read(url, one_change("UPDATE tulbur_alembic_version SET version_num = '0003_min0001'"))
    async with started(NetworkStore(url)) as store:
        await paid(store)
    found = migrate.up(url)
    assert (found.current, found.pending) == ("0003_min0001", ())
    with pytest.raises(SettingsError, match="with that release"):
        migrate.down(url, confirm=name(url), stamp="1")


def one_change(statement: str) -> Callable[[Connection], None]:
    return lambda connection: connection.exec_driver_sql(statement) and None
