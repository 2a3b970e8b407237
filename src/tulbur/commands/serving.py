"""Running the service and the worker as processes: what must be right before the first request, and a graceful end."""

from __future__ import annotations

import asyncio
import os
import signal

import uvicorn

from tulbur.settings import Settings
from tulbur.telemetry import configure_logging, uvicorn_log_config
from tulbur.wiring import Application, Tulbur, open_store

GRACE_SECONDS = 20
"""How long a stopping process finishes requests; every one is bounded below that."""

_WORKER, _HOST, _PORT = "TULBUR_SERVE_WORKER", "HOST", "PORT"


def serve(settings: Settings, *, host: str | None, port: int | None, processes: int, worker: bool) -> None:
    """Serve until told to stop.

    Raises:
        SettingsError: a setting is missing or wrong, or the schema cannot be used.
    """
    settings.required()
    settings.api_keys()
    configure_logging(settings.log_level, settings.log_format)
    asyncio.run(_preflight(settings))
    host, port = host or settings.host, settings.port if port is None else port
    if processes > 1:
        os.environ[_WORKER] = "on" if worker else "off"
        _run("tulbur.commands.serving:application", settings, host, port, processes)
        return
    tulbur = Tulbur(settings, worker=worker, alone=worker)
    _run(Application(tulbur), settings, host, port, 1)


def application() -> Application:
    """The application of one of several processes, from the environment."""
    settings = Settings.from_env()
    configure_logging(settings.log_level, settings.log_format)
    return Application(Tulbur(settings, worker=os.environ.get(_WORKER) != "off", alone=False))


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


def _run(app: object, settings: Settings, host: str, port: int, processes: int) -> None:
    uvicorn.run(
        app,  # type: ignore[arg-type]
        factory=isinstance(app, str),
        host=host,
        port=port,
        workers=processes,
        log_config=uvicorn_log_config(settings.log_level, settings.log_format),
        access_log=False,
        server_header=False,
        lifespan="on",
        forwarded_allow_ips=settings.trusted_proxies or "",
        proxy_headers=bool(settings.trusted_proxies),
        timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=16_384,
    )
