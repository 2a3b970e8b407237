"""The old shop's routes (SEED_API=on), so that its front end and its gateway go on as they are.

The user always comes from the token. What a route does is one use case; only names and shapes are the old ones.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from tulbur.core.schedule import may_ask
from tulbur.core.session import Reason, Session, Status
from tulbur.errors import (
    AlreadyPaid,
    BadRequest,
    Conflict,
    Forbidden,
    IdempotencyMismatch,
    IdempotencyRunning,
    Invalid,
    NotFound,
    ProviderUnavailable,
    SessionExists,
    Unauthorized,
)
from tulbur.web.body import read_object
from tulbur.web.parts import WebParts
from tulbur.web.seed_intake import Seed, internal_seed, public_seed
from tulbur.web.seed_parts import QPAY_SILENT, Endpoint, SeedParts, failures
from tulbur.web.seed_shapes import ebarimt_shape, seeded, status_of, status_shape, unknown_status
from tulbur.web.seed_webhook import Webhook

PUBLIC: Final = ("", "/api", "/order/api")
INTERNAL: Final = ("/api/internal", "/order/api/internal")
"""Where the old gateway and the service behind it listened."""

LONGEST_CALLBACK: Final = 254 - len("?qpay_payment_id=") - 36
"""What QPay's limit leaves of a callback address beside the longest payment id it is known to make."""

_SESSION_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FOREIGN: Final = "Access denied: This session does not belong to you"


def seed_routes(parts: WebParts) -> list[BaseRoute]:
    """Every route with all its old addresses; none while SEED_API is off."""
    if parts.seed is None:
        return []
    seeding, paying, webhook = _Seeding(parts, parts.seed), _Paying(parts, parts.seed), Webhook(parts, parts.seed)
    hook = ("GET", "POST")
    found: list[BaseRoute] = []
    for at in PUBLIC:
        found += [
            _route(f"{at}/payments/qpay/seed-session", "success", seeding.public, "POST"),
            _route(f"{at}/payments/qpay/webhook", "success", webhook.public, *hook),
            _route(f"{at}/payments/qpay/status", "ok", paying.status, "GET"),
            _route(f"{at}/payments/qpay/cancel", "ok", paying.cancel, "POST"),
            _route(f"{at}/payments/qpay/ebarimt", "ok", paying.ebarimt, "GET"),
        ]
    for at in INTERNAL:
        found += [
            _route(f"{at}/payments/qpay/seed-session", "success", seeding.internal, "POST"),
            _route(f"{at}/payments/qpay/webhook", "success", webhook.internal, *hook),
        ]
    return found


def _route(path: str, flag: str, endpoint: Endpoint, *methods: str) -> Route:
    """A route with an endpoint of its own, by which the log knows its address."""
    route = Route(path, failures(flag, endpoint), methods=list(methods))
    # Starlette adds HEAD to every GET; a link checker must not count as QPay.
    route.methods = set(methods)
    return route


