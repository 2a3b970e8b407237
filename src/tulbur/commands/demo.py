"""A whole tulbur with its own QPay on this machine: simulator and service, over real HTTP, on throw-away data."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import uvicorn

from tulbur.settings import IsolatedSettings, Settings
from tulbur.simulator.app import create_simulator
from tulbur.web.connection import BoundedHttp
from tulbur.wiring import Application, Tulbur

HOST: Final = "127.0.0.1"
LOGIN: Final = "TEST_MERCHANT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """Where everything is, while it runs. `api_key` may do everything."""

    base_url: str
    simulator_url: str
    api_key: str
    tulbur: Tulbur
    settings: Settings


@contextlib.asynccontextmanager
async def running(
    *,
    port: int = 0,
    simulator_port: int = 0,
    data: Path | None = None,
    changes: Mapping[str, object] | None = None,
) -> AsyncIterator[Demo]:
    """Run simulator and service until the block ends. Port 0 takes a free one; data is thrown away unless named.

    `changes` are settings that differ from a demo's own, such as another `database_url`.

    Raises:
        OSError: a port is taken.
    """
    with _directory(data) as folder, _bound(port) as web, _bound(simulator_port) as qpay:
        base_url, simulator_url = _url(web), _url(qpay)
        api_key = f"tulbur_{secrets.token_urlsafe(24)}"
        settings = demo_settings(
            folder, base_url=base_url, simulator_url=simulator_url, api_key=api_key, changes=changes
        )
        tulbur = Tulbur(settings)
        simulator = create_simulator(bank_links=True, public_url=simulator_url)
        servers = [QuietServer(_config(simulator)), QuietServer(_config(Application(tulbur)))]
        demo = Demo(
            base_url=base_url,
            simulator_url=simulator_url,
            api_key=api_key,
            tulbur=tulbur,
            settings=settings,
        )
        async with contextlib.AsyncExitStack() as stack:
            for server, sock in zip(servers, (qpay, web), strict=True):
                await stack.enter_async_context(_serving(server, sock))
            stack.callback(tulbur.live.close)
            yield demo


def demo_settings(
    folder: Path,
    *,
    base_url: str,
    simulator_url: str,
    api_key: str,
    changes: Mapping[str, object] | None = None,
) -> Settings:
    """Settings of a demo: its own directory and keys, nothing of the environment, and then `changes`."""
    digest = sha256(api_key.encode()).hexdigest()
    return IsolatedSettings.model_validate(
        {
            "database_url": f"sqlite:///{folder / 'demo.db'}",
            "public_url": base_url,
            "qpay_base_url": simulator_url,
            "qpay_username": LOGIN,
            "qpay_password": "123456",
            "qpay_invoice_code": "TEST_INVOICE",
            "tulbur_secret_keys": secrets.token_urlsafe(32),
            "tulbur_api_keys": f"demo:admin+read+refund+write:{digest}",
            **(changes or {}),
        }
    )


class QuietServer(uvicorn.Server):
    """A server among others in one loop; whoever runs them hears the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=BoundedHttp,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=5,
    )


@contextlib.asynccontextmanager
async def _serving(server: QuietServer, sock: socket.socket) -> AsyncIterator[None]:
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        while not server.started:
            if task.done():
                await task
                raise OSError("a part of the demo did not start; the lines above say why")
            await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        await task


@contextlib.contextmanager
def _bound(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
        yield sock


def _url(sock: socket.socket) -> str:
    return f"http://{HOST}:{sock.getsockname()[1]}"


@contextlib.contextmanager
def _directory(data: Path | None) -> Iterator[Path]:
    if data is not None:
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="tulbur-demo-") as folder:
        yield Path(folder)
