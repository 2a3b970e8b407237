"""Schema commands: which database, what was done, where the backup lies."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from tulbur.errors import SettingsError
from tulbur.settings import Settings, sqlite_path


def database_name(settings: Settings) -> str:
    """What a person types to confirm: the database's name, or that of SQLite's file."""
    from tulbur.stores.choosing import migrations  # noqa: PLC0415 - slow to import

    return migrations(settings.database_url).name


def require_database(settings: Settings) -> None:
    """Return when there is a database to look at; a SQLite file that is only named would be made by opening it.

    Raises:
        SettingsError: there is none.
    """
    path = sqlite_path(settings.database_url)
    if path is not None and not path.exists():
        raise SettingsError(f"DATABASE_URL: there is no database at {path}; correct it, or run: tulbur migrate.")


def run(settings: Settings, action: str) -> Mapping[str, object]:
    """Migrate "up" or "down", or tell the "status"; `down` writes a backup first and names it.

    Raises:
        SettingsError: DATABASE_URL names no database of a supported kind.
        StoreUnavailable: the database does not answer.
    """
    from tulbur.stores.choosing import migrations  # noqa: PLC0415 - slow to import

    url = settings.database_url
    chosen = migrations(url)
    backup = None
    if action == "up":
        chosen.up(url)
    elif action == "down":
        backup = chosen.down(url, confirm=chosen.name, stamp=datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"))
    found = chosen.status(url)
    report: dict[str, object] = {
        "database": chosen.name,
        "current": found.current,
        "head": found.head,
        "pending": list(found.pending),
    }
    return report | ({"backup": str(backup)} if backup else {})
