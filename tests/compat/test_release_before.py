"""The release before runs on the schema of this one, and of one that comes after it: its own contract tests say so.

How the releases are chosen and made: `releases.py`. The one before is named at the end of the run.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, text
from tests.compat.conftest import act
from tests.compat.releases import Release

from tulbur.errors import SettingsError
from tulbur.stores import migrate
from tulbur.stores.choosing import migrations
from tulbur.stores.places import place

pytestmark = pytest.mark.xdist_group("releases")

SERVERS = ["postgres", "mariadb", "mongodb"]
EIGHTH = 8
"""Of the contract on servers; `make test-releases` runs all of it."""


@pytest.fixture(autouse=True)
def _not_excluded(before: Release) -> None:
    """A revision may say that the release before cannot use it; then that release has to refuse it, and no more."""
    try:
        migrate.refuse_unusable(migrate.HEAD, before.head)
    except SettingsError:
        pytest.skip(f"{migrate.HEAD} excludes {before.name}, which refuses it: nothing may run there")


@pytest.mark.store("sqlite")
def test_its_contract_holds_on_sqlite(before: Release, template: Path, disk: Path) -> None:
    folder = disk / "contract"
    folder.mkdir()
    assert act(before, "on_sqlite", template, folder) == {}


@pytest.mark.parametrize("every", [EIGHTH, pytest.param(1, marks=pytest.mark.releases)])
@pytest.mark.parametrize("store", SERVERS)
def test_its_contract_holds_on_servers(store: str, every: int, before: Release, fresh: Callable[[str], str]) -> None:
    url = fresh(store)
    found = migrations(url).status(url)
    assert found.current is not None
    assert found.current > found.head
    assert act(before, "on_server", url, every) == {}
    assert migrations(url).status(url) == found


@pytest.mark.store("sqlite")
def test_a_schema_it_cannot_live_with_is_found_out(before: Release, template: Path, disk: Path) -> None:
    narrowed, folder = disk / "narrowed.db", disk / "narrowed"
    folder.mkdir()
    shutil.copy(template, narrowed)
    one_order = text("CREATE UNIQUE INDEX tulbur_one_order ON tulbur_orders (session_id)")
    place(narrowed).locked(lambda connection: connection.execute(one_order), 5)
    failed = act(before, "on_sqlite", narrowed, folder)
    assert "test_of_many_settlings_at_once_one_makes_the_orders" in failed


@pytest.mark.store("sqlite")
def test_the_schema_it_ran_on_is_another(template: Path) -> None:
    def work(connection: Connection) -> tuple[set[str], set[str]]:
        tables = inspect(connection)
        return set(tables.get_table_names()), {one["name"] for one in tables.get_columns("tulbur_sessions")}

    tables, columns = place(template).read(work, 5)
    assert "tulbur_gifts" in tables
    assert "gift" in columns
