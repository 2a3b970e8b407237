"""The database goes away under a running service: callbacks are SUCCESS all the same, and become orders, once."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import text
from tests.e2e.test_serving import KEY, Service, _env, _free_port, _open, _pay, serving
from tests.stores.servers import connected

from testbed.servers import Server
from tulbur.commands.demo import Demo, running
from tulbur.stores.choosing import migrations

pytestmark = pytest.mark.anyio

PAYERS = 12
SUCCESS = {"status": 200, "body": "SUCCESS"}
SETS = "SELECT count(*) FROM tulbur_orders GROUP BY session_id"


@pytest.fixture
async def qpay() -> AsyncIterator[Demo]:
    """A simulator; the service beside it is not used."""
    async with running() as demo:
        yield demo


def hints(folder: Path) -> list[Path]:
    return sorted((folder / "spool").glob("*.hint"))


async def opened(http: aiohttp.ClientSession, service: Service) -> list[dict[str, Any]]:
    return [await _open(http, service) for _ in range(PAYERS)]


async def paid(http: aiohttp.ClientSession, qpay: Demo, sessions: Sequence[dict[str, Any]]) -> None:
    """Each is paid at QPay, whose callback is answered while there is no database."""
    paying = (_pay(http, qpay, session["invoice"]["id"]) for session in sessions)
    assert [answer["callback"] for answer in await asyncio.gather(*paying)] == [SUCCESS] * len(sessions)


async def readiness(http: aiohttp.ClientSession, service: Service) -> tuple[int, str]:
    async with http.get(f"{service.url}/readyz") as answer:
        return answer.status, (await answer.json())["status"]


async def becomes(http: aiohttp.ClientSession, service: Service, wanted: tuple[int, str]) -> None:
    async with asyncio.timeout(30):
        while await readiness(http, service) != wanted:
            await asyncio.sleep(0.05)


async def ordered(http: aiohttp.ClientSession, service: Service, sessions: Sequence[dict[str, Any]]) -> None:
    async with asyncio.timeout(60):
        for session in sessions:
            while True:
                async with http.get(f"{service.url}/v1/sessions/{session['id']}", headers=KEY) as answer:
                    shown = await answer.json()
                if shown["status"] == "PAID":
                    break
                await asyncio.sleep(0.1)
            assert len(shown["orders"]) == 1


async def empty(folder: Path) -> None:
    async with asyncio.timeout(30):
        while hints(folder):
            await asyncio.sleep(0.05)
    assert not list((folder / "spool").iterdir()), "nothing else is left either"


async def test_callbacks_outlive_the_database_and_the_process(
    tmp_path: Path, qpay: Demo, own_server: Callable[[str], Server]
) -> None:
    server, port = own_server("postgres"), _free_port()
    url = server.url()
    migrations(url).up(url)
    settings = {"DATABASE_URL": url, "SPOOL_DIR": str(tmp_path / "spool")}
    async with aiohttp.ClientSession() as http:
        async with serving(tmp_path, qpay, port=port, **settings) as service:
            sessions = await opened(http, service)
            await asyncio.to_thread(server.kill)
            await paid(http, qpay, sessions)
            assert len(hints(tmp_path)) == PAYERS, "law 5: every SUCCESS is on the disk"
            assert await readiness(http, service) == (200, "degraded")
            await service.stop(signal.SIGKILL)
        assert len(hints(tmp_path)) == PAYERS
        await asyncio.to_thread(server.start)
        # Two processes replay one directory.
        async with serving(tmp_path, qpay, "--workers", "2", port=port, **settings) as service:
            await ordered(http, service, sessions)
            await empty(tmp_path)
            assert await readiness(http, service) == (200, "ready")
    async with connected(url) as database:
        assert [row[0] for row in await database.execute(text(SETS))] == [1] * PAYERS


async def test_a_running_process_replays_when_the_database_is_back(
    tmp_path: Path, qpay: Demo, own_server: Callable[[str], Server]
) -> None:
    server = own_server("postgres")
    url = server.url()
    migrations(url).up(url)
    settings = {"DATABASE_URL": url, "SPOOL_DIR": str(tmp_path / "spool")}
    async with aiohttp.ClientSession() as http, serving(tmp_path, qpay, **settings) as service:
        sessions = await opened(http, service)
        await asyncio.to_thread(server.kill)
        await paid(http, qpay, sessions)
        await asyncio.to_thread(server.start)
        await ordered(http, service, sessions)
        await empty(tmp_path)
        await service.stop()
        assert "Traceback" not in service.errors.read_text()


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
async def test_a_process_that_starts_without_its_database_takes_callbacks(
    tmp_path: Path, qpay: Demo, own_server: Callable[[str], Server], options: tuple[str, ...]
) -> None:
    server, port = own_server("postgres"), _free_port()
    url = server.url()
    migrations(url).up(url)
    settings = {"DATABASE_URL": url, "SPOOL_DIR": str(tmp_path / "spool")}
    async with aiohttp.ClientSession() as http:
        async with serving(tmp_path, qpay, *options, port=port, **settings) as service:
            sessions = await opened(http, service)
        await asyncio.to_thread(server.kill)
        async with serving(tmp_path, qpay, *options, port=port, **settings) as service:
            assert await readiness(http, service) == (200, "degraded")
            await paid(http, qpay, sessions)
            assert len(hints(tmp_path)) == PAYERS
            await asyncio.to_thread(server.start)
            await ordered(http, service, sessions)
            await empty(tmp_path)
            assert await readiness(http, service) == (200, "ready")
            await service.stop()
            assert "Traceback" not in service.errors.read_text()


async def test_a_database_that_comes_back_without_a_schema_is_told(
    tmp_path: Path, qpay: Demo, own_server: Callable[[str], Server]
) -> None:
    server = own_server("postgres")
    url = server.url()
    await asyncio.to_thread(server.kill)
    settings = {"DATABASE_URL": url, "SPOOL_DIR": str(tmp_path / "spool")}
    async with aiohttp.ClientSession() as http, serving(tmp_path, qpay, **settings) as service:
        await asyncio.to_thread(server.start)
        await becomes(http, service, (503, "unready"))
        migrations(url).up(url)
        await becomes(http, service, (200, "ready"))
        await service.stop()
        assert service.errors.read_text().count("cannot be used") == 1


@pytest.mark.parametrize("command", ["serve", "worker"])
async def test_without_a_spool_a_database_that_is_away_ends_the_start(tmp_path: Path, qpay: Demo, command: str) -> None:
    away = f"postgresql://u:p@127.0.0.1:{_free_port()}/shop"
    env = {**_env(tmp_path, _free_port(), qpay.simulator_url), "DATABASE_URL": away}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tulbur.cli", command, env=env, cwd=tmp_path, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode != 0
    assert b"DATABASE_URL" in errors
    assert b"Traceback" not in errors


async def test_a_sqlite_file_that_is_gone_for_a_while(tmp_path: Path, qpay: Demo) -> None:
    port, database = _free_port(), tmp_path / "shop.db"
    async with aiohttp.ClientSession() as http:
        async with serving(tmp_path, qpay, port=port, SPOOL_DIR=str(tmp_path / "spool")) as service:
            sessions = await opened(http, service)
            database.rename(tmp_path / "away.db")
            await paid(http, qpay, sessions)
            assert len(hints(tmp_path)) == PAYERS
            await service.stop(signal.SIGKILL)
        (tmp_path / "away.db").rename(database)
        async with serving(tmp_path, qpay, port=port, SPOOL_DIR=str(tmp_path / "spool")) as service:
            await ordered(http, service, sessions)
            await empty(tmp_path)
    with closing(sqlite3.connect(database)) as opened_again:
        assert opened_again.execute(SETS).fetchall() == [(1,)] * PAYERS


async def test_without_a_spool_it_is_503_as_ever(tmp_path: Path, qpay: Demo) -> None:
    async with aiohttp.ClientSession() as http, serving(tmp_path, qpay) as service:
        session = await _open(http, service)
        (tmp_path / "shop.db").rename(tmp_path / "away.db")
        answer = await _pay(http, qpay, str(session["invoice"]["id"]))
        assert isinstance(answer["callback"], dict)
        assert answer["callback"]["status"] == 503
        (tmp_path / "away.db").rename(tmp_path / "shop.db")


@pytest.mark.parametrize("command", [("serve",), ("serve", "--workers", "2"), ("worker",)])
async def test_a_directory_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, qpay: Demo, command: tuple[str, ...]
) -> None:
    (tmp_path / "file").touch()
    env = {**_env(tmp_path, _free_port(), qpay.simulator_url), "SPOOL_DIR": str(tmp_path / "file")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tulbur.cli", *command, env=env, cwd=tmp_path, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"SPOOL_DIR" in errors
    assert b"Traceback" not in errors
