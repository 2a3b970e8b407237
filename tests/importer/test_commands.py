"""`tulbur import` and `tulbur rescue` as a person types them, in processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.importer.filling import fill
from tests.importer.old_shop import KINDS, cases, tell_qpay
from tests.payments.world import KEYS, serving

from tulbur.simulator.app import create_simulator
from tulbur.stores import migrate

pytestmark = pytest.mark.anyio

CLEAN = {n: v for n, v in os.environ.items() if not n.startswith(("QPAY_", "TULBUR_", "DATABASE_", "OLD_"))}


@pytest.fixture
async def simulator() -> AsyncIterator[Any]:
    with socket.socket(proto=socket.IPPROTO_TCP) as sock:
        sock.bind(("127.0.0.1", 0))
        app = create_simulator(public_url=f"http://127.0.0.1:{sock.getsockname()[1]}")
        async with serving(app, sock):
            yield app.state.simulator
        await app.state.simulator.aclose()


@pytest.fixture
def env(simulator: Any, tmp_path: Path) -> dict[str, str]:
    migrate.up(tmp_path / "shop.db")
    return {
        "DATABASE_URL": f"sqlite:///{tmp_path / 'shop.db'}",
        "PUBLIC_URL": "http://127.0.0.1:9",
        "QPAY_BASE_URL": simulator.public_url,
        "QPAY_USERNAME": "TEST_MERCHANT",
        "QPAY_PASSWORD": "123456",
        "QPAY_INVOICE_CODE": "TEST_INVOICE",
        "TULBUR_SECRET_KEYS": KEYS[0],
    }


async def tulbur(env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "tulbur.cli", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=CLEAN | dict(env),
        cwd=Path(env["DATABASE_URL"].removeprefix("sqlite:///")).parent,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode or 0, out.decode(), err.decode())


async def test_the_whole_move(simulator: Any, env: dict[str, str], database: Callable[[str], str]) -> None:
    made, url = cases(len(KINDS)), database("mariadb")
    tell_qpay(simulator, made)
    await fill("mariadb", url, made)
    env["OLD_DATABASE_URL"] = url
    done = await tulbur(env, "import", "--dry-run")
    assert f"{len(made)} rows read; the sums balance" in done.stdout
    assert (done.returncode, done.stderr) == (1, ""), "two carts are for a person"
    done = await tulbur(env, "import", "--take-over", "--json")
    reports = {report["step"]: report for report in json.loads(done.stdout)["reports"]}
    assert reports["import"]["by_status"]["CANCELLED"] == {"taken": 2}, "the dry run took nothing"
    assert reports["take over"]["by_status"]["CANCELLED"] == {"taken over": 2}
    assert sum(p["what"] == "still followed" for p in reports["take over"]["problems"]) == 2
    done = await tulbur(env, "rescue", "--per-second", "50", "--json")
    found = json.loads(done.stdout)
    assert found["account"]["balances"]
    assert found["account"]["order_sets"] == sum(case.what.ends == "PAID" for case in made)
    assert [p["what"] for p in found["reports"][0]["problems"]] == [
        "called paid by the old shop, QPay shows no full payment"
    ]
    done = await tulbur(env, "rescue")
    assert (done.returncode, "0 rows read" in done.stdout) == (0, True)


async def test_secrets_of_the_source_are_never_printed(env: dict[str, str]) -> None:
    done = await tulbur(env, "import", "--from", "postgresql://u:hidden-word@127.0.0.1:9/d")
    assert done.returncode == 1
    assert done.stderr.startswith("tulbur: the old shop's data cannot be read")
    assert "hidden-word" not in done.stdout + done.stderr
