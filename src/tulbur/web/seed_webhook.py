"""The old shop's webhook: a hint like QPay's own callback, answered with what is known after it.

Nothing in its body counts as proof. It enters by the door of every callback, so a payment it names is durable before
the answer, and orders follow QPay's own word.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from tulbur.core.custody import is_adoptable
from tulbur.core.moving import digest_of, is_old_token
from tulbur.core.session import Reason, Session, Status
from tulbur.core.steps import knows
from tulbur.errors import BadRequest, ProviderUnavailable, SourceUnavailable, StoreUnavailable, TooLarge
from tulbur.payments.following import known
from tulbur.web.body import is_json, parse, read_bytes
from tulbur.web.callbacks import PAYMENT_ID, payment_id_of
from tulbur.web.parts import WebParts
from tulbur.web.seed_parts import SeedParts
from tulbur.web.seed_shapes import invoice_id, number, order_ids

LONGEST_ID: Final = 100
LONGEST_OLD_TOKEN: Final = 255

MOST_UNVERIFIED: Final = 1000
"""Hints kept by one process while nobody can tell whether their tokens are right."""

_PAYMENT_NAMES: Final = ("qpay_payment_id", "payment_id")
_SESSION_NAMES: Final = ("sender_invoice_no", "sessionId")


class Webhook:
    """Both doors: the public one, where the token in the address is the permission, and the gateway's."""

    def __init__(self, parts: WebParts, seed: SeedParts) -> None:
        self._parts = parts
        self._seed = seed
        self._unverified = 0

    async def public(self, request: Request) -> Response:
        return await self._timed(request, trusted=False)

    async def internal(self, request: Request) -> Response:
        return await self._timed(request, trusted=self._seed.is_internal(request, self._parts.trusted_proxies))

    async def _timed(self, request: Request, *, trusted: bool) -> Response:
        started = time.perf_counter()
        outcome = "failed"
        try:
            outcome, response = await self._answer(request, trusted=trusted)
        except (BadRequest, TooLarge):
            outcome = "malformed"
            raise
        finally:
            self._parts.telemetry.called_back(outcome, time.perf_counter() - started)
        return response

    async def _answer(self, request: Request, *, trusted: bool) -> tuple[str, Response]:
        session_id = _told(request.query_params.get("sessionId"))
        token = request.query_params.get("token", "")
        try:
            if session_id and not trusted and not await self._may_call(session_id, token):
                return "forged", JSONResponse({"ok": False, "reason": "INVALID_CALLBACK_TOKEN"}, 403)
        except SourceUnavailable:
            return await self._kept_unverified(request, session_id)
        except StoreUnavailable:
            return await self._kept_unverified(request, session_id, digest_of(token))
        if request.method == "GET" and session_id:
            outcome = await self._parts.payments.callback(session_id, await payment_id_of(request))
            return outcome, PlainTextResponse("SUCCESS")
        body = await _body(request)
        if not session_id and trusted:
            session_id = _first(_payload(body), _SESSION_NAMES)
        if not session_id:
            return "malformed", JSONResponse(await self._nameless(body, trusted=trusted))
        return await self._settled(session_id, body, _payment_id(request, body))

    async def _may_call(self, session_id: str, token: str) -> bool:
        """Our token, or the one the old shop gave QPay for a session that was imported: its invoices go on calling."""
        if self._parts.links.is_callback_token(session_id, token):
            return True
        if not token or len(token) > LONGEST_OLD_TOKEN:
            return False
        session = await known(self._parts.payments.desk, session_id)
        self._unverified = 0
        return session is not None and is_old_token(session, token)

    async def _kept_unverified(self, request: Request, session_id: str, token_digest: str = "") -> tuple[str, Response]:
        """Nobody knows the token now. The payment is kept without its session: QPay will tell whose it is.

        With a digest it is the database that does not answer, and the token is checked when the spool is replayed.

        Raises:
            StoreUnavailable: none is named, or too many are kept, or nowhere to keep them.
        """
        if request.method == "GET":
            payment_id = await payment_id_of(request)
            answer: Response = PlainTextResponse("SUCCESS")
        else:
            body = await _body(request)
            payment_id, claimed = _payment_id(request, body), _told(body.get("invoiceId"))
            answer = JSONResponse(_unprocessed("PAYMENT_CHECK_API_FAILED", claimed, session_id))
        if not payment_id or self._unverified >= MOST_UNVERIFIED:
            raise StoreUnavailable("nobody can tell whether the token is right; send it again")
        self._unverified += 1
        return await self._kept(session_id, payment_id, token_digest), answer

    async def _kept(self, session_id: str, payment_id: str, token_digest: str) -> str:
        payments = self._parts.payments
        if token_digest:
            return await payments.desk.spooled(session_id, payment_id, token_digest)
        try:
            await payments.keep_unmatched("", payment_id)
        except StoreUnavailable:
            return await payments.desk.spooled("", payment_id)
        return "unmatched"

    async def _nameless(self, body: Mapping[str, Any], *, trusted: bool) -> dict[str, Any]:
        """Without a session there is nothing to do; the gateway still hears when that invoice has its orders."""
        claimed = _told(body.get("invoiceId"))
        session = await self._parts.store.by_invoice(claimed) if trusted and claimed else None
        if session is not None and session.status is Status.PAID:
            return _shape(session, claimed, "DUPLICATE")
        return _unprocessed("NO_SESSION_ID", claimed, None)

    async def _settled(self, session_id: str, body: Mapping[str, Any], payment_id: str) -> tuple[str, Response]:
        claimed = _told(body.get("invoiceId"))
        # Read without filling the cache: where the callback itself finds the session is counted.
        try:
            before = await self._parts.cache.get(session_id) or await known(self._parts.payments.desk, session_id)
        except (SourceUnavailable, StoreUnavailable):
            outcome = await self._parts.payments.callback(session_id, payment_id)
            return outcome, JSONResponse(_unprocessed("PAYMENT_CHECK_API_FAILED", claimed, session_id))
        if before is None:
            outcome = await self._parts.payments.callback(session_id, payment_id)
            return outcome, JSONResponse(_unprocessed("SESSION_MISSING", claimed, session_id))
        if claimed and _is_foreign(before, claimed):
            return "foreign", JSONResponse(_unprocessed("INVOICE_ID_MISMATCH", claimed, session_id))
        if is_adoptable(before.custody, before.claim) and not before.asked_about and PAYMENT_ID.fullmatch(claimed):
            payment_id = payment_id or claimed  # the key names no invoice; QPay will say whose this one is
        outcome = await self._parts.payments.callback(session_id, payment_id)
        if outcome == "spooled":
            return outcome, JSONResponse(_shape(before, claimed, "PAYMENT_CHECK_API_FAILED"))
        after = await self._parts.payments.desk.stored(session_id)
        # Two that come at once: whoever did not ask finds the payment known, and made nothing itself.
        made, silent = outcome == "paid" or not knows(after, payment_id), False
        if after.status is not Status.PAID and after.last_check_at == before.last_check_at:
            after, silent = await self._asked_again(after)
            made = True
        processed = made and after.status is Status.PAID and before.status is not Status.PAID
        reason = "" if processed else _reason(after, silent=silent)
        return outcome, JSONResponse(_shape(after, claimed, reason))

    async def _asked_again(self, session: Session) -> tuple[Session, bool]:
        """The callback brought no answer of QPay's: ask now, if that is allowed; True when QPay is silent."""
        try:
            after = await self._parts.payments.check(session.id, Reason.CALLBACK)
        except ProviderUnavailable:
            return session, True
        return after, after.status is not Status.PAID and after.asks.busy_until > self._parts.clock()


