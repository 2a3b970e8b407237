"""`tulbur serve` on a schema above its own: it starts where the declared minimum allows, and says why where not."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import text
from tests.compat.test_both_directions import STORES
from tests.e2e.test_serving import KEY, _env, _open, _pay, serving

from tulbur.commands.demo import Demo, running
from tulbur.stores import migrate
from tulbur.stores.choosing import migrations
from tulbur.stores.places import place

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("releases")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def qpay() -> AsyncIterator[Demo]:
    async with running() as demo:
        yield demo


async def tulbur(folder: Path, qpay: Demo, url: str, *words: str) -> tuple[int | None, str, str]:
    env = {**_env(folder, 1, qpay.simulator_url), "DATABASE_URL": url}
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "tulbur.cli", *words]
    process = await asyncio.create_subprocess_exec(*command, env=env, cwd=folder, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(60):
        out, error = await process.communicate()
    return process.returncode, out.decode(), error.decode()


@pytest.mark.parametrize("store", STORES)
async def test_a_payment_becomes_an_order_on_a_later_schema(
    store: str, fresh: Callable[[str], str], tmp_path: Path, qpay: Demo
) -> None:
    url = fresh(store)
    async with serving(tmp_path, qpay, DATABASE_URL=url) as service, aiohttp.ClientSession() as http:
        session = await _open(http, service)
        paid = await _pay(http, qpay, session["invoice"]["id"])
        assert paid["callback"] == {"status": 200, "body": "SUCCESS"}
        async with http.get(f"{service.url}/v1/sessions/{session['id']}", headers=KEY) as answer:
            stored = await answer.json()
        assert (stored["status"], len(stored["orders"])) == ("PAID", 1)
    code, out, _ = await tulbur(tmp_path, qpay, url, "migrate", "--json")
    found = migrations(url).status(url)
    assert code == 0
    assert json.loads(out)["pending"] == []
    assert json.loads(out)["current"] == found.current != found.head


@pytest.mark.store("sqlite")
async def test_a_later_schema_that_excludes_this_release_stops_it(
    fresh: Callable[[str], str], tmp_path: Path, qpay: Demo
) -> None:
    url = fresh("sqlite")
    number = int(migrate.HEAD[:4]) + 1
    excluding = text(f"UPDATE tulbur_alembic_version SET version_num = '{number:04d}_min{number:04d}'")
    place(url).locked(lambda connection: connection.execute(excluding), 5)
    code, _, error = await tulbur(tmp_path, qpay, url, "serve")
    assert code == 2
    assert "newer release of tulbur" in error
    assert error.count("\n") == 1
