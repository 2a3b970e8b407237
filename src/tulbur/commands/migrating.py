"""Schema commands: which database, what was done, where the backup lies."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from tulbur.errors import SettingsError
from tulbur.settings import Settings, sqlite_path


def database_name(settings: Settings) -> str:
    """What a person types to confirm: the file's name."""
    return sqlite_path(settings.database_url).name


def require_database(settings: Settings) -> None:
    """Return when there is a database to look at; a SQLite file that is only named would be made by opening it.

    Raises:
        SettingsError: there is none.
    """
    path = sqlite_path(settings.database_url).absolute()
    if not path.exists():
        raise SettingsError(f"DATABASE_URL: there is no database at {path}; correct it, or run: tulbur migrate.")


def run(settings: Settings, action: str) -> Mapping[str, object]:
    """Migrate "up" or "down", or tell the "status"; `down` writes a backup first and names it.

    Raises:
        SettingsError: DATABASE_URL names no database of a supported kind.
        StoreUnavailable: the database does not answer.
    """
    from tulbur.stores import migrate  # noqa: PLC0415 - Alembic is slow to import

    url = settings.database_url
    backup = None
    if action == "up":
        migrate.up(url)
    elif action == "down":
        backup = migrate.down(url, confirm=database_name(settings), stamp=datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"))
    found = migrate.status(url)
    report: dict[str, object] = {
        "database": database_name(settings),
        "current": found.current,
        "head": found.head,
        "pending": list(found.pending),
    }
    return report | ({"backup": str(backup)} if backup else {})
