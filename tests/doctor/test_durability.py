"""What a database may lose although it answers; two clocks; and who logs in to QPay without it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiohttp import web
from tests.doctor.world import SECRET, lines, of, said, site
from tests.stores.servers import connected, one

from testbed.servers import Server
from tulbur.commands.doctor import database as examined
from tulbur.stores import evidence, mongo_evidence
from tulbur.stores.choosing import migrations

pytestmark = pytest.mark.anyio


# --- what it may lose


@pytest.mark.parametrize(
    ("server", "weak", "strong"),
    [
        ("postgres", "fsync off", ["ALTER SYSTEM SET fsync = on", "SELECT pg_reload_conf()"]),
        ("mariadb", "innodb_flush_log_at_trx_commit is 2", ["SET GLOBAL innodb_flush_log_at_trx_commit = 1"]),
    ],
)
async def test_a_server_that_forgets_commits(
    own_server: Callable[[str], Server], server: str, weak: str, strong: list[str]
) -> None:
    url = own_server(server).url()
    migrations(url).up(url)
    # Servers of the tests are started so, for speed.
    found = await of("durability", database_url=url)
    if "fsync" in weak:
        assert await fsync_of(url) == "off"
    assert (found.ok, weak in found.detail) == (False, True)
    if server == "mariadb":
        async with connected(url) as connection:
            for statement in strong:
                await connection.exec_driver_sql(statement)
        assert (await of("durability", database_url=url)).ok


async def fsync_of(url: str) -> str:
    async with connected(url) as connection:
        return str(await connection.run_sync(one("SHOW fsync")))


async def test_a_postgresql_without_weak_spots(migrated: Callable[[str], str]) -> None:
    async with connected(migrated("postgres")) as connection:
        found = await connection.run_sync(lambda c: list(evidence._of_postgresql(c)))
    assert [weak.detail.partition(":")[0] for weak in found] == ["PostgreSQL runs with fsync off"]


async def test_write_concerns_in_the_address_have_no_effect(migrated: Callable[[str], str]) -> None:
    found = await of("durability", database_url=migrated("mongodb") + "&w=1&journal=false")
    assert found.ok
    assert found.detail == "journal, w in DATABASE_URL has no effect: tulbur writes to a majority, always"
    assert found.remedy


def test_a_mongodb_that_acknowledges_before_its_journal() -> None:
    [weak] = mongo_evidence.weaknesses("mongodb://h/d?w=majority", {"writeConcernMajorityJournalDefault": False})
    assert weak.serious
    assert "before they are in its journal" in weak.detail
    assert not list(mongo_evidence.weaknesses("mongodb://h/d", {"writeConcernMajorityJournalDefault": True}))


@pytest.mark.parametrize(("apart", "ok"), [(0.4, True), (-29, True), (45, False), (-3600, False)])
def test_two_clocks(apart: float, ok: bool) -> None:
    found = examined._clock(apart)
    assert (found.ok, bool(found.remedy)) == (ok, not ok)
    assert ok or found.detail == f"ours is {apart:+.0f} s from the database's"


# --- the login at QPay, which needs it


async def test_nobody_logs_in_without_the_database() -> None:
    """It would end the token that a running service holds in memory."""
    asked = []

    async def not_here(request: web.Request) -> web.Response:
        asked.append(f"{request.method} {request.path}")
        return web.Response(status=404)

    async with site(not_here) as port:
        found = await said(
            database_url="postgresql://shop@127.0.0.1:1/shop",
            public_url="http://127.0.0.1:1",
            qpay_base_url=f"http://127.0.0.1:{port}",
            qpay_username="u",
            qpay_password=SECRET,
            qpay_invoice_code="c",
            tulbur_secret_keys="k" * 40,
        )
    [login] = lines(found, "qpay login")
    assert login.ok
    assert "not tried" in login.detail
    assert asked == ["HEAD /"]
