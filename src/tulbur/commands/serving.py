"""Running the service and the worker as processes: what must be right before the first request, and a graceful end."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from types import FrameType

import uvicorn
from uvicorn.supervisors import Multiprocess

from tulbur.errors import SettingsError
from tulbur.settings import Settings
from tulbur.telemetry import configure_logging, uvicorn_log_config
from tulbur.wiring import Application, Tulbur, open_store

GRACE_SECONDS = 20
"""How long a stopping process finishes requests; every one is bounded below that."""

_WORKER = "TULBUR_SERVE_WORKER"


def serve(settings: Settings, *, host: str | None, port: int | None, processes: int, worker: bool) -> None:
    """Serve until told to stop.

    Raises:
        SettingsError: a setting is missing or wrong, or the schema cannot be used.
    """
    settings.required()
    settings.api_keys()
    settings.old_shop()
    configure_logging(settings.log_level, settings.log_format)
    asyncio.run(_preflight(settings))
    config = _config(settings, host=host, port=port, processes=processes, worker=worker)
    if processes > 1:
        Multiprocess(config, sockets=[config.bind_socket()]).run()
        return
    server = uvicorn.Server(config)
    server.run()
    if not server.started:
        raise SettingsError("the service did not start; the lines above say why.")


def _config(settings: Settings, *, host: str | None, port: int | None, processes: int, worker: bool) -> uvicorn.Config:
    if processes > 1:
        os.environ[_WORKER] = "on" if worker else "off"
    alone = worker and processes == 1
    return uvicorn.Config(
        # Several processes are started anew, and take nothing along but the name of what to call.
        f"{__name__}:application" if processes > 1 else partial(_application, settings, worker=worker, alone=alone),
        factory=True,
        host=host or settings.host,
        port=settings.port if port is None else port,
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


def work(settings: Settings) -> None:
    """Do background work until told to stop.

    Raises:
        SettingsError: a setting is missing or wrong, or the schema cannot be used.
    """
    settings.required()
    configure_logging(settings.log_level, settings.log_format)
    asyncio.run(_work(settings))


async def _work(settings: Settings) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    async with Tulbur(settings, alone=False):
        await told.wait()


async def _preflight(settings: Settings) -> None:
    # Before any process is started: one sentence here instead of the same failure in each of them.
    store = open_store(settings)
    await store.start()
    await store.stop()
