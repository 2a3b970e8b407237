"""The whole service on MongoDB and Valkey: the drill, the commands, and sentences instead of tracebacks."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp
import pytest

from testbed.servers import Server
from tulbur.commands.demo import Demo, running
from tulbur.commands.doctor import examine
from tulbur.commands.drill import Drill, Step
from tulbur.stores import mongo_migrate

pytestmark = [pytest.mark.anyio, pytest.mark.store("mongodb"), pytest.mark.store("valkey")]

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("QPAY_", "TULBUR_", "DATABASE_"))}


async def tulbur(*arguments: str, env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "tulbur.cli", *arguments]
    return await asyncio.to_thread(
        subprocess.run, command, env=CLEAN | env, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


async def drilled(demo: Demo) -> list[Step]:
    steps: list[Step] = []
    outcome = await Drill(demo.base_url, demo.api_key, demo.simulator_url, steps.append).run()
    assert outcome.ok, outcome.problem
    assert outcome.loaded_from_database >= 1
    return steps


async def test_the_drill_on_mongodb_and_valkey(database: Callable[[str], str]) -> None:
    url = database("mongodb")
    mongo_migrate.up(url)
    async with running(changes={"database_url": url, "redis_url": database("valkey")}) as demo:
        await drilled(demo)
        async with aiohttp.ClientSession() as http, http.get(f"{demo.base_url}/readyz") as answer:
            assert await answer.json() == {
                "status": "ready",
                "checks": {"database": "ok", "schema": "ok", "cache": "ok", "provider": "ok"},
                "cache_kind": "redis",
            }
        found = {finding.check: finding async for finding in examine(demo.settings)}
        assert [finding for finding in found.values() if not finding.ok] == []
        assert found["cache"].detail.startswith("redis at 127.0.0.1:")


async def test_the_drill_goes_on_without_the_cache(own_server: Callable[[str], Server]) -> None:
    server = own_server("valkey")
    async with running(changes={"redis_url": server.admin_url}) as demo:
        await asyncio.to_thread(server.kill)
        await drilled(demo)
        async with aiohttp.ClientSession() as http, http.get(f"{demo.base_url}/readyz") as answer:
            assert answer.status == 200
            body = await answer.json()
        assert (body["status"], body["checks"]["cache"]) == ("degraded", "down")
        cache = [finding async for finding in examine(demo.settings) if finding.check == "cache"]
        assert [(one.ok, "nothing listens on" in one.detail) for one in cache] == [(False, True)]


async def test_migrate_up_and_down_on_mongodb(database: Callable[[str], str], tmp_path: Path) -> None:
    env = {"DATABASE_URL": database("mongodb")}
    refused = await tulbur("stats", env=env, cwd=tmp_path)
    assert refused.returncode == 2
    assert "run `tulbur migrate`" in refused.stderr
    assert "Traceback" not in refused.stderr
    up = json.loads((await tulbur("migrate", "--json", env=env, cwd=tmp_path)).stdout)
    assert up["current"] == up["head"]
    gone = await tulbur("migrate", "down", "--confirm", up["database"], "--json", env=env, cwd=tmp_path)
    assert gone.returncode == 0, gone.stderr
    down = json.loads(gone.stdout)
    assert down["current"] is None
    with tarfile.open(down["backup"]) as archive:
        assert f"{up['database']}/tulbur_sessions.bson" in archive.getnames()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"DATABASE_URL": "mongodb://u:top-secret@"}, "DATABASE_URL is not an address"),
        ({"REDIS_URL": "http://u:top-secret@cache"}, "REDIS_URL is not an address"),
    ],
)
async def test_a_wrong_address_is_one_sentence_without_the_password(
    setting: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    complete = {
        "PUBLIC_URL": "http://127.0.0.1:9",
        "QPAY_BASE_URL": "http://127.0.0.1:9",
        "QPAY_USERNAME": "TEST_X",
        "QPAY_PASSWORD": "123456",
        "QPAY_INVOICE_CODE": "X",
        "TULBUR_SECRET_KEYS": "k" * 40,
        "PORT": "0",
    }
    shown = await tulbur("serve", env=complete | setting, cwd=tmp_path)
    assert shown.returncode == 2, shown.stderr
    assert sentence in shown.stderr
    assert "top-secret" not in shown.stdout + shown.stderr
    assert "Traceback" not in shown.stderr
