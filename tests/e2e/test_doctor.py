"""The doctor with each thing that can be wrong: the sentence is true, the other checks are made, nothing is changed."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from tulbur.commands.demo import Demo, running
from tulbur.commands.doctor import Finding, database, examine
from tulbur.settings import IsolatedSettings, Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[Demo]:
    async with running(data=tmp_path) as made:
        yield made


async def _examined(settings: Settings, **changes: str) -> dict[str, Finding]:
    changed = IsolatedSettings.model_validate(settings.model_dump() | changes)
    return {finding.check: finding async for finding in examine(changed)}


def _wrong(findings: dict[str, Finding]) -> set[str]:
    return {name for name, finding in findings.items() if not finding.ok}


async def test_it_makes_no_database(demo: Demo, tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    findings = await _examined(demo.settings, database_url=f"sqlite:///{path}")
    assert not path.exists()
    assert _wrong(findings) == set()
    assert "not there yet" in findings["database"].detail


async def test_it_makes_no_tables(demo: Demo, tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    findings = await _examined(demo.settings, database_url=f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    assert _wrong(findings) == set()


async def test_a_directory_that_is_missing(demo: Demo, tmp_path: Path) -> None:
    findings = await _examined(demo.settings, database_url=f"sqlite:///{tmp_path}/nowhere/shop.db")
    assert _wrong(findings) == {"database"}
    assert f"{tmp_path}/nowhere/shop.db" in findings["database"].detail


async def test_a_database_nobody_can_write(demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(tmp_path / "demo.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        findings = await _examined(demo.settings)
    assert _wrong(findings) == {"database"}
    assert "locked" in findings["database"].detail


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"database_url": "mongodb://x/y"}, {"database"}),
        ({"tulbur_api_keys": "nonsense"}, {"api keys"}),
        ({"public_url": "http://[::1"}, {"settings"}),
    ],
)
async def test_one_wrong_setting_does_not_end_the_examination(
    demo: Demo, change: dict[str, str], wrong: set[str]
) -> None:
    findings = await _examined(demo.settings, **change)
    assert _wrong(findings) == wrong
    assert findings["cache"].ok


async def test_a_schema_of_a_newer_release(demo: Demo, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "demo.db")) as database:
        database.execute("UPDATE tulbur_alembic_version SET version_num = '0007_min0005'")
        database.commit()
    findings = await _examined(demo.settings)
    assert _wrong(findings) == {"schema"}
    assert "run that release" in findings["schema"].remedy


async def test_a_password_that_was_not_tried_is_not_called_right(demo: Demo) -> None:
    await demo.tulbur.open(user_id="u1", amount=1000)
    findings = await _examined(demo.settings, qpay_password="wrong")
    assert "the password was not tried" in findings["qpay login"].detail


async def test_a_qpay_that_is_away_is_noticed_although_a_token_lives(tmp_path: Path) -> None:
    async with running(data=tmp_path) as demo:
        await demo.tulbur.open(user_id="u1", amount=1000)
        settings = demo.settings
    findings = await _examined(settings)
    assert "clock" in _wrong(findings)
    assert "does not answer" in findings["clock"].detail


async def test_redis_that_does_not_answer_is_a_problem(demo: Demo) -> None:
    findings = await _examined(demo.settings, redis_url="redis://127.0.0.1:1")
    assert not findings["cache"].ok
    assert "nothing listens on 127.0.0.1:1" in findings["cache"].detail
