"""Which store, and which way to change its schema, a DATABASE_URL means; a driver is imported when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tulbur.errors import SettingsError
from tulbur.ports import Store
from tulbur.stores.evidence import Evidence
from tulbur.stores.migrate import SchemaStatus

SQL_SERVERS: Final = frozenset({"postgresql", "postgres", "mysql", "mariadb"})
MONGO: Final = frozenset({"mongodb", "mongodb+srv"})


class _Down(Protocol):
    def __call__(self, url: str, *, confirm: str, stamp: str) -> Path: ...


@dataclass(frozen=True, slots=True)
class Migrations:
    """How a database's schema goes up and down, and what the database is called."""

    name: str
    up: Callable[[str], SchemaStatus]
    down: _Down
    status: Callable[[str], SchemaStatus]


def open_store(url: str, *, seconds: float | None = None) -> Store:
    """The store; nothing is opened yet. `seconds`: how long a server may take for one call, where nobody can wait long.

    Raises:
        SettingsError: no store of this release speaks that URL, or its driver is not installed.
    """
    scheme = _scheme(url)
    if scheme == "sqlite":
        from tulbur.stores.sqlite import SqliteStore  # noqa: PLC0415 - for those who use it

        return SqliteStore(url)
    if scheme in SQL_SERVERS:
        from tulbur.stores.network import NetworkStore  # noqa: PLC0415 - for those who use it

        return NetworkStore(url, answer_seconds=seconds) if seconds else NetworkStore(url)
    try:
        from tulbur.stores.mongo import MongoStore  # noqa: PLC0415 - for those who use it
    except ModuleNotFoundError as missing:
        raise _without_pymongo() from missing
    return MongoStore(url, seconds=seconds) if seconds else MongoStore(url)


def migrations(url: str) -> Migrations:
    """The same for its schema.

    Raises:
        SettingsError: no store of this release speaks that URL, or its driver is not installed.
    """
    if _scheme(url) not in MONGO:
        from tulbur.stores import migrate  # noqa: PLC0415 - for those who use it
        from tulbur.stores.places import place  # noqa: PLC0415 - for those who use it

        return Migrations(place(url).name, migrate.up, migrate.down, migrate.status)
    try:
        from tulbur.stores import mongo_migrate  # noqa: PLC0415 - for those who use it
        from tulbur.stores.mongo_link import database_name  # noqa: PLC0415 - for those who use it
    except ModuleNotFoundError as missing:
        raise _without_pymongo() from missing
    return Migrations(database_name(url), mongo_migrate.up, mongo_migrate.down, mongo_migrate.status)


def evidence(url: str, name: str, owner: str) -> Evidence:
    """What the database shows of a lease that was just taken, and of itself; the lease is gone then.

    Raises:
        SettingsError: DATABASE_URL cannot be used.
        StoreUnavailable: the database does not answer, or refuses.
    """
    if _scheme(url) not in MONGO:
        from tulbur.stores.evidence import look  # noqa: PLC0415 - beside the other one

        return look(url, name, owner)
    from tulbur.stores import mongo_evidence  # noqa: PLC0415 - for those who use it

    return mongo_evidence.look(url, name, owner)


def _scheme(url: str) -> str:
    scheme = url.partition("://")[0]
    if scheme == "sqlite" or scheme in SQL_SERVERS or scheme in MONGO:
        return scheme
    raise SettingsError(
        f"DATABASE_URL names {scheme if '://' in url else 'something'}, which is not supported by this release: use "
        "sqlite:///tulbur.db, or postgresql://, mysql:// or mongodb:// with user:password@host/database."
    )


def _without_pymongo() -> SettingsError:
    return SettingsError('DATABASE_URL names MongoDB, whose driver is not installed: pip install "tulbur[mongo]".')
