"""The service as a process of its own: it starts, several share a database, and it ends gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from hashlib import sha256
from pathlib import Path

import aiohttp
import pytest

from tulbur.commands.demo import Demo, running
from tulbur.stores.choosing import migrations

pytestmark = pytest.mark.anyio

KEY = {"Authorization": "Bearer k"}


@pytest.fixture
async def qpay() -> AsyncIterator[Demo]:
    """A simulator; the service beside it is not used."""
    async with running() as demo:
        yield demo


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _env(folder: Path, port: int, simulator_url: str) -> Mapping[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"} | {
        "DATABASE_URL": f"sqlite:///{folder / 'shop.db'}",
        "PORT": str(port),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "QPAY_BASE_URL": simulator_url,
        "QPAY_USERNAME": "TEST_SERVING",
        "QPAY_PASSWORD": "123456",
        "QPAY_INVOICE_CODE": "TEST_INVOICE",
        "TULBUR_SECRET_KEYS": "a-secret-canary-of-forty-characters-0123",
        "TULBUR_API_KEYS": f"shop:read+write:{sha256(b'k').hexdigest()}",
    }


class Service:
    def __init__(self, process: asyncio.subprocess.Process, port: int, errors: Path) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.errors = errors

    async def wait_ready(self) -> None:
        async with asyncio.timeout(30), aiohttp.ClientSession() as http:
            while True:
                assert self.process.returncode is None, self.errors.read_text()
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"{self.url}/readyz") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.05)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(15):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def serving(
    folder: Path, qpay: Demo, *options: str, port: int | None = None, **settings: str
) -> AsyncIterator[Service]:
    port = port or _free_port()
    errors = folder / f"serve-{port}.log"
    with errors.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tulbur.cli",
            "serve",
            *options,
            env={**_env(folder, port, qpay.simulator_url), **settings},
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    service = Service(process, port, errors)
    try:
        await service.wait_ready()
        yield service
    finally:
        if process.returncode is None:
            await service.stop()


async def _open(http: aiohttp.ClientSession, service: Service) -> dict[str, dict[str, str]]:
    body = {"user_id": "u1", "amount": "50000"}
    async with http.post(f"{service.url}/v1/sessions", json=body, headers=KEY) as answer:
        assert answer.status == 201, await answer.text()
        return await answer.json()


async def _pay(http: aiohttp.ClientSession, qpay: Demo, invoice_id: str, *, callback: bool = True) -> dict[str, object]:
    url = f"{qpay.simulator_url}/_sim/invoices/{invoice_id}/pay"
    async with http.post(url, json={"callback": callback}) as answer:
        return await answer.json()


async def test_a_live_page_does_not_hold_up_the_end(tmp_path: Path, qpay: Demo) -> None:
    async with serving(tmp_path, qpay) as service, aiohttp.ClientSession() as http:
        session = await _open(http, service)
        async with http.get(f"{session['checkout_url']}/events") as stream:
            while b"PENDING" not in await stream.content.readuntil(b"\n\n"):
                pass
            assert await service.stop() in (0, -signal.SIGTERM)
            assert stream.status == 200


async def test_several_processes_make_one_order_set(tmp_path: Path, qpay: Demo) -> None:
    async with serving(tmp_path, qpay, "--workers", "2") as service, aiohttp.ClientSession() as http:
        session = await _open(http, service)
        paid = await _pay(http, qpay, session["invoice"]["id"])
        assert paid["callback"] == {"status": 200, "body": "SUCCESS"}
        async with http.get(f"{service.url}/v1/sessions/{session['id']}", headers=KEY) as answer:
            assert (await answer.json())["status"] == "PAID"
        async with http.get(f"{service.url}/v1/stats", headers=KEY) as answer:
            assert (await answer.json())["fallback_rate"] is None


@pytest.mark.store("mongodb")
@pytest.mark.store("valkey")
async def test_several_processes_share_mongodb_and_valkey(
    tmp_path: Path, qpay: Demo, database: Callable[[str], str]
) -> None:
    url = database("mongodb")
    migrations(url).up(url)
    shared = {"DATABASE_URL": url, "REDIS_URL": database("valkey")}
    async with serving(tmp_path, qpay, "--workers", "2", **shared) as service, aiohttp.ClientSession() as http:
        session = await _open(http, service)
        paid = await _pay(http, qpay, session["invoice"]["id"])
        assert paid["callback"] == {"status": 200, "body": "SUCCESS"}
        async with http.get(f"{service.url}/v1/sessions/{session['id']}", headers=KEY) as answer:
            shown = await answer.json()
        assert (shown["status"], len(shown["orders"])) == ("PAID", 1)
        rate = None
        async with asyncio.timeout(30):
            while rate is None:  # a process adds its counts to the shared ones every few seconds
                async with http.get(f"{service.url}/v1/stats", headers=KEY) as answer:
                    rate = (await answer.json())["fallback_rate"]
                await asyncio.sleep(0.1)
        assert rate == 0
        await service.stop()
        assert "Traceback" not in service.errors.read_text()


async def test_killed_after_the_payment_the_next_process_makes_the_order(tmp_path: Path, qpay: Demo) -> None:
    async with aiohttp.ClientSession() as http:
        async with serving(tmp_path, qpay) as service:
            session = await _open(http, service)
            await service.stop(signal.SIGKILL)
        await _pay(http, qpay, session["invoice"]["id"], callback=False)
        port = int(service.url.rpartition(":")[2])
        check = f"{service.url}/v1/sessions/{session['id']}/check"
        async with serving(tmp_path, qpay, port=port), http.post(check, headers=KEY) as answer:
            assert (await answer.json())["status"] == "PAID"


async def test_no_secret_is_in_the_log(tmp_path: Path, qpay: Demo) -> None:
    async with serving(tmp_path, qpay) as service, aiohttp.ClientSession() as http:
        session = await _open(http, service)
        await _pay(http, qpay, session["invoice"]["id"])
        async with http.get(str(session["checkout_url"])) as answer:
            assert answer.status == 200
        async with http.get(f"{service.url}/v1/sessions", headers={"Authorization": "Bearer wrong-canary"}) as answer:
            assert answer.status == 401
        await service.stop()
        log = service.errors.read_text()
    assert "session.paid" in log
    pay_token = str(session["checkout_url"]).rpartition("/")[2]
    for canary in ("a-secret-canary", "wrong-canary", "123456", "Bearer", pay_token):
        assert canary not in log


async def test_an_older_schema_is_refused_with_what_to_do(tmp_path: Path, qpay: Demo) -> None:
    database = sqlite3.connect(tmp_path / "shop.db")
    database.execute("CREATE TABLE tulbur_sessions (id TEXT)")
    database.close()
    port = _free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tulbur.cli",
        "serve",
        env=_env(tmp_path, port, qpay.simulator_url),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"tulbur migrate" in errors
    assert b"Traceback" not in errors
