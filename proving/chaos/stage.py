"""What a run is made with: database, cache and QPay behind proxies, two `serve`, one `worker`, and their settings."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

import uvicorn

from proving.chaos import books, places
from proving.chaos.faults import OF_PAYERS, PROXIED, Board, Fault
from proving.chaos.places import Place
from proving.chaos.processes import Process
from testbed.binaries import Missing
from testbed.engine import free_port
from testbed.keeper import Keeper
from testbed.proxy import Proxy, Strike
from testbed.servers import Testbed
from tulbur.commands.demo import QuietServer
from tulbur.simulator.app import create_simulator
from tulbur.simulator.runtime import Simulator
from tulbur.stores.choosing import migrations

PROGRAM: Final = (sys.executable, "-m", "tulbur.cli")

KEY: Final = "key-of-the-shop"

SERVES: Final = 2

OF_PROCESSES: Final = (Fault.SERVE_KILLED, Fault.SERVE_STOPPED, Fault.WORKER_KILLED, Fault.WORKER_STOPPED)

OF_QPAY: Final = (
    Fault.QPAY_REFUSES,
    Fault.QPAY_RESETS,
    Fault.QPAY_LOSES,
    Fault.QPAY_SLOW,
    Fault.QPAY_SILENT,
    Fault.QPAY_AWAY,
    Fault.QPAY_SHOWS_LATER,
)


def listed(kind: str, url: str = "") -> tuple[Fault, ...]:
    """Every fault of a run on this kind of database."""
    return (*places.faults(kind, url), *OF_QPAY, *OF_PROCESSES, *OF_PAYERS)


@dataclass
class Stage:
    """What the storm strikes at. `url` is the database itself, past every proxy."""

    folder: Path
    url: str
    database: Place
    cache: Place
    ways: dict[str, Proxy]
    simulator: Simulator
    board: Board
    env: dict[str, str]
    program: Sequence[str]
    serves: list[Process] = field(default_factory=list)
    worker: Process = field(init=False)

    @property
    def processes(self) -> list[Process]:
        return [*self.serves, self.worker]

    @property
    def spool(self) -> list[Path]:
        """The files in the spool, those that were set aside too."""
        folder = self.folder / "spool"
        return sorted(folder.iterdir()) if folder.is_dir() else []

    async def command(self, *words: str) -> tuple[int, str]:
        """What one of tulbur's commands answers, and its exit code."""
        process = await asyncio.create_subprocess_exec(
            *self.program,
            *words,
            env=self.env,
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        told, errors = await process.communicate()
        return process.returncode or 0, (told or errors).decode(errors="replace")


@contextlib.asynccontextmanager
async def staged(
    kind: str, testbed: Testbed, folder: Path, board: Board, program: Sequence[str], given: str = ""
) -> AsyncIterator[Stage]:
    """Everything started and ready; it ends with the block. `given` is an empty database to use instead of ours.

    Raises:
        Missing: a server cannot be had here, or the database is not empty.
    """
    database, cache = places.database(kind, testbed, folder, given), places.cache(kind, testbed)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, _close, [database, cache])
        url, cache_url = await asyncio.to_thread(database.start), await asyncio.to_thread(cache.start)
        await asyncio.to_thread(migrations(url).up, url)
        if (await books.read(url)).sessions:
            raise Missing("there are sessions in this database; a run needs an empty one")
        simulator, qpay_url = await stack.enter_async_context(_simulated())
        targets = {"database": url if database.ways else "", "cache": cache_url if cache.ways else "", "qpay": qpay_url}
        ways = {
            name: await stack.enter_async_context(Proxy(target, on_strike=partial(_struck, board, name)).running())
            for name, target in targets.items()
            if target
        }
        urls = {"database": url, "cache": cache_url} | {name: way.url(targets[name]) for name, way in ways.items()}
        if database.ways:
            urls["database"] = database.through(urls["database"])
        ports = [free_port() for _ in range(SERVES)]
        env = _environment(folder, urls, f"http://127.0.0.1:{ports[0]}")
        stage = Stage(folder, url, database, cache, ways, simulator, board, env, program)
        keeper = Keeper(Path(tempfile.mkdtemp(prefix="chaos-keeper-")))
        stack.push_async_callback(asyncio.to_thread, keeper.close)
        for number, port in enumerate(ports, 1):
            words = [*program, "serve", "--no-worker", "--port", str(port)]
            stage.serves.append(Process(keeper, f"serve-{number}", words, env, folder, f"http://127.0.0.1:{port}"))
        stage.worker = Process(keeper, "worker", [*program, "worker", "--json"], env, folder)
        await asyncio.gather(*(process.start() for process in stage.processes))
        yield stage


def _environment(folder: Path, urls: dict[str, str], public_url: str) -> dict[str, str]:
    kept = {name: value for name in ("PATH", "PYTHONPATH", "LANG") if (value := os.environ.get(name))}
    return kept | {
        "PYTHONUNBUFFERED": "1",
        "DATABASE_URL": urls["database"],
        "REDIS_URL": urls["cache"],
        "QPAY_BASE_URL": urls["qpay"],
        "PUBLIC_URL": public_url,
        "QPAY_USERNAME": "TEST_CHAOS",
        "QPAY_PASSWORD": "123456",
        "QPAY_INVOICE_CODE": "TEST_INVOICE",
        "TULBUR_SECRET_KEYS": "a-secret-for-one-run-of-forty-characters",
        "TULBUR_API_KEYS": f"shop:read+write:{sha256(KEY.encode()).hexdigest()}",
        "SPOOL_DIR": str(folder / "spool"),
    }


def _struck(board: Board, way: str, strike: Strike) -> None:
    board.strike(PROXIED[way, strike])


def _close(opened: Sequence[Place]) -> None:
    for place in opened:
        place.close()


@contextlib.asynccontextmanager
async def _simulated() -> AsyncIterator[tuple[Simulator, str]]:
    """QPay, in this process, so that its books are at hand."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        app = create_simulator()
        config = uvicorn.Config(app, ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=5)
        server = QuietServer(config)
        task = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            async with asyncio.timeout(30):
                while not server.started:  # noqa: ASYNC110 - uvicorn tells in no other way
                    await asyncio.sleep(0.01)
            yield app.state.simulator, f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
