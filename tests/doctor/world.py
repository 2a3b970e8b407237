"""What the doctor says of made-up deployments, and the ways in which a host can fail to answer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiohttp import web

from tulbur.commands.doctor import Finding, examine
from tulbur.settings import IsolatedSettings

SECRET = "never-to-be-shown"

LONGEST_SECONDS = 20
"""However the world is broken, all checks together end within this."""


async def said(**settings: Any) -> list[Finding]:
    """Everything it says; in bounded time, and never with a password."""
    started = time.monotonic()
    found = [finding async for finding in examine(IsolatedSettings.model_validate(settings))]
    assert time.monotonic() - started < LONGEST_SECONDS
    told = repr(found)
    assert SECRET not in told
    assert "of-the-testbed" not in told
    assert "could not be looked at" not in told
    assert all(finding.remedy for finding in found if not finding.ok)
    return found


async def of(check: str, **settings: Any) -> Finding:
    """The one line of a check."""
    [found] = [finding for finding in await said(**settings) if finding.check == check]
    return found


def lines(findings: Sequence[Finding], check: str) -> list[Finding]:
    return [finding for finding in findings if finding.check == check]


@contextlib.asynccontextmanager
async def mute() -> AsyncIterator[int]:
    """A port that takes connections and never says a word."""
    writers: list[asyncio.StreamWriter] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError):
            while await reader.read(4096):
                pass
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def site(answer: Any, ssl_context: Any = None) -> AsyncIterator[int]:
    """A web server that answers everything with one handler."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        listening = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context)
        await listening.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