class _Seeding:
    """Opening a checkout."""

    def __init__(self, parts: WebParts, seed: SeedParts) -> None:
        self._parts = parts
        self._seed = seed

    async def public(self, request: Request) -> Response:
        user_id = await self._seed.tokens.user(request)
        if self._seed.prices is None and not self._seed.unverified_prices:
            raise BadRequest("Checkouts from a browser are off: nothing verifies their prices (PRICE_URL is not set)")
        return await self._seeded(public_seed(await read_object(request), user_id), verify=True)

    async def internal(self, request: Request) -> Response:
        if not self._seed.is_internal(request, self._parts.trusted_proxies):
            raise Unauthorized("Authentication required")
        return await self._seeded(internal_seed(await read_object(request)), verify=False)

    async def _seeded(self, seed: Seed, *, verify: bool) -> Response:
        request = seed.open_request(self._parts.policy)
        known = seed.session_id is not None and await self._is_known(seed, seed.session_id)
        if verify and not known and self._seed.prices is not None:
            await self._seed.prices.verify(seed, request.discount)
        try:
            session = await self._parts.payments.open(request)
        except (IdempotencyMismatch, SessionExists):
            raise _other_content() from None  # somebody was faster, and said something else
        except IdempotencyRunning:
            raise Conflict("This checkout is being opened; ask again in a moment") from None
        body = seeded(session, self._parts.links)
        if body is None:
            return JSONResponse({"success": False, "error": QPAY_SILENT, "sessionId": session.id}, 502)
        return JSONResponse(body)

    async def _is_known(self, seed: Seed, session_id: str) -> bool:
        """Whether this very checkout was opened before.

        Raises:
            BadRequest: the id cannot be one of ours.
            Forbidden: it is another user's.
            Conflict: it is another checkout: an invoice that was shown is never for another amount.
        """
        if not _SESSION_ID.fullmatch(session_id) or len(self._parts.links.callback_url(session_id)) > LONGEST_CALLBACK:
            raise BadRequest("sessionId must be 1 to 64 letters, digits, - or _, and fit into QPay's callback address")
        stored = await self._parts.store.get(session_id)
        if stored is None:
            return False
        if stored.user_id != seed.user_id:
            raise Forbidden(_FOREIGN)
        if stored.body_digest != seed.digest:
            raise _other_content()
        return True


def _other_content() -> Conflict:
    return Conflict("This sessionId belongs to another checkout; send a new one")


class _Paying:
    """What the owner of a session sees of it, and giving it up."""

    def __init__(self, parts: WebParts, seed: SeedParts) -> None:
        self._parts = parts
        self._seed = seed

    async def status(self, request: Request) -> Response:
        """The state, after asking QPay where the payer waits: at most once per 10 s and session."""
        user_id, session_id = await self._asked_for(request)
        try:
            session = await self._owned(session_id, user_id)
        except NotFound:
            return JSONResponse(unknown_status(session_id))
        if session.status is Status.PENDING and may_ask(session, Reason.PAYER, self._parts.clock()):
            with contextlib.suppress(ProviderUnavailable):
                session = await self._parts.payments.check(session_id, Reason.PAYER)
        return JSONResponse(status_shape(session))

    async def ebarimt(self, request: Request) -> Response:
        user_id, session_id = await self._asked_for(request)
        return JSONResponse(ebarimt_shape(await self._owned(session_id, user_id)))

    async def cancel(self, request: Request) -> Response:
        user_id = await self._seed.tokens.user(request)
        body = await read_object(request)
        session_id = _named(body.get("sessionId"), "sessionId is required in request body")
        before = await self._owned(session_id, user_id)
        try:
            session = await self._parts.payments.cancel(session_id, by="the payer")
        except AlreadyPaid:
            return _too_late()
        if session.status is Status.CANCELLED:
            said = "Payment cancelled" if before.status is Status.PENDING else "Payment already cancelled"
        else:
            said = "Payment session had expired already"
        return JSONResponse({"ok": True, "message": said, "sessionId": session_id, "status": status_of(session)})

    async def _asked_for(self, request: Request) -> tuple[str, str]:
        user_id = await self._seed.tokens.user(request)
        return user_id, _named(request.query_params.get("sessionId"), "sessionId query parameter is required")

    async def _owned(self, session_id: str, user_id: str) -> Session:
        """The session, if it is the user's.

        Raises:
            NotFound, Forbidden
        """
        if len(session_id) > 100 or not session_id.isprintable():
            raise NotFound("Session not found")
        try:
            session = await self._parts.payments.get(session_id)
        except NotFound:
            raise NotFound("Session not found") from None
        if session.user_id != user_id:
            raise Forbidden(_FOREIGN)
        return session


def _too_late() -> Response:
    return JSONResponse({"ok": False, "error": "Cannot cancel: Order already created", "status": "PROCESSED"}, 400)


def _named(value: Any, otherwise: str) -> str:  # noqa: ANN401 - whatever was sent
    """A session id as it was sent.

    Raises:
        BadRequest: there is none; `otherwise` says so.
        Invalid: it is no text.
    """
    if value is None or value == "":
        raise BadRequest(otherwise)
    if not isinstance(value, str):
        raise Invalid("sessionId must be a text")
    return value
