"""Schema commands: which database, what was done, where the backup lies."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from tulbur.settings import Settings


def database_name(settings: Settings) -> str:
    """What a person types to confirm: the database's name, or that of SQLite's file."""
    from tulbur.stores.places import place  # noqa: PLC0415 - slow to import

    return place(settings.database_url).name


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
