"""One session in the hands of two releases: each goes on where the other stopped, and nothing of it is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from sqlalchemy import Connection, text
from tests.compat.conftest import act
from tests.compat.releases import Release
from tests.core.test_growing import objects

from tulbur.core import codec
from tulbur.core.later import ADDITIONS
from tulbur.stores.mongo_link import database_name
from tulbur.stores.places import place

pytestmark = pytest.mark.xdist_group("releases")

SQLITE = pytest.param("sqlite", marks=pytest.mark.store("sqlite"))
MORE = [pytest.param(name, marks=pytest.mark.releases) for name in ("mariadb", "mongodb")]
STORES = [SQLITE, pytest.param("postgres", marks=pytest.mark.releases), *MORE]
COLUMN = 7


def column(url: str, value: int | None = None) -> int | None:
    """The column that only the release after has, once it was set to a value."""
    if url.startswith("mongodb"):
        client: MongoClient[Any]
        with MongoClient(url) as client:
            sessions = client.get_database(database_name(url))["tulbur_sessions"]
            if value is not None:
                sessions.update_one({"_id": "s-1"}, {"$set": {"gift": value}})
            return sessions.find_one({"_id": "s-1"})["gift"]

    def work(connection: Connection) -> int | None:
        if value is not None:
            connection.execute(text("UPDATE tulbur_sessions SET gift = :value WHERE id = 's-1'"), {"value": value})
        return connection.execute(text("SELECT gift FROM tulbur_sessions WHERE id = 's-1'")).scalar()

    return place(url).locked(work, 5)


def gifts(document: str) -> Iterator[tuple[str, bool]]:
    """Every object of a session that can hold a gift, and whether it holds one."""
    return ((level, one.get("gift") == "wrapped") for level, one in objects(json.loads(document)))


@pytest.fixture(params=["this release", "the release before"])
def older(request: pytest.FixtureRequest, this: Release, before: Release) -> Release:
    if request.param == "this release":
        return this
    if not before.grows:
        pytest.skip(f"{before.name} was made before decision 0008: it reads no document that has grown")
    return before


@pytest.mark.parametrize("store", [SQLITE, "postgres", *MORE])
def test_an_older_release_loses_nothing_of_a_later_one(
    store: str, older: Release, after: Release, fresh: Callable[[str], str]
) -> None:
    url = fresh(store)
    written = dict(gifts(act(after, "write", url, "s-1")))
    assert set(written.values()) == {True}
    assert len(written) == len(codec._NESTED) - 1, "there is no order yet"
    column(url, COLUMN)
    document = act(older, "go_on", url, "s-1")
    assert json.loads(document)["additions"] == ADDITIONS + 1
    assert column(url) == COLUMN
    assert act(after, "read", url, "s-1") == document
    # What the older release made has none; everything else that was there has its own.
    made = {("hints", False), ("payments", False), ("looks", False), ("orders", False)}
    held = set(gifts(document))
    assert {(level, True) for level in ("order items", "payments", "hints")} <= held
    assert {one for one in held if not one[1]} <= made
    assert {level for level in written if (level, True) not in held} <= {"looks"}


@pytest.mark.parametrize("store", STORES)
def test_a_later_release_goes_on_with_what_an_older_one_wrote(
    store: str, older: Release, after: Release, fresh: Callable[[str], str]
) -> None:
    url = fresh(store)
    act(older, "write", url, "s-1")
    document = act(after, "go_on", url, "s-1")
    assert act(older, "read", url, "s-1") == document


@pytest.mark.parametrize("store", STORES)
def test_this_release_goes_on_with_what_the_release_before_wrote(
    store: str, before: Release, this: Release, fresh: Callable[[str], str]
) -> None:
    url = fresh(store)
    act(before, "write", url, "s-1")
    document = act(this, "go_on", url, "s-1")
    if before.grows or not ADDITIONS:
        assert act(before, "read", url, "s-1") == document