def _reason(session: Session, *, silent: bool) -> str:
    if session.status is Status.PAID:
        return "DUPLICATE"
    if silent:
        return "PAYMENT_CHECK_API_FAILED"
    return "AMOUNT_MISMATCH" if any(payment.received for payment in session.payments) else "NOT_PAID"


def _is_foreign(session: Session, claimed: str) -> bool:
    """Whether an invoice cannot be this session's: one whose creation got no answer may still have that id."""
    return all(attempt.id not in (None, claimed) for attempt in session.attempts)


def _shape(session: Session, claimed: str, reason: str) -> dict[str, Any]:
    body: dict[str, Any] = {"success": True, "processed": not reason}
    if reason:
        body["reason"] = reason
    return body | {
        "invoiceId": claimed or invoice_id(session),
        "sessionId": session.id,
        "orderIds": order_ids(session),
        "paidAmount": number(session.sum("received")),
    }


def _unprocessed(reason: str, claimed: str, session_id: str | None) -> dict[str, Any]:
    return {
        "success": True,
        "processed": False,
        "reason": reason,
        "invoiceId": claimed or None,
        "sessionId": session_id,
        "orderIds": [],
        "paidAmount": 0,
    }


# --- what it says ----------------------------------------------------------------------------------------------------


async def _body(request: Request) -> Mapping[str, Any]:
    """The JSON object of a webhook; nothing at all, or another kind of body, says nothing.

    Raises:
        BadRequest: it is declared as JSON and is none.
        TooLarge
    """
    body = await read_bytes(request)
    if not body.strip() or not is_json(request):
        return {}
    value = parse(body)
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object")
    return value


def _payload(body: Mapping[str, Any]) -> Mapping[str, Any]:
    payload = body.get("payload")
    return payload if isinstance(payload, dict) else {}


def _payment_id(request: Request, body: Mapping[str, Any]) -> str:
    """The first payment id that is one, of address, body and payload: to be looked up, so a wrong one does no harm."""
    places = (request.query_params, body, _payload(body))
    named = (_first(place, _PAYMENT_NAMES) for place in places)
    return next((value for value in named if PAYMENT_ID.fullmatch(value)), "")


def _first(place: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((told for told in (_told(place.get(name)) for name in names) if told), "")


def _told(value: object) -> str:
    """A short printable text or number, as text; "" for anything else."""
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if len(text) <= LONGEST_ID and text.isprintable() else ""
