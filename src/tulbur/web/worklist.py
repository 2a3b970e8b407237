"""The list of work: payments that wait for somebody's decision, in pages, and one of them when it is closed."""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

from tulbur.core import session as core
from tulbur.errors import Invalid
from tulbur.ports import Disposition, ListedPayment, PaymentQuery, Store, Unmatched
from tulbur.web import models
from tulbur.web.fields import plain, tugrik
from tulbur.web.models import Page
from tulbur.web.shapes import as_time

MOST_ID: Final = 100
"""Characters of a payment id in a cursor."""


async def payment_page(
    store: Store, disposition: Disposition | None, cursor: str | None, limit: int
) -> Page[models.ListedPayment]:
    """Payments of one disposition, or of each in turn; the oldest first.

    Raises:
        Invalid: the cursor is none of this list's.
    """
    wanted = list(Disposition) if disposition is None else [disposition]
    after = None
    if cursor is not None:
        at, after = _position(cursor)
        if at not in wanted:
            raise _wrong_cursor()
        wanted = wanted[wanted.index(at) :]
    found: list[tuple[Disposition, ListedPayment]] = []
    while wanted:
        query = PaymentQuery(disposition=wanted[0], cursor=after, limit=limit - len(found))
        found += [(wanted[0], row) for row in await store.payments(query)]
        if len(found) == limit:
            break
        wanted, after = wanted[1:], None
    items = tuple(_listed(kind, row) for kind, row in found)
    return Page(items=items, next_cursor=await _next(store, wanted, found[-1][1]) if wanted else None)


async def _next(store: Store, wanted: list[Disposition], last: ListedPayment) -> str | None:
    """A full page may be the last one: only a look behind it tells."""
    after: tuple[int, str] | None = (last.seen_at, last.payment_id)
    for disposition in wanted:
        if await store.payments(PaymentQuery(disposition=disposition, cursor=after, limit=1)):
            text = f"{wanted[0].value}:{last.seen_at}:{last.payment_id}"
            return urlsafe_b64encode(text.encode()).decode().rstrip("=")
        after = None
    return None


def _position(cursor: str) -> tuple[Disposition, tuple[int, str]]:
    try:
        text = urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)).decode()
        kind, at, payment_id = text.split(":", 2)
        if not re.fullmatch(r"-?[0-9]{1,18}", at) or not 0 < len(payment_id) <= MOST_ID:
            raise _wrong_cursor()
        return Disposition(kind), (int(at), plain(payment_id))
    except (ValueError, binascii.Error):
        raise _wrong_cursor() from None


def _wrong_cursor() -> Invalid:
    message = "must be the next_cursor of a page of this list"
    return Invalid(f"cursor: {message}", fields=[("cursor", message)])


def _listed(disposition: Disposition, row: ListedPayment) -> models.ListedPayment:
    return models.ListedPayment(
        id=row.payment_id,
        disposition=disposition,
        session_id=row.session_id,
        hinted_session_id=row.hinted_session_id or None,
        invoice_id=row.invoice_id or None,
        amount=None if row.amount is None else tugrik(row.amount),
        currency=row.currency,
        status=row.status,
        method=row.method,
        wallet=row.wallet,
        seen_at=as_time(row.seen_at),
        paid_at=as_time(row.paid_at),
        ordered=tugrik(row.ordered),
        refund_due=tugrik(row.refund_due),
        refunded=tugrik(row.refunded),
        held=tugrik(row.held),
        closed_at=as_time(row.closed_at),
        reference=row.note.get("reference"),
        note=row.note.get("note", ""),
        closed_by=row.note.get("by"),
    )


def closed_payment(closed: core.Session | Unmatched, payment_id: str, reference: str) -> models.ListedPayment:
    """A payment that somebody is done with."""
    if isinstance(closed, Unmatched):
        return _closed_unmatched(closed)
    return _closed_in_session(closed, payment_id, reference)


def _closed_unmatched(payment: Unmatched) -> models.ListedPayment:
    return models.ListedPayment(
        id=payment.payment_id,
        disposition=None,
        session_id=None,
        hinted_session_id=payment.hinted_session_id or None,
        invoice_id=payment.invoice_id or None,
        amount=None if payment.amount is None else tugrik(payment.amount),
        currency=payment.currency,
        status=payment.status,
        method=payment.method,
        wallet=payment.wallet,
        seen_at=as_time(payment.seen_at),
        paid_at=as_time(payment.paid_at),
        ordered=tugrik(0),
        refund_due=tugrik(0),
        refunded=tugrik(0),
        held=tugrik(0),
        closed_at=as_time(payment.closed_at),
        reference=payment.note.get("reference"),
        note=payment.note.get("note", ""),
        closed_by=payment.note.get("by"),
    )


def _closed_in_session(session: core.Session, payment_id: str, reference: str) -> models.ListedPayment:
    p = next(p for p in session.payments if p.id == payment_id)
    refund = next(r for r in p.refunds if r.reference == reference)
    return models.ListedPayment(
        id=p.id,
        disposition=Disposition.REFUND_DUE if p.refund_due else None,
        session_id=session.id,
        hinted_session_id=None,
        invoice_id=p.invoice_id or None,
        amount=tugrik(p.amount),
        currency=p.currency,
        status=p.status,
        method=p.method,
        wallet=p.wallet,
        seen_at=as_time(p.seen_at),
        paid_at=as_time(p.paid_at),
        ordered=tugrik(p.ordered),
        refund_due=tugrik(p.refund_due),
        refunded=tugrik(p.refunded),
        held=tugrik(p.held),
        closed_at=as_time(refund.at),
        reference=refund.reference,
        note=refund.note,
        closed_by=refund.by,
    )
