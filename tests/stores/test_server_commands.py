"""`tulbur migrate`, `doctor` and the choice of a store by DATABASE_URL, on database servers."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.stores.servers import SERVERS

from tulbur.commands import migrating
from tulbur.commands.doctor import Finding, examine
from tulbur.errors import SettingsError
from tulbur.settings import IsolatedSettings
from tulbur.stores import migrate
from tulbur.stores.network import NetworkStore
from tulbur.wiring import open_store


@pytest.fixture(params=SERVERS)
def settings(request: pytest.FixtureRequest, database: Callable[[str], str]) -> IsolatedSettings:
    return IsolatedSettings(database_url=database(request.param))


def findings(settings: IsolatedSettings) -> dict[str, Finding]:
    async def run() -> dict[str, Finding]:
        return {finding.check: finding async for finding in examine(settings)}

    return asyncio.run(run())


def test_the_commands_work_there(settings: IsolatedSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = urlsplit(settings.database_url).path[1:]
    assert migrating.database_name(settings) == name
    assert migrating.run(settings, "status")["pending"] == ["0001_min0001", migrate.HEAD]
    found = findings(settings)
    assert found["database"].ok
    assert (found["schema"].ok, "tulbur migrate" in found["schema"].remedy) == (False, True)
    assert migrating.run(settings, "up") == {
        "database": name,
        "current": migrate.HEAD,
        "head": migrate.HEAD,
        "pending": [],
    }
    found = findings(settings)
    assert found["database"].ok
    assert found["schema"].ok
    backup = migrating.run(settings, "down")["backup"]
    assert Path(str(backup)).parent == tmp_path
    assert isinstance(open_store(settings), NetworkStore)


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [
        ("postgres://h/d", "asyncpg", "postgres"),
        ("mariadb://h/d", "asyncmy", "mysql"),
        ("mysql://h/d", "greenlet", "mysql"),
    ],
)
def test_a_missing_driver_is_one_sentence(url: str, driver: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(SettingsError) as missing:
        open_store(IsolatedSettings(database_url=url))
    assert str(missing.value).endswith(f'whose driver is not installed: pip install "tulbur[{extra}]".')


@pytest.mark.parametrize("url", ["oracle://h/d", "tulbur.db", ""])
def test_another_kind_of_database_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="not supported by this release"):
        open_store(IsolatedSettings(database_url=url))
