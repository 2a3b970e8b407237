"""The schema's way up and down: what Alembic makes is what `schema.py` says, and nobody is surprised by it."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from tulbur.errors import Conflict, SettingsError, StoreUnavailable
from tulbur.ports import Unmatched
from tulbur.stores import migrate
from tulbur.stores.contracts.samples import added
from tulbur.stores.schema import VERSION_TABLE, metadata
from tulbur.stores.sqlite import SqliteStore
from tulbur.stores.sqlite_file import connect

TABLES = {
    "tulbur_sessions",
    "tulbur_invoices",
    "tulbur_payments",
    "tulbur_orders",
    "tulbur_events",
    "tulbur_tokens",
    "tulbur_leases",
    "tulbur_tallies",
    "tulbur_sweeps",
}


@contextmanager
def opened(path: Path) -> Iterator[Connection]:
    with closing(connect(path, 1)) as connection:
        yield connection


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as raw:
        return {name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute(statement)


def start(path: Path) -> None:
    async def run() -> None:
        store = SqliteStore(path)
        await store.start()
        await store.stop()

    asyncio.run(run())


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "a%20b.db"


def test_the_migrated_database_is_what_the_tables_say(path: Path) -> None:
    migrate.up(path)
    with opened(path) as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "version_table": VERSION_TABLE}
        )
        assert compare_metadata(context, metadata) == []
    assert tables(path) == {*TABLES, VERSION_TABLE} == {*metadata.tables, VERSION_TABLE}


def test_the_newest_revision_is_the_one_the_code_names() -> None:
    scripts = ScriptDirectory(str(Path(migrate.__file__).parent / "migrations"))
    assert scripts.get_heads() == [migrate.HEAD]
    numbers = [migrate._REVISION.fullmatch(script.revision) for script in scripts.walk_revisions()]
    assert all(numbers)
    assert [int(found[1]) for found in numbers if found] == list(range(len(numbers), 0, -1))


def test_up_down_and_up_again(path: Path) -> None:
    url = f"sqlite:///{quote(str(path))}"
    assert migrate.status(path) == migrate.SchemaStatus(None, migrate.HEAD, ("0001_min0001", "0002_min0001"))
    assert not path.exists()
    done = migrate.SchemaStatus(migrate.HEAD, migrate.HEAD, ())
    assert migrate.up(url) == done
    assert migrate.up(url) == done
    assert migrate.status(url) == done
    migrate.down(path, confirm=path.name, stamp="1")
    assert tables(path) == set()
    assert migrate.status(path).current is None
    assert migrate.up(path) == done


def test_down_wants_the_name_and_leaves_a_backup(path: Path) -> None:
    start(path)

    async def fill() -> None:
        store = SqliteStore(path)
        await store.start()
        await added(store, "kept")
        await store.stop()

    asyncio.run(fill())
    with pytest.raises(Conflict, match=r"is called a%20b\.db"):
        migrate.down(path, confirm="b.db", stamp="1")
    assert tables(path) >= TABLES
    backup = migrate.down(path, confirm="a%20b.db", stamp="20260101T000000")
    assert backup.name == "a%20b.db.20260101T000000.backup"
    assert backup.parent == path.parent
    with closing(sqlite3.connect(backup)) as raw:
        assert raw.execute("SELECT id FROM tulbur_sessions").fetchall() == [("kept",)]
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    migrate.up(path)
    with pytest.raises(Conflict, match="another stamp"):
        migrate.down(path, confirm="a%20b.db", stamp="20260101T000000")
    assert tables(path) >= TABLES


def test_a_backup_can_be_used_in_place_of_the_database(path: Path) -> None:
    start(path)
    backup = migrate.down(path, confirm=path.name, stamp="1")
    backup.replace(path)
    start(path)
    assert migrate.status(path).current == migrate.HEAD


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    execute(path, "CREATE TABLE tulbur_orders (id TEXT)")
    with pytest.raises(StoreUnavailable, match="already exists"):
        migrate.up(path)
    assert tables(path) == {"tulbur_orders"}


def test_what_the_first_release_stored_goes_through_the_second_revision_and_back(path: Path) -> None:
    migrate.up(path)
    migrate.down(path, confirm=path.name, stamp="1", to="0001_min0001")
    assert migrate.status(path).current == "0001_min0001"
    assert "tulbur_sweeps" not in tables(path)
    execute(
        path,
        "INSERT INTO tulbur_payments (provider, payment_id, hinted_session_id, invoice_id, currency, status, method,"
        " wallet, seen_at, due_at, ordered, refund_due, refunded, held, raw)"
        " VALUES ('qpay', 'lone', 's-9', '', 'MNT', '', '', '', 5, 6, 0, 0, 0, 0, '')",
    )
    migrate.up(path)

    async def looked() -> list[Unmatched]:
        store = SqliteStore(path)
        await store.start()
        due = await store.unmatched_due(10, 10)
        assert await store.unmatched(10) == due
        await store.stop()
        return due

    assert asyncio.run(looked()) == [Unmatched(payment_id="lone", seen_at=5, due_at=6, hinted_session_id="s-9")]
    migrate.down(path, confirm=path.name, stamp="2", to="0001_min0001")
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT payment_id, due_at FROM tulbur_payments").fetchall() == [("lone", 6)]


def test_many_at_once_in_one_process(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: migrate.up(path), range(8)))
    assert {one.current for one in done} == {migrate.HEAD}


def test_two_processes_at_once(path: Path) -> None:
    code = "import sys; from tulbur.stores import migrate; sys.stdin.read(1); print(migrate.up(sys.argv[1]).current)"
    command, pipe = [sys.executable, "-W", "error", "-c", code, str(path)], subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == [migrate.HEAD] * 2
    assert [process.returncode for process in processes] == [0, 0]


def test_the_tables_of_others_are_left_alone(path: Path) -> None:
    execute(path, "CREATE TABLE orders (id TEXT PRIMARY KEY)")
    execute(path, "CREATE TABLE alembic_version (version_num TEXT)")
    execute(path, "INSERT INTO alembic_version VALUES ('theirs')")
    start(path)
    assert tables(path) == {"orders", "alembic_version", *TABLES, VERSION_TABLE}
    migrate.down(path, confirm=path.name, stamp="1")
    assert tables(path) == {"orders", "alembic_version"}


def test_an_empty_file_is_migrated_by_starting(path: Path) -> None:
    start(path)
    start(path)
    assert migrate.status(path).pending == ()


@pytest.mark.parametrize(
    ("version", "sentence"),
    [
        ("DELETE FROM tulbur_alembic_version", "run `tulbur migrate`"),
        ("DROP TABLE tulbur_alembic_version", "run `tulbur migrate`"),
        ("UPDATE tulbur_alembic_version SET version_num = '0001_min0001'", "older than this release needs"),
        ("UPDATE tulbur_alembic_version SET version_num = '0009_min0003'", "newer release"),
        ("UPDATE tulbur_alembic_version SET version_num = 'c0ffee'", "newer release"),
    ],
)
def test_a_schema_that_cannot_be_used_stops_the_start(path: Path, version: str, sentence: str) -> None:
    start(path)
    execute(path, version)
    with pytest.raises(SettingsError, match=sentence):
        start(path)


def test_a_newer_schema_that_allows_this_release_is_used(path: Path) -> None:
    start(path)
    execute(path, "UPDATE tulbur_alembic_version SET version_num = '0003_min0001'")
    start(path)
    assert migrate.up(path).current == "0003_min0001"
    with pytest.raises(SettingsError, match="with that release"):
        migrate.down(path, confirm=path.name, stamp="1")


def test_a_lock_that_is_held_is_unavailable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate.up(path)
    monkeypatch.setattr(migrate, "LOCK_SECONDS", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="another process"):
            migrate.up(path)
        other.execute("ROLLBACK")
