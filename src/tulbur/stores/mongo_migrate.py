"""MongoDB's schema, brought up and down in ordered steps that may be repeated; and whether this code can use it.

Revisions are named like the SQL ones: `<number>_min<number>`, the second being the lowest schema number whose code may
still use the database. A step that was interrupted is simply taken again.
"""

from __future__ import annotations

import secrets
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final, TypeAlias

import bson
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern

from tulbur.errors import Conflict, SchemaUnusable, SettingsError, StoreUnavailable
from tulbur.stores.migrate import SchemaStatus, refuse_unusable
from tulbur.stores.mongo_documents import Document
from tulbur.stores.mongo_errors import refused_start, translated
from tulbur.stores.mongo_link import MAJORITY, Work, check_server, client_options, database_name
from tulbur.stores.mongo_schema import INDEXES, SCHEMA

SCHEMA_MIN: Final = 1
"""The lowest schema number this code can use."""

LOCK_SECONDS: Final = 30.0
"""How long a migration waits for another one."""

LOCK_ENDS_SECONDS: Final = 600.0
"""After this time the lock of a migration that was killed counts no more; its steps may be repeated."""

PAUSE_SECONDS: Final = 0.05

_Db: TypeAlias = Database[Document]


@dataclass(frozen=True, slots=True)
class Step:
    """From the revision before to this one and back; both may be run again."""

    revision: str
    up: Callable[[_Db], None]
    down: Callable[[_Db], None]


def _first(database: _Db) -> None:
    there = set(database.list_collection_names())
    for name, indexes in INDEXES.items():
        # Made here: before MongoDB 4.4, and behind some proxies still, a transaction cannot make a collection.
        if name not in there:
            database.create_collection(name)
        if indexes:
            database[name].create_indexes(list(indexes))


def _before_first(database: _Db) -> None:
    for name in INDEXES:
        database.drop_collection(name)


STEPS: Final = (Step("0001_min0001", _first, _before_first),)
HEAD: Final = STEPS[-1].revision


def up(url: str) -> SchemaStatus:
    """Bring the schema to the newest revision; two at once wait for each other, and the second has nothing to do.

    Raises:
        SettingsError: a newer release made this schema, or DATABASE_URL is wrong.
        StoreUnavailable: the server does not answer, or the lock was not to be had.
    """
    with opened(url) as database, _locked(database):
        current = _current(database)
        if current is not None and current not in _revisions():
            refuse_unusable(current, HEAD, SCHEMA_MIN)
            return _status(database)
        for step in STEPS[_done(current) :]:
            step.up(database)
            _set(database, step.revision)
        return _status(database)


def down(url: str, *, confirm: str, stamp: str, folder: Path | None = None) -> Path:
    """Remove every collection of ours, after a backup in `folder` (the working directory); where the backup is.

    Raises:
        Conflict: `confirm` is not the database's name, there is nothing to take down, or that backup exists already.
        SettingsError: a newer release made this schema, or DATABASE_URL is wrong.
        StoreUnavailable: the server does not answer, or the lock was not to be had.
    """
    name = database_name(url)
    if confirm != name:
        raise Conflict(f"the database is called {name}: confirm with this name")
    with opened(url) as database, _locked(database):
        current = _current(database)
        if current is None:
            raise Conflict(f"there are no collections of tulbur in {name}")
        if current not in _revisions():
            raise SettingsError("a newer release of tulbur made this schema: take it down with that release")
        backup = _backup(database, (folder or Path.cwd()) / f"{name}.{stamp}.backup.tar.gz")
        for step in reversed(STEPS):
            step.down(database)
        database.drop_collection(SCHEMA)
    return backup


def status(url: str) -> SchemaStatus:
    """Which revision the database has, and which are still to come."""
    with opened(url) as database:
        return _status(database)


async def check(work: Work) -> None:
    """Return when this code can use the schema.

    Raises:
        SchemaUnusable: the schema is too old, or made by a newer release that excludes this one.
    """
    found = await work[SCHEMA].find_one({"_id": "revision"})
    if found is None:
        raise SchemaUnusable("the database has no collections of this release yet: run `tulbur migrate`")
    refuse_unusable(str(found["revision"]), HEAD, SCHEMA_MIN)


def _revisions() -> tuple[str, ...]:
    return tuple(step.revision for step in STEPS)


def _done(current: str | None) -> int:
    return _revisions().index(current) + 1 if current is not None else 0


def _current(database: _Db) -> str | None:
    found = database[SCHEMA].find_one({"_id": "revision"})
    return str(found["revision"]) if found else None


def _set(database: _Db, revision: str) -> None:
    database[SCHEMA].update_one({"_id": "revision"}, {"$set": {"revision": revision}}, upsert=True)


def _status(database: _Db) -> SchemaStatus:
    current = _current(database)
    known = _revisions()
    return SchemaStatus(current, HEAD, known[_done(current) :] if current is None or current in known else ())


@contextmanager
def opened(url: str) -> Iterator[_Db]:
    """The database of a URL.

    Raises:
        SettingsError: DATABASE_URL is wrong.
        StoreUnavailable: the server does not answer.
    """
    try:
        client: MongoClient[Document] = MongoClient(url, **client_options(url))
    except (PyMongoError, ValueError) as error:
        raise refused_start(error) from error
    with client:
        try:
            check_server(client.admin.command("hello"))
        except PyMongoError as error:
            raise refused_start(error) from error
        try:
            yield client.get_database(database_name(url), read_concern=ReadConcern("majority"), write_concern=MAJORITY)
        except PyMongoError as error:
            raise translated(error) from error


@contextmanager
def _locked(database: _Db) -> Iterator[None]:
    """One migration at a time; a lock whose owner was killed ends by itself."""
    owner = secrets.token_hex(8)
    until = time.monotonic() + LOCK_SECONDS
    while not _take(database, owner):
        if time.monotonic() >= until:
            raise StoreUnavailable("another process changes this database's schema: wait for it, then try again")
        time.sleep(PAUSE_SECONDS)
    try:
        yield
    finally:
        database[SCHEMA].delete_one({"_id": "lock", "owner": owner})


def _take(database: _Db, owner: str) -> bool:
    now = database.client.admin.command("hello")["localTime"]
    database[SCHEMA].delete_one({"_id": "lock", "until": {"$lte": now}})
    lock = {"owner": owner, "until": now + timedelta(seconds=LOCK_ENDS_SECONDS)}
    try:
        done = database[SCHEMA].update_one({"_id": "lock"}, {"$setOnInsert": lock}, upsert=True)
    except DuplicateKeyError:
        return False
    return done.upserted_id is not None


def _backup(database: _Db, path: Path) -> Path:
    """Everything of ours as it is at one moment, in the layout that `mongorestore` reads."""
    try:
        target = path.open("xb")
    except FileExistsError:
        raise Conflict(f"there is a backup {path.name} already: choose another stamp") from None
    with (
        target,
        tarfile.open(fileobj=target, mode="w:gz") as archive,
        database.client.start_session(snapshot=True) as session,
        TemporaryFile() as dump,
    ):
        for name in (*INDEXES, SCHEMA):
            dump.seek(0)
            dump.truncate()
            for document in database.get_collection(name, read_concern=ReadConcern()).find(session=session):
                dump.write(bson.encode(document))
            entry = tarfile.TarInfo(f"{database.name}/{name}.bson")
            entry.size = dump.tell()
            dump.seek(0)
            archive.addfile(entry, dump)
    return path
