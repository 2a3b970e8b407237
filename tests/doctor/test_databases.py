"""Each way in which a database cannot be used is its own sentence, on the real servers; nothing is left in them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from asyncpg.exceptions import TargetServerAttributeNotMatched
from pymongo import MongoClient
from tests.doctor.world import SECRET, lines, mute, of, said
from tests.proxy import proxied
from tests.stores.servers import connected, one

from testbed.servers import Server
from tulbur.commands.doctor import database as examined
from tulbur.stores import choosing, dialects, drivers
from tulbur.stores.choosing import migrations, open_store

pytestmark = pytest.mark.anyio

SERVERS = ["postgres", "mariadb", "mongodb"]
SQL = ["postgres", "mariadb"]
SCHEMES = ["postgresql", "mysql", "mongodb"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examined, "ANSWER_SECONDS", 0.7)
    monkeypatch.setattr(drivers, "CONNECT_SECONDS", 0.7)


def netloc(url: str, new: str) -> str:
    return urlsplit(url)._replace(netloc=new).geturl()


# --- what is well


@pytest.mark.parametrize("server", SERVERS)
async def test_what_was_written_is_read_back_and_nothing_is_left(migrated: Callable[[str], str], server: str) -> None:
    url = migrated(server)
    found = {finding.check: finding for finding in await said(database_url=url)}
    assert found["database"].ok
    assert "read back over a new connection" in found["database"].detail
    assert found["schema"].ok
    assert found["database clock"].ok
    assert await rows_left(server, url) == 0


async def rows_left(server: str, url: str) -> int:
    if server == "mongodb":
        with MongoClient[dict[str, Any]](url) as client:
            return client.get_default_database()["tulbur_leases"].count_documents({"_id": {"$regex": "^doctor-"}})
    async with connected(url) as connection:
        return int(await connection.run_sync(one("SELECT count(*) FROM tulbur_leases WHERE name LIKE 'doctor-%%'")))


async def test_a_lease_of_another_connection_only_is_proof(migrated: Callable[[str], str]) -> None:
    for server in SERVERS:
        url = migrated(server)
        assert not migrations(url).status(url).pending
        store = open_store(url)
        await store.start()
        try:
            await store.lease("doctor-a", "me", 60)
            found = [
                await asyncio.to_thread(choosing.evidence, url, "doctor-a", owner) for owner in ("another", "me", "me")
            ]
            assert [one.kept for one in found] == [False, True, False], server
        finally:
            await store.stop()


# --- who does not answer


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("host", "sentence", "remedy"),
    [
        ("nowhere.invalid", "the name nowhere.invalid cannot be looked up", "name service (DNS)"),
        ("127.0.0.1:1", "nothing listens on 127.0.0.1:1 (connection refused)", "start it, or correct host and port"),
    ],
)
async def test_a_host_that_is_not_there(scheme: str, host: str, sentence: str, remedy: str) -> None:
    found = await of("database", database_url=f"{scheme}://shop:{SECRET}@{host}/shop")
    assert not found.ok
    assert sentence in found.detail
    assert remedy in found.remedy
    assert "DATABASE_URL" in found.remedy


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.usefixtures("impatient")
async def test_a_host_that_never_says_a_word(scheme: str) -> None:
    async with mute() as port:
        found = await of("database", database_url=f"{scheme}://shop:{SECRET}@127.0.0.1:{port}/shop")
    assert not found.ok
    assert "it does not answer" in found.detail


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("server", SERVERS)
async def test_a_server_that_falls_silent_in_the_middle(migrated: Callable[[str], str], server: str) -> None:
    url = migrated(server)
    parts = urlsplit(url)
    async with proxied(parts.port or 0) as proxy:
        proxy.hanging = True
        there = netloc(url, parts.netloc.replace(str(parts.port), str(proxy.port)))
        direct = there.replace("?replicaSet=testbed", "?directConnection=true")
        found = await of("database", database_url=direct)
    assert proxy.connections
    assert (found.ok, "it does not answer" in found.detail) == (False, True)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_password_with_a_slash_is_not_taken_for_a_host(scheme: str) -> None:
    found = await of("database", database_url=f"{scheme}://u:12/{SECRET}@127.0.0.1:1/shop")
    assert found.detail == "DATABASE_URL has an @ behind its host"
    assert "12" not in found.detail
    assert "%2F" in found.remedy


async def test_a_cluster_in_the_cloud_whose_name_is_wrong() -> None:
    found = await of("database", database_url=f"mongodb+srv://u:{SECRET}@nowhere.invalid/shop")
    assert "its host name cannot be looked up" in found.detail


# --- who refuses


@pytest.mark.parametrize("server", SQL)
@pytest.mark.parametrize(
    ("change", "sentence", "remedy"),
    [
        (
            lambda url: url.replace("pass-of-the", SECRET),
            "it refuses this user or password",
            "correct them in DATABASE",
        ),
        (lambda url: f"{url}_not", "there is no database of that name", "create it"),
    ],
)
async def test_a_login_or_a_database_that_is_wrong(
    migrated: Callable[[str], str], server: str, change: Callable[[str], str], sentence: str, remedy: str
) -> None:
    found = await of("database", database_url=change(migrated(server)))
    assert (found.ok, sentence in found.detail, remedy in found.remedy) == (False, True, True), found


async def test_mongodb_refuses_a_login(migrated: Callable[[str], str]) -> None:
    url = migrated("mongodb").replace("127.0.0.1", f"shop:{SECRET}@127.0.0.1")
    found = await of("database", database_url=url)
    assert (found.ok, "that MongoDB refuses" in found.detail, "authSource" in found.remedy) == (False, True, True)


@pytest.mark.usefixtures("impatient")
async def test_a_replica_set_of_another_name(migrated: Callable[[str], str]) -> None:
    url = migrated("mongodb").replace("replicaSet=testbed", "replicaSet=other")
    found = await of("database", database_url=url)
    assert (found.ok, "has no primary" in found.detail, "replicaSet" in found.remedy) == (False, True, True)


@pytest.mark.parametrize(("server", "option"), [("postgres", "sslmode=require"), ("mariadb", "ssl_mode=required")])
async def test_a_server_without_the_tls_that_is_asked_for(
    migrated: Callable[[str], str], server: str, option: str
) -> None:
    found = await of("database", database_url=f"{migrated(server)}?{option}")
    assert (found.ok, "TLS" in found.detail, "set TLS up there" in found.remedy) == (False, True, True)


async def test_a_server_that_takes_tls_only(own_server: Callable[[str], Server]) -> None:
    server = own_server("mariadb")
    async with connected(server.url()) as connection:
        await connection.exec_driver_sql("SET GLOBAL require_secure_transport = ON")
    found = await of("database", database_url=server.admin_url)
    # MariaDB calls that a wrong password, MySQL has a number of its own for it.
    assert (found.ok, "ssl_mode=required" in found.remedy) == (False, True)
    assert "with TLS only" in dialects.explained(Exception(3159, "Connections using insecure transport are prohibited"))


@pytest.mark.parametrize("server", SQL)
async def test_a_user_that_may_only_read(database: Callable[[str], str], server: str) -> None:
    url = database(server)
    migrations(url).up(url)
    name, user = urlsplit(url).path[1:], f"reader_{urlsplit(url).path[1:]}"
    make = {
        "postgres": [
            f"CREATE USER {user} PASSWORD '{SECRET}'",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}",
        ],
        "mariadb": [f"CREATE USER {user} IDENTIFIED BY '{SECRET}'", f"GRANT SELECT ON {name}.* TO {user}"],
    }
    end = {"postgres": [f"DROP OWNED BY {user}", f"DROP USER {user}"], "mariadb": [f"DROP USER {user}"]}
    async with connected(url) as connection:
        for statement in make[server]:
            await connection.exec_driver_sql(statement)
        try:
            there = netloc(url, f"{user}:{SECRET}@127.0.0.1:{urlsplit(url).port}")
            found = await of("database", database_url=there)
        finally:
            for statement in end[server]:
                await connection.exec_driver_sql(statement)
    assert (found.ok, "this user may not do that" in found.detail, "grant" in found.remedy) == (False, True, True)


def test_a_standby_alone_is_called_one() -> None:
    error = TargetServerAttributeNotMatched("None of the hosts match the target attribute requirement")
    assert "as a standby is: name the primary" in str(drivers.unreachable(drivers.read("postgresql://h/d"), error))


async def test_a_mariadb_that_is_switched_to_reading(own_server: Callable[[str], Server]) -> None:
    server = own_server("mariadb")
    url = server.url()
    migrations(url).up(url)
    async with connected(url) as connection:
        for statement in (
            f"CREATE USER shop IDENTIFIED BY '{SECRET}'",
            f"GRANT ALL ON {urlsplit(url).path[1:]}.* TO shop",
            "SET GLOBAL read_only = 1",
        ):
            await connection.exec_driver_sql(statement)
    found = await of("database", database_url=netloc(url, f"shop:{SECRET}@127.0.0.1:{server.port}"))
    assert (found.ok, "is read-only" in found.detail, "primary" in found.remedy) == (False, True, True)


async def test_a_database_that_prefers_reading(database: Callable[[str], str]) -> None:
    url = database("postgres")
    migrations(url).up(url)
    async with connected(url) as connection:
        await connection.exec_driver_sql(
            f"ALTER DATABASE {urlsplit(url).path[1:]} SET default_transaction_read_only = on"
        )
    found = await said(database_url=url)
    # A transaction of ours says READ WRITE itself, so this is no obstacle for the service either.
    assert [finding.check for finding in found if finding.check == "database" and finding.ok] == ["database"]


# --- its schema


@pytest.mark.parametrize("server", SERVERS)
async def test_a_schema_that_is_missing_or_of_another_release(database: Callable[[str], str], server: str) -> None:
    url = database(server)
    found = await said(database_url=url)
    assert lines(found, "database")[0].ok
    [schema] = lines(found, "schema")
    assert (schema.ok, schema.remedy) == (False, "run `tulbur migrate`")
    migrations(url).up(url)
    await called(server, url, "0000_min0000")
    older = await of("schema", database_url=url)
    assert (older.ok, "older" in older.detail, older.remedy) == (False, True, "run `tulbur migrate`")
    await called(server, url, "0009_min0009")
    newer = await of("schema", database_url=url)
    assert (newer.ok, "a newer release" in newer.detail) == (False, True)
    assert newer.remedy == "run that release, or a newer one"


async def called(server: str, url: str, revision: str) -> None:
    """Let the schema be of that revision."""
    if server == "mongodb":
        with MongoClient[dict[str, Any]](url) as client:
            schema = client.get_default_database()["tulbur_schema"]
            schema.update_one({"_id": "revision"}, {"$set": {"revision": revision}})
        return
    async with connected(url) as connection:
        await connection.exec_driver_sql(f"UPDATE tulbur_alembic_version SET version_num = '{revision}'")
