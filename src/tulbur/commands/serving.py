"""Running the service and the worker as processes: what must be right before the first request, and a graceful end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import TypeAlias

import uvicorn
from uvicorn.supervisors import Multiprocess

from tulbur.commands.listening import free_address, url_of
from tulbur.errors import SettingsError, StoreUnavailable
from tulbur.settings import Settings, sqlite_path
from tulbur.telemetry import configure_logging, uvicorn_log_config
from tulbur.web.connection import BoundedHttp
from tulbur.wiring import Application, Tulbur, open_spool, open_store

GRACE_SECONDS = 20
"""How long a stopping process finishes requests; every one is bounded below that."""

MOST_FILES = 65_536
"""Open files, connections among them, that the service asks the system for."""

_WORKER = "TULBUR_SERVE_WORKER"

Tell: TypeAlias = Callable[[object], None]


def serve(
    settings: Settings, *, host: str | None, port: int | None, processes: int, worker: bool, tell: Tell | None
) -> None:
    """Serve until told to stop; `tell` hears the address first.

    Raises:
        SettingsError: a setting is missing or wrong, or the schema cannot be used.
    """
    settings.required()
    settings.api_keys()
    settings.old_shop()
    settings.webhook()
    configure_logging(settings.log_level, settings.log_format)
    _allow_connections()
    asyncio.run(_preflight(settings))
    address = free_address(host or settings.host, settings.port if port is None else port)
    config = _config(settings, address, processes=processes, worker=worker)
    if tell is not None:
        tell({"url": url_of(*address)})
    if processes > 1:
        Multiprocess(config, sockets=[config.bind_socket()]).run()
        return
    server = uvicorn.Server(config)
    server.run()
    if not server.started:
        raise SettingsError("the service did not start; the lines above say why.")


def _config(settings: Settings, address: tuple[str, int], *, processes: int, worker: bool) -> uvicorn.Config:
    if processes > 1:
        os.environ[_WORKER] = "on" if worker else "off"
    alone = worker and processes == 1
    return uvicorn.Config(
        # Several processes are started anew, and take nothing along but the name of what to call.
        f"{__name__}:application" if processes > 1 else partial(_application, settings, worker=worker, alone=alone),
        factory=True,
        http=BoundedHttp,
        ws="none",
        host=address[0],
        port=address[1],
        workers=processes,
        log_config=uvicorn_log_config(settings.log_level, settings.log_format),
        access_log=False,
        server_header=False,
        lifespan="on",
        forwarded_allow_ips=settings.trusted_proxies,
        proxy_headers=bool(settings.trusted_proxies),
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def application() -> Application:
    """The application of one of several processes, from the environment."""
    settings = Settings.from_env()
    configure_logging(settings.log_level, settings.log_format)
    return _application(settings, worker=os.environ.get(_WORKER) != "off", alone=False)


def _application(settings: Settings, *, worker: bool, alone: bool) -> Application:
    tulbur = Tulbur(settings, worker=worker, alone=alone)
    for number in (signal.SIGINT, signal.SIGTERM):
        _end_streams_on(number, tulbur)
    return Application(tulbur)


def _end_streams_on(number: signal.Signals, tulbur: Tulbur) -> None:
    """The server waits for its connections before it tells the application to stop; a live page's would never end."""
    before = signal.getsignal(number)

    def handle(signum: int, frame: FrameType | None) -> None:
        tulbur.live.close()
        if callable(before):
            before(signum, frame)

    signal.signal(number, handle)


def work(settings: Settings, *, tell: Tell | None) -> None:
    """Do background work until told to stop; `tell` hears when it has begun.

    Raises:
        SettingsError: a setting is missing or wrong, or the schema cannot be used.
    """
    settings.required()
    settings.webhook()
    configure_logging(settings.log_level, settings.log_format)
    asyncio.run(_preflight(settings))
    asyncio.run(_work(settings, tell))


async def _work(settings: Settings, tell: Tell | None) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    async with Tulbur(settings, alone=False):
        if tell is not None:
            tell({"status": "working"})
        await told.wait()


def _allow_connections() -> None:
    """A process may usually hold 1024 files open, fewer than there can be live pages; it may ask for more itself."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415 - not on every platform

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MOST_FILES if most == resource.RLIM_INFINITY else min(MOST_FILES, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


async def _preflight(settings: Settings) -> None:
    # Before any process is started: one sentence here instead of the same failure in each of them.
    spool = open_spool(settings)
    if spool is not None:
        await spool.start()
        await spool.stop()
    store, path = open_store(settings), sqlite_path(settings.database_url)
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise SettingsError(f"DATABASE_URL: {path} can be no file: make its directory, or correct the path.")
    try:
        await store.start()
    except StoreUnavailable as silent:
        if spool is not None:
            return  # each process says so, and goes on
        raise StoreUnavailable(f"DATABASE_URL: {path or 'the database'}: {silent.message}") from silent
    await store.stop()
