"""The application: every route of QPay v2, the control plane and the pages, around one simulator."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tulbur.simulator import api, bank, control
from tulbur.simulator.dispatch import endpoint, unknown_route
from tulbur.simulator.runtime import Simulator

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from tulbur.simulator.dispatch import Call
    from tulbur.simulator.faults import Faults

# (method, path under /v2, name of the operation in faults and logs, what it does)
OPERATIONS: tuple[tuple[str, str, str, Callable[[Call], object]], ...] = (
    ("POST", "auth/token", "token", api.token),
    ("POST", "auth/refresh", "refresh", api.refresh),
    ("POST", "invoice", "invoice_create", api.invoice_create),
    ("GET", "invoice/{id}", "invoice_get", api.invoice_get),
    ("DELETE", "invoice/{id}", "invoice_cancel", api.invoice_cancel),
    ("POST", "payment/check", "payment_check", api.payment_check),
    ("POST", "payment/list", "payment_list", api.payment_list),
    ("GET", "payment/{id}", "payment_get", api.payment_get),
    ("DELETE", "payment/cancel/{id}", "payment_cancel", api.payment_give_back),
    ("DELETE", "payment/refund/{id}", "payment_refund", api.payment_give_back),
    ("POST", "ebarimt_v3/create", "ebarimt_create", api.ebarimt_create),
    ("DELETE", "ebarimt_v3/{id}", "ebarimt_cancel", api.ebarimt_cancel),
    ("POST", "ebarimt/create", "ebarimt_create", api.ebarimt_create),
    ("GET", "ebarimt/{id}", "ebarimt_get", api.ebarimt_get),
    ("GET", "subscription/{id}", "subscription_get", api.subscription_get),
    ("DELETE", "subscription/{id}", "subscription_cancel", api.subscription_cancel),
)


class _NeverAsQPay:
    """Answers 421 when a request believes to have reached a host of QPay's (an edited hosts file, say)."""

    def __init__(self, app: ASGIApp, *, simulator: Simulator) -> None:
        self._app = app
        self._simulator = simulator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._simulator.serves(Headers(scope=scope).get("host")):
            refusal = PlainTextResponse("This is a simulator and never answers for a host of QPay.\n", 421)
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await app.state.simulator.aclose()


def create_simulator(
    *,
    clock: Callable[[], float] = time.time,
    rng: random.Random | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    bank_links: bool = False,
    public_url: str | None = None,
    faults: Faults | Mapping[str, Any] | None = None,
) -> Starlette:
    """A QPay v2 of its own, everything in memory, as an ASGI application.

    Args:
        clock: Now, in epoch seconds.
        rng: Where ids, tokens and QR contents come from; unpredictable by default.
        sleep: Waits the seconds that the fault knobs name.
        bank_links: Let the links of an invoice open the local bank page instead of bank apps.
        public_url: Where people reach this simulator; by default as the request did. Never under qpay.mn.
        faults: What goes wrong from the start, as `PUT /_sim/faults` takes it.

    Raises:
        RefusedHostError: `public_url` is a host of QPay's.

    The simulator is at `app.state.simulator`; `await app.state.simulator.aclose()` stops callbacks under way, which
    the lifespan does by itself where there is one.
    """
    simulator = Simulator(
        clock=clock, rng=rng, sleep=sleep, bank_links=bank_links, public_url=public_url, faults=faults
    )
    app = Starlette(
        routes=[*_qpay_routes(simulator), *control.routes(simulator), *bank.routes(simulator)],
        middleware=[Middleware(_NeverAsQPay, simulator=simulator)],
        lifespan=_lifespan,
    )
    app.state.simulator = simulator
    return app


def _qpay_routes(simulator: Simulator) -> list[Route]:
    known = [
        Route(f"/v2/{path}", endpoint(simulator, name, handler), methods=[method])
        for method, path, name, handler in OPERATIONS
    ]
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return [*known, Route("/v2/{rest:path}", endpoint(simulator, "unknown", unknown_route), methods=methods)]
