"""A callback makes a session ours that lives in the old shop's Redis alone, if QPay's own invoice agrees with it.

Whoever can write to that Redis can write such a session, so nothing in it is believed.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, urlsplit

from tulbur.core.moving import adopted
from tulbur.core.schedule import waiting
from tulbur.core.session import Session
from tulbur.core.settling import InvoiceSeen
from tulbur.errors import ProviderError, ProviderRefused
from tulbur.payments.desk import Desk

MOST_HINTS: Final = 5
"""Hinted ids by which one look tries to find the invoice of a session whose key does not name it."""


async def adopt(desk: Desk, session: Session) -> tuple[Session, bool]:
    """Make a followed session ours, or a person's, by what QPay shows of its invoice; True when QPay answered.

    Without an invoice at QPay nothing changes.
    """
    try:
        invoice = await _invoice(desk, session)
    except ProviderError:
        return session, False
    if invoice is None:
        return session, True
    named = _is_named(session.id, invoice)
    after = await desk.step(session.id, lambda stored: adopted(stored, invoice, desk.clock(), named=named))
    return after, True


async def _invoice(desk: Desk, session: Session) -> InvoiceSeen | None:
    """The session's invoice as QPay has it; where its id is not known, the one a hint leads to that names the session.

    Raises:
        ProviderError: QPay did not answer.
    """
    if session.asked_about:
        return await desk.provider.get_invoice(str(session.asked_about[-1].id))
    hinted = [hint.payment_id for hint in waiting(session.hints) if hint.payment_id]
    for id_ in hinted[-MOST_HINTS:]:
        invoice = await desk.provider.get_invoice(await _invoice_id(desk, id_))
        if invoice is not None and _is_named(session.id, invoice):
            return invoice
    return None


async def _invoice_id(desk: Desk, hinted: str) -> str:
    """The invoice of the payment that is named so; where there is none, the name is an invoice's itself."""
    try:
        payment = await desk.provider.get_payment(hinted)
    except ProviderRefused as refusal:
        if refusal.provider_status in (401, 403):
            raise  # it is us whom QPay refuses
        return hinted
    return payment.invoice_id if payment is not None and payment.invoice_id else hinted


def _is_named(session_id: str, invoice: InvoiceSeen) -> bool:
    """Whether QPay has this invoice for the session, by the address it calls, else by the shop's own number."""
    called = parse_qs(urlsplit(invoice.callback_url).query).get("sessionId", [])
    return called == [session_id] if called else invoice.sender_invoice_no == session_id
