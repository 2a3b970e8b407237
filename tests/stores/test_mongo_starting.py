"""MongoDB's schema up and down, and the sentences with which a start is refused."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo import MongoClient
from tests.stores.mongo_world import port_of, raw, started

from testbed.engine import free_port
from testbed.mongodb import MongoDB
from testbed.servers import Server
from tulbur.errors import Conflict, SettingsError, StoreUnavailable
from tulbur.ports import Unmatched
from tulbur.stores import choosing, mongo_migrate
from tulbur.stores.contracts.samples import NOW, added, delivered, paid
from tulbur.stores.migrate import SchemaStatus
from tulbur.stores.mongo_link import database_name
from tulbur.stores.mongo_schema import INDEXES, PAYMENTS, SCHEMA, SESSIONS

pytestmark = [pytest.mark.anyio, pytest.mark.store("mongodb")]

DONE = SchemaStatus(mongo_migrate.HEAD, mongo_migrate.HEAD, ())
QUICK = "serverSelectionTimeoutMS=300"


@pytest.fixture
def url(database: Callable[[str], str]) -> str:
    return database("mongodb")


@pytest.fixture
def database_itself(url: str) -> Iterator[Any]:
    client: MongoClient[Any]
    with MongoClient(url) as client:
        yield client.get_database(database_name(url))


def down(url: str, folder: Path, stamp: str = "1") -> Path:
    return mongo_migrate.down(url, confirm=database_name(url), stamp=stamp, folder=folder)


def test_up_down_and_up_again(url: str, database_itself: Any, tmp_path: Path) -> None:
    assert mongo_migrate.status(url) == SchemaStatus(None, mongo_migrate.HEAD, (mongo_migrate.HEAD,))
    assert mongo_migrate.up(url) == mongo_migrate.up(url) == mongo_migrate.status(url) == DONE
    assert set(database_itself.list_collection_names()) == {*INDEXES, SCHEMA}
    for name, indexes in INDEXES.items():
        made = {index["name"] for index in database_itself[name].list_indexes()}
        assert made == {"_id_", *(index.document["name"] for index in indexes)}
    down(url, tmp_path)
    assert database_itself.list_collection_names() == []
    with pytest.raises(Conflict, match="no collections"):
        down(url, tmp_path, "2")
    assert mongo_migrate.up(url) == DONE


async def test_down_wants_the_name_and_leaves_a_backup(url: str, tmp_path: Path) -> None:
    mongo_migrate.up(url)
    async with started(url) as store:
        await added(store, "kept")
    with pytest.raises(Conflict, match="is called"):
        mongo_migrate.down(url, confirm="another", stamp="1", folder=tmp_path)
    backup = down(url, tmp_path)
    name = database_name(url)
    assert backup == tmp_path / f"{name}.1.backup.tar.gz"
    with tarfile.open(backup) as archive:
        entry = archive.extractfile(f"{name}/{SESSIONS}.bson")
        assert entry
        assert [document["_id"] for document in bson.decode_all(entry.read())] == ["kept"]
    mongo_migrate.up(url)
    with pytest.raises(Conflict, match="another stamp"):
        down(url, tmp_path)
    assert mongo_migrate.status(url) == DONE


def test_a_step_that_was_interrupted_is_taken_again(url: str, database_itself: Any) -> None:
    database_itself.create_collection(SESSIONS)
    database_itself[SESSIONS].create_indexes(list(INDEXES[SESSIONS])[:2])
    assert mongo_migrate.up(url) == DONE


def test_the_collections_of_others_are_left_alone(url: str, database_itself: Any, tmp_path: Path) -> None:
    database_itself["orders"].insert_one({"_id": "theirs"})
    mongo_migrate.up(url)
    down(url, tmp_path)
    assert database_itself.list_collection_names() == ["orders"]


def test_many_at_once(url: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(mongo_migrate.up, [url] * 6)) == [DONE] * 6


def test_two_processes_at_once(url: str) -> None:
    code = (
        "import sys; from tulbur.stores import mongo_migrate as m; sys.stdin.read(1); print(m.up(sys.argv[1]).current)"
    )
    command, pipe = [sys.executable, "-W", "error", "-c", code, url], subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert told == [mongo_migrate.HEAD] * 2


def test_a_lock_that_is_held_is_waited_for_and_ends_by_itself(
    url: str, database_itself: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo_migrate, "LOCK_SECONDS", 0.01)
    assert mongo_migrate._take(database_itself, "another")
    with pytest.raises(StoreUnavailable, match="another process"):
        mongo_migrate.up(url)
    database_itself[SCHEMA].update_one({"_id": "lock"}, [{"$set": {"until": "$$NOW"}}])
    assert mongo_migrate.up(url) == DONE
    assert database_itself[SCHEMA].find_one({"_id": "lock"}) is None


@pytest.mark.parametrize(
    ("revision", "sentence"),
    [
        (None, "run `tulbur migrate`"),
        ("0000_min0000", "older than this release needs"),
        ("0009_min0002", "newer release"),
        ("c0ffee", "newer release"),
    ],
)
async def test_a_schema_that_cannot_be_used_stops_the_start(url: str, revision: str | None, sentence: str) -> None:
    if revision is not None:
        async with raw(url) as database:
            await database[SCHEMA].insert_one({"_id": "revision", "revision": revision})
    with pytest.raises(SettingsError, match=sentence):
        async with started(url):
            pass


async def test_a_newer_schema_that_allows_this_release_is_used(url: str, tmp_path: Path) -> None:
    mongo_migrate.up(url)
    async with raw(url) as database:
        await database[SCHEMA].update_one({"_id": "revision"}, {"$set": {"revision": "0002_min0001"}})
    async with started(url) as store:
        await added(store)
    assert mongo_migrate.up(url).current == "0002_min0001"
    with pytest.raises(SettingsError, match="with that release"):
        down(url, tmp_path)


async def test_what_a_later_release_wrote_stays_or_is_passed_over(url: str) -> None:
    mongo_migrate.up(url)
    async with started(url) as store, raw(url) as database:
        for n in range(3):
            await paid(store, f"s-{n}", now=NOW + n)
        await delivered(store)
        hint = Unmatched(payment_id="lone", seen_at=NOW, due_at=NOW)
        await store.record_unmatched(hint)
        await database[PAYMENTS].update_many({}, {"$set": {"gift": 7}})
        await store.record_unmatched(replace(hint, amount=5, status="PAID"))
        assert (await store.unmatched(9))[0].amount == 5
        assert await database[PAYMENTS].count_documents({"gift": 7}) == 4
        spoiled = {"document": b"{}", "exceptions": ["surprised"]}
        await database[SESSIONS].update_one({"_id": "s-1"}, {"$set": spoiled})
        assert await store.blank(finished_before=NOW * 2, late_before=0, now=NOW * 2, limit=10) == 2
        assert (await store.stats(NOW)).by_exception == {"surprised": 1}


class Standalone(MongoDB):
    """The same server without its replica set."""

    def argv(self, program: Path, folder: Path, port: int) -> list[str]:
        return [part for part in super().argv(program, folder, port) if not part.startswith("--replSet")]


async def test_a_server_without_a_replica_set_is_refused(own_server: Callable[[str], Server]) -> None:
    server = own_server("mongodb")
    server.stop()
    server._engine = Standalone()
    server.start()
    url = f"mongodb://127.0.0.1:{server.port}/shop"
    for start in (lambda: mongo_migrate.up(url), lambda: mongo_migrate.status(url)):
        with pytest.raises(SettingsError, match="--replSet"):
            start()
    with pytest.raises(SettingsError, match="--replSet"):
        async with started(url):
            pass


async def test_a_wrong_password_is_refused_and_not_repeated(url: str) -> None:
    wrong = f"mongodb://shop:very-secret@127.0.0.1:{port_of(url)}/shop?{QUICK}"
    with pytest.raises(SettingsError, match="user name and password") as refused:
        async with started(wrong):
            pass
    with pytest.raises(SettingsError, match="user name and password") as also:
        mongo_migrate.up(wrong)
    assert "very-secret" not in f"{refused.value} {also.value}"


async def test_nobody_there_is_unavailable() -> None:
    nowhere = f"mongodb://shop:very-secret@127.0.0.1:{free_port()}/shop?{QUICK}"
    with pytest.raises(StoreUnavailable, match="does not answer") as refused:
        async with started(nowhere, seconds=0.6):
            pass
    with pytest.raises(StoreUnavailable, match="does not answer"):
        mongo_migrate.status(nowhere)
    assert "very-secret" not in str(refused.value)


@pytest.mark.parametrize("wrong", ["mongodb://", "mongodb://u:very-secret@", "mongodb://h:x/", "mongodb://u:p@w@h/"])
async def test_an_address_that_cannot_be_read_is_refused(wrong: str) -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL is not an address") as refused:
        async with started(wrong):
            pass
    with pytest.raises(SettingsError, match="DATABASE_URL is not an address"):
        mongo_migrate.status(wrong)
    assert "very-secret" not in str(refused.value)


async def test_a_store_that_is_not_started_says_so(url: str) -> None:
    with pytest.raises(StoreUnavailable, match="not started"):
        await choosing.open_store(url).get("s-1")


def test_the_url_names_the_database() -> None:
    assert database_name("mongodb://h:1,g:2/shop%20a?replicaSet=r") == "shop a"
    assert database_name("mongodb+srv://u:p@h") == database_name("mongodb://h/?x=1") == "tulbur"
    assert choosing.migrations("mongodb://h/shop").name == "shop"


@pytest.mark.parametrize("choose", [choosing.open_store, choosing.migrations])
def test_without_the_extra_it_is_one_sentence(choose: Callable[[str], object], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("tulbur.stores.mongo")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("tulbur.stores.mongo", raising=False)
    monkeypatch.delattr("tulbur.stores.mongo_migrate", raising=False)
    monkeypatch.setitem(sys.modules, "pymongo", None)
    with pytest.raises(SettingsError, match=r"tulbur\[mongo\]"):
        choose("mongodb://h/shop")
