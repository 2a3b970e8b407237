"""What operators and their machines ask: is the process alive, can it serve, what does it count."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from tulbur.core.session import SECOND
from tulbur.errors import SettingsError
from tulbur.web.parts import WebParts

CHECK_SECONDS: Final = 2.0
"""How long a check may take; what is slower is as good as down."""

REFRESH_SECONDS: Final = 5
"""The stored counts behind the gauges are read at most this often."""


def operation_routes(parts: WebParts) -> list[BaseRoute]:
    operations = _Operations(parts)
    return [
        Route("/healthz", operations.healthz, methods=["GET"]),
        Route("/readyz", operations.readyz, methods=["GET"]),
        Route("/metrics", operations.metrics, methods=["GET"]),
    ]


class _Operations:
    def __init__(self, parts: WebParts) -> None:
        self._parts = parts
        self._checking: asyncio.Task[dict[str, str]] | None = None
        self._shown_at: int | None = None

    async def healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(self, _: Request) -> Response:
        """Without the database nothing can be promised; without cache or QPay it is only slower.

        With a spool callbacks are taken all the same: an address that is left alone would take none.
        """
        checks = await self._checks()
        spooling = checks["schema"] == "unknown" and checks.get("spool") == "ok"
        if checks["schema"] != "ok" and not spooling:
            status = "unready"
        else:
            status = "ready" if all(check == "ok" for check in checks.values()) else "degraded"
        body = {"status": status, "checks": checks, "cache_kind": self._parts.cache_kind}
        return JSONResponse(body, 503 if status == "unready" else 200)

    async def _checks(self) -> dict[str, str]:
        """One round of checks at a time, however many ask."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check())
        return await asyncio.shield(self._checking)

    async def _check(self) -> dict[str, str]:
        schema, cached = await asyncio.gather(self._schema(), _works(self._parts.cache.ping))
        spool = self._parts.payments.desk.spool
        spooling = {} if spool is None else {"spool": "ok" if await _works(spool.ping) else "down"}
        return {
            "database": "down" if schema == "unknown" else "ok",
            "schema": schema,
            "cache": "ok" if cached else "down",
            "provider": "ok" if self._parts.provider.answering() else "not answering",
            **spooling,
        }

    async def _schema(self) -> str:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self._parts.ping_store()
        except SettingsError:
            return "unusable"
        except Exception:  # noqa: BLE001 - a check that breaks has answered
            return "unknown"
        return "ok"

    async def metrics(self, _: Request) -> Response:
        await _works(self._shown)
        return Response(self._parts.telemetry.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _shown(self) -> bool:
        now = self._parts.clock()
        if self._shown_at is None or not 0 <= now - self._shown_at < REFRESH_SECONDS * SECOND:
            self._shown_at = now
            self._parts.telemetry.show(await self._parts.store.stats(now))
        return True


async def _works(check: Callable[[], Awaitable[bool]]) -> bool:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check()
    except Exception:  # noqa: BLE001 - a check that breaks has answered
        return False
