"""Promises of the commands and the service to those who run them, each broken once by a stranger's test."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.e2e.test_commands import tulbur
from tests.e2e.test_serving import _env, serving

from tulbur.commands import showing
from tulbur.commands.demo import Demo, running
from tulbur.commands.drill import Outcome

pytestmark = pytest.mark.anyio


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[Demo]:
    async with running(data=tmp_path) as made:
        yield made


@pytest.mark.parametrize("command", [["serve"], ["serve", "--workers", "2"], ["simulator", "--port", "{port}"]])
async def test_a_port_that_is_taken_is_one_sentence(command: list[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = dict(_env(tmp_path, port, "http://127.0.0.1:9"))
        shown = await tulbur(*(word.format(port=port) for word in command), env=env, cwd=tmp_path)
    assert shown.returncode == 2
    assert shown.stderr.count("\n") == 1
    assert str(port) in shown.stderr


@pytest.mark.parametrize("command", ["serve", "worker"])
async def test_a_database_that_cannot_be_is_told_with_its_path(command: str, tmp_path: Path) -> None:
    env = dict(_env(tmp_path, 1, "http://127.0.0.1:9")) | {"DATABASE_URL": f"sqlite:///{tmp_path}/nowhere/shop.db"}
    shown = await tulbur(command, env=env, cwd=tmp_path)
    assert shown.returncode == 2
    assert shown.stderr.startswith("tulbur: DATABASE_URL")
    assert f"{tmp_path}/nowhere/shop.db" in shown.stderr
    assert shown.stderr.count("\n") == 1


async def test_success_is_not_said_into_a_deleted_database(tmp_path: Path, demo: Demo) -> None:
    folder = tmp_path / "service"
    folder.mkdir()
    async with serving(folder, demo) as service:
        (folder / "shop.db").unlink()
        answer = await _raw(service.url, "/readyz")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"unready" in answer


async def test_a_list_of_sessions_tells_that_there_are_more(demo: Demo) -> None:
    for number in range(3):
        await demo.tulbur.open(user_id=f"u{number}", amount=1000)
    first = await showing.session_page(demo.tulbur, showing.session_query(limit=2))
    assert len(first["items"]) == 2
    rest = await showing.session_page(demo.tulbur, showing.session_query(limit=2, cursor=first["next_cursor"]))
    assert [len(rest["items"]), rest["next_cursor"]] == [1, None]
    assert json.dumps(first)


def test_a_problem_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    showing._print_outcome(Outcome(problem="it answered [/red] and [bold]more"))
    assert "it answered [/red] and [bold]more" in capsys.readouterr().out


async def _raw(url: str, path: str) -> bytes:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return await asyncio.wait_for(reader.read(-1), 10)
    finally:
        writer.close()
        await writer.wait_closed()
