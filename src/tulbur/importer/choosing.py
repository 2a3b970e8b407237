"""The reader a URL chooses, with the driver it needs. URLs hold passwords: none is ever told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tulbur.errors import SettingsError
from tulbur.importer.sources import Source


def open_source(url: str) -> Source:
    """The reader for this URL; nothing is opened yet.

    Raises:
        SettingsError: no such kind of database, or its driver is not installed.
    """
    scheme = url.partition("://")[0].partition("+")[0].lower()
    with driver(scheme):
        if scheme == "mongodb":
            from tulbur.importer.mongo import MongoSource  # noqa: PLC0415 - of an extra

            return MongoSource(url)
        if scheme in ("postgresql", "postgres", "mysql", "mariadb"):
            from tulbur.importer.sql import SqlSource  # noqa: PLC0415 - of an extra

            return SqlSource(url)
    raise SettingsError(
        "--from takes mongodb://, mongodb+srv://, postgresql:// or mysql://, as the old shop's .env has it."
    )


@contextmanager
def driver(name: str) -> Iterator[None]:
    """Tell which extra brings a driver that is not there."""
    extra = {"mongodb": "mongo", "postgresql": "postgres", "mariadb": "mysql"}.get(name, name)
    try:
        yield
    except ImportError:
        raise SettingsError(f"this needs a driver that is not installed: pip install 'tulbur[{extra}]'.") from None
