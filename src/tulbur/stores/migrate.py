"""The schema, brought up and down by Alembic under a lock of the database's; and whether this code can use it.

A revision is named `<number>_min<number>`: its own number, and the lowest schema number whose code may still use the
database. So the release before keeps running on a newer schema until a revision says that it cannot.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, inspect, text

from tulbur.errors import Conflict, SchemaUnusable, SettingsError
from tulbur.stores.backup import restore as restored
from tulbur.stores.places import Place, place
from tulbur.stores.schema import VERSION_TABLE

if TYPE_CHECKING:
    from alembic.config import Config

HEAD: Final = "0001_min0001"
"""The newest revision this code knows."""

SCHEMA_MIN: Final = 1
"""The lowest schema number this code can use."""

LOCK_SECONDS: Final = 30.0
"""How long a migration waits for the database's lock."""

_REVISION: Final = re.compile(r"(\d{4})_min(\d{4})")

# Alembic's environment is a set of module globals: one migration at a time in a process.
_one_at_a_time: Final = Lock()


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """Where a database stands; `current` is None where there are no tables of ours, `pending` the oldest first."""

    current: str | None
    head: str
    pending: tuple[str, ...]


def up(url: str | Path) -> SchemaStatus:
    """Bring the schema to the newest revision; two at once wait for each other, and the second has nothing to do.

    Raises:
        SettingsError: a newer release made this schema.
        StoreUnavailable: the database cannot be opened, or its lock was not to be had.
    """
    with _one_at_a_time:
        return place(url).locked(_up, LOCK_SECONDS)


def _up(connection: Connection) -> SchemaStatus:
    from alembic import command  # noqa: PLC0415 - slow to import, and rarely needed

    current = _current(connection)
    if current is None or current in _revisions():
        command.upgrade(_config(connection), "head")
    else:
        refuse_unusable(current)
    return _status(connection)


def down(url: str | Path, *, confirm: str, stamp: str, to: str = "base") -> Path:
    """Take the schema back to revision `to` after a backup; where the backup is.

    A SQLite file is copied beside itself; a server's tables go to the working directory, for `restore`.

    Args:
        url: the database.
        confirm: the database's name, typed by whoever wants this; for SQLite the name of its file.
        stamp: what tells this backup from others, such as the time.
        to: the revision to go back to; "base" removes every table of ours and what is in them.

    Raises:
        Conflict: `confirm` is not the database's name, there is nothing to take down, or that backup exists already.
        SettingsError: the code does not know the schema it is to take back.
        StoreUnavailable: the database cannot be opened, or its lock was not to be had.
    """
    found = place(url)
    if confirm != found.name:
        raise Conflict(f"the database is called {found.name}: confirm with this name")
    with _one_at_a_time:
        return found.locked(lambda c: _down(c, found, stamp, to), LOCK_SECONDS)


def _down(connection: Connection, found: Place, stamp: str, to: str) -> Path:
    from alembic import command  # noqa: PLC0415 - slow to import, and rarely needed

    current = _current(connection)
    if current is None:
        raise Conflict(f"there are no tables of tulbur in {found.name}")
    if current not in _revisions():
        raise SettingsError("a newer release of tulbur made this schema: take it down with that release")
    backup = found.back_up(connection, stamp, current)
    command.downgrade(_config(connection), to)
    if to == "base":
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {VERSION_TABLE}")
    return backup


def restore(url: str | Path, backup: Path) -> int:
    """Put a backup that `down` made of a server's database into one that was migrated and is empty; the rows put back.

    Raises:
        Conflict: there are rows already.
        SettingsError: this is no such backup, or one of another schema.
        StoreUnavailable: the database cannot be opened, or its lock was not to be had.
    """
    with _one_at_a_time:
        return place(url).locked(lambda c: restored(c, backup, _current(c)), LOCK_SECONDS)


def status(url: str | Path) -> SchemaStatus:
    """Which revision the database has, and which are still to come."""
    found = place(url)
    if not found.exists():
        return SchemaStatus(None, HEAD, _revisions())
    return found.read(_status, LOCK_SECONDS)


def is_empty(connection: Connection) -> bool:
    """Whether there is no table of ours; other tables are not our business."""
    return not any(name.startswith("tulbur_") for name in inspect(connection).get_table_names())


def has_tables(url: str | Path) -> bool:
    """Whether there is a table of ours in this database, which exists."""
    return not place(url).read(is_empty, LOCK_SECONDS)


def check(connection: Connection) -> None:
    """Return when this code can use the schema.

    Raises:
        SchemaUnusable: the schema is too old, or made by a newer release that excludes this one.
    """
    current = _current(connection)
    if current is None:
        raise SchemaUnusable("the database has no tables of this release yet: run `tulbur migrate`")
    refuse_unusable(current)


def refuse_unusable(current: str, head: str = HEAD, oldest: int = SCHEMA_MIN) -> None:
    """Return when code whose newest revision is `head` can use a schema at revision `current`.

    Raises:
        SchemaUnusable: it is too old, or made by a newer release that excludes this one.
    """
    if current == head:
        return
    parts = _REVISION.fullmatch(current)
    if parts is None or int(parts[2]) > int(head[:4]):
        raise SchemaUnusable("a newer release of tulbur made this database's schema: run that release, or a newer one")
    if int(parts[1]) < oldest:
        raise SchemaUnusable("the database's schema is older than this release needs: run `tulbur migrate`")


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a constant


def _status(connection: Connection) -> SchemaStatus:
    current = _current(connection)
    known = _revisions()
    done = known.index(current) + 1 if current in known else len(known)
    return SchemaStatus(current, HEAD, known if current is None else known[done:])


def _revisions() -> tuple[str, ...]:
    """Every revision of this code, the oldest first."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - slow to import, and rarely needed

    scripts = ScriptDirectory.from_config(_config(None))
    return tuple(script.revision for script in scripts.walk_revisions())[::-1]


def _config(connection: Connection | None) -> Config:
    from alembic.config import Config  # noqa: PLC0415 - slow to import, and rarely needed

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
