"""Open a session: intent before effect, so that a crash or a lost answer at any line leaves something to go on from."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tulbur.core import steps
from tulbur.core.custody import Custody
from tulbur.core.money import Mongo
from tulbur.core.orders import Discount, Item, check_cart
from tulbur.core.session import SECOND, InvoiceState, Reason, Session, Status
from tulbur.core.steps import MOST_ATTEMPTS, InvoiceMade
from tulbur.errors import (
    Conflict,
    IdempotencyMismatch,
    IdempotencyRunning,
    ProviderRefused,
    ProviderUnavailable,
    SessionExists,
    StoreUnavailable,
)
from tulbur.payments.desk import Desk
from tulbur.payments.settling import cancel_superseded, settle
from tulbur.ports import Committed, InvoiceRequest

CREATING_SECONDS: Final = 30
"""How long making an invoice may be under way: QPay's time limit and a margin."""

RECEIVER_CODE: Final = "terminal"
"""What QPay is told of the payer: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequest:
    """A checkout to open; amounts in möngö, `amount` whole tugrik. `scope` is whose Idempotency-Key it is.

    `id` is given by callers whose sessions have a name already; without it one is made.
    """

    id: str | None = None
    user_id: str
    amount: Mongo
    items: tuple[Item, ...] = ()
    discount: Discount | None = None
    shipping: Mapping[str, Any] = field(default_factory=dict)
    shipping_amount: Mongo = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    return_url: str | None = None
    expires_in: int
    cache_seconds: int
    scope: str = ""
    idempotency_key: str | None = None
    body_digest: str = ""


async def open_session(desk: Desk, request: OpenRequest) -> Session:
    """Store the session, then ask QPay for its invoice. A repeat with the same key goes on where the first one ended.

    Raises:
        Invalid: the cart does not add up, or the key was used with another body.
        SessionExists: there is a session of this id, and no key that says it is a repeat.
        IdempotencyRunning: the first request with this key is still under way.
        ProviderUnavailable, ProviderRefused: the session is stored, `session_id` names it; repeat with the same key.
    """
    check_cart(
        amount=request.amount,
        items=request.items,
        discount=request.discount,
        shipping_amount=request.shipping_amount,
    )
    session = _first(desk, request)
    try:
        await desk.store.add(session)
    except SessionExists as exists:
        if request.idempotency_key is None:
            raise
        return await _repeated(desk, request, exists.session_id)
    await desk.told(session)
    return await _invoiced(desk, session.committed(), 1)


def _first(desk: Desk, request: OpenRequest) -> Session:
    now = desk.clock()
    session = Session(
        id=request.id or desk.new_id(),
        user_id=request.user_id,
        amount=request.amount,
        items=request.items,
        discount=request.discount,
        shipping=request.shipping,
        shipping_amount=request.shipping_amount,
        metadata=request.metadata,
        description=request.description,
        return_url=request.return_url,
        scope=request.scope,
        idempotency_key=request.idempotency_key,
        body_digest=request.body_digest,
        created_at=now,
        expires_at=now + request.expires_in * SECOND,
        cache_seconds=request.cache_seconds,
    )
    return steps.opened(
        session,
        sender_invoice_no=desk.links.sender_invoice_no(desk.new_id()),
        deadline=now + CREATING_SECONDS * SECOND,
    )


async def _repeated(desk: Desk, request: OpenRequest, session_id: str) -> Session:
    """The same key again: the session as it is now, with a new attempt at an invoice where none can be shown."""
    before = await desk.stored(session_id)
    if before.body_digest != request.body_digest:
        raise IdempotencyMismatch
    now = desk.clock()
    theirs = before.custody is not Custody.OURS  # handed over: the old shop would not know of another invoice
    if theirs or before.status is not Status.PENDING or before.payable or now >= before.expires_at:
        return before
    latest = before.attempts[-1]
    if latest.state is InvoiceState.CREATING and now < latest.deadline:
        raise IdempotencyRunning
    if not desk.provider.taking_invoices():
        # Nothing would be sent: no attempt is used up.
        raise ProviderUnavailable("QPay has not been answering; it is asked again shortly", session_id=session_id)
    if len(before.attempts) >= MOST_ATTEMPTS:
        raise Conflict("QPay made no invoice in many attempts; open another session")
    after = steps.attempted(
        before,
        sender_invoice_no=desk.links.sender_invoice_no(desk.new_id()),
        now=now,
        deadline=now + CREATING_SECONDS * SECOND,
    )
    if await desk.commit(before, after) is not Committed.WON:
        raise IdempotencyRunning
    return await _invoiced(desk, after.committed(), len(after.attempts))


async def _invoiced(desk: Desk, session: Session, number: int) -> Session:
    """Ask QPay for the invoice of attempt `number` and commit what became of it. Never asked twice for one attempt."""
    if session.asked_about:
        looked = await settle(desk, session.id, Reason.DEADLINE)
        if looked.session.status is not Status.PENDING:
            return looked.session
    try:
        made = await desk.provider.create_invoice(_invoice_request(desk, session, number))
    except ProviderRefused as refusal:
        key = refusal.key
        with contextlib.suppress(StoreUnavailable):
            await desk.step(session.id, lambda s: steps.invoice_refused(s, number, key, desk.clock()))
        refusal.session_id = session.id
        raise
    except ProviderUnavailable as silence:
        with contextlib.suppress(StoreUnavailable):
            await desk.step(session.id, lambda s: steps.invoice_unknown(s, number, desk.clock()))
        silence.session_id = session.id
        raise
    invoiced = await desk.step(
        session.id, lambda s: steps.with_invoice(s, number, _unless_shown(s, made), desk.clock())
    )
    return await cancel_superseded(desk, invoiced)


def _unless_shown(session: Session, made: InvoiceMade) -> InvoiceMade:
    """The invoice without its QR when another one's is shown already: that one may be on its way to a bank app."""
    shown = session.payable
    return made if shown is None or shown.id == made.id else InvoiceMade(id=made.id)


def _invoice_request(desk: Desk, session: Session, number: int) -> InvoiceRequest:
    return InvoiceRequest(
        sender_invoice_no=session.attempts[number - 1].sender_invoice_no,
        receiver_code=RECEIVER_CODE,
        description=session.description or f"Order {session.id}",
        amount=session.amount,
        callback_url=desk.links.callback_url(session.id),
    )
