"""A start on what cannot be safe is refused, and an address that leads nowhere is told without its password."""

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from tests.stores.servers import SERVERS, connected, started

from tulbur.errors import SettingsError, StoreUnavailable
from tulbur.stores import drivers, migrate
from tulbur.stores.network import NetworkStore

pytestmark = pytest.mark.anyio


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest, database: Callable[[str], str]) -> str:
    return database(request.param)


async def refused(url: str) -> str:
    store = NetworkStore(url)
    with pytest.raises((SettingsError, StoreUnavailable)) as refusal:
        await store.start()
    with pytest.raises(StoreUnavailable, match="not started"):
        await store.get("s-1")
    return str(refusal.value)


async def changed(url: str, *statements: str) -> None:
    async with connected(url) as connection:
        for statement in statements:
            await connection.exec_driver_sql(statement)


async def test_a_database_without_tables(url: str) -> None:
    assert "run `tulbur migrate`" in await refused(url)


@pytest.mark.parametrize(
    ("version", "sentence"),
    [("0000_min0000", "older than this release needs"), ("0009_min0003", "newer release"), ("c0ffee", "newer release")],
)
async def test_a_schema_that_cannot_be_used(url: str, version: str, sentence: str) -> None:
    migrate.up(url)
    await changed(url, f"UPDATE tulbur_alembic_version SET version_num = '{version}'")
    assert sentence in await refused(url)


@pytest.mark.parametrize("engine", ["MyISAM", "Aria"])
async def test_a_table_without_transactions(database: Callable[[str], str], engine: str) -> None:
    url = database("mariadb")
    migrate.up(url)
    await changed(url, f"ALTER TABLE tulbur_orders ENGINE={engine}")
    assert "tulbur_orders is in an engine without transactions" in await refused(url)
    await changed(url, "ALTER TABLE tulbur_orders ENGINE=InnoDB")
    async with started(NetworkStore(url)):
        pass


async def test_a_column_that_takes_two_ids_for_one(database: Callable[[str], str]) -> None:
    url = database("mariadb")
    migrate.up(url)
    await changed(url, "ALTER TABLE tulbur_sessions CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
    assert "tulbur_sessions.body_digest does not compare ids as bytes" in await refused(url)


async def test_a_postgresql_that_forgets_commits(database: Callable[[str], str]) -> None:
    url = database("postgres")
    migrate.up(url)
    await changed(url, f"ALTER DATABASE {urlsplit(url).path[1:]} SET synchronous_commit = off")
    assert "synchronous_commit" in await refused(url)


async def test_a_database_that_is_read_only(database: Callable[[str], str]) -> None:
    url = database("postgres")
    migrate.up(url)
    async with started(NetworkStore(url)) as store:
        before = await store.lease("a", "w", 1)
        with pytest.raises(StoreUnavailable, match="read-only"):
            await store._write(lambda c: c.exec_driver_sql("SET TRANSACTION READ ONLY") and c.exec_driver_sql(WRITE))
        assert before


WRITE = "DELETE FROM tulbur_leases"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda url: url.replace("pass-of", "secret-of"), "refuses this user or password"),
        (lambda url: f"{url}_not", "there is no database of that name"),
        (lambda url: url.replace("127.0.0.1:", "127.0.0.1:1#").partition("#")[0] + "/d", "cannot be reached"),
        (lambda url: url.replace("127.0.0.1", "nowhere.invalid"), "cannot be reached"),
    ],
)
async def test_an_address_that_leads_nowhere(url: str, change: Callable[[str], str], sentence: str) -> None:
    wrong = change(url)
    told = await refused(wrong)
    assert sentence in told
    assert urlsplit(wrong).hostname in told
    assert "\n" not in told
    with pytest.raises(StoreUnavailable) as migrating:
        migrate.up(wrong)
    for text in (told, str(migrating.value)):
        assert "of-the-testbed" not in text


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("postgresql://u:secret@h", "names no database"),
        ("postgres://u:secret@h:port/d", "cannot be read"),
        ("mysql://u:secret@h/", "names no database"),
        ("mysql://u:secret@h/d?colour=red", "not known for MySQL: colour"),
        ("mariadb://u:secret@h/d?ssl_mode=perhaps", "TLS for MySQL"),
        ("mysql://u:secret@h/d?ssl_ca=/nowhere/ca.pem", "cannot be read"),
    ],
)
def test_an_address_that_cannot_be_read(url: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence) as refusal:
        NetworkStore(url)
    assert "secret" not in str(refusal.value)


def test_tls_is_passed_on() -> None:
    def context(query: str) -> tuple[object, ...] | None:
        made = drivers._mysql_options(drivers.read(f"mysql://u:p%40@h/d?{query}")).get("ssl")
        return made and (made.verify_mode.name, made.check_hostname)

    assert context("") is None
    assert context("ssl-mode=DISABLED") is None
    assert context("sslmode=require") == ("CERT_NONE", False)
    assert context("ssl_mode=verify_ca") == ("CERT_REQUIRED", False)
    assert context("ssl_mode=VERIFY_IDENTITY") == ("CERT_REQUIRED", True)
    assert drivers._mysql_options(drivers.read("mysql://u:p%40@h:1/d"))["password"] == "p@"
    url = drivers._on_the_primary("postgresql://u:p%40@h,i:1/d?sslmode=verify-full")
    assert url == "postgresql://u:p%40@h,i:1/d?sslmode=verify-full&target_session_attrs=primary"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "mysql", "mariadb"])
async def test_every_scheme_is_understood(migrated: Callable[[str], str], scheme: str) -> None:
    url = migrated("postgres" if scheme.startswith("p") else "mariadb")
    async with started(NetworkStore(f"{scheme}://{url.partition('://')[2]}")) as store:
        await store.ping()


async def test_a_postgresql_without_tls_is_refused_when_it_is_asked_for(migrated: Callable[[str], str]) -> None:
    assert "PostgreSQL at 127.0.0.1" in await refused(migrated("postgres") + "?sslmode=require")
    assert "MySQL at 127.0.0.1" in await refused(migrated("mariadb") + "?ssl_mode=required")
