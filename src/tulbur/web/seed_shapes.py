"""The JSON the old shop's routes answer with: its names, its numbers, its dates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tulbur.core.money import Mongo
from tulbur.core.session import Micros, Session, Status
from tulbur.links import Links
from tulbur.web.shapes import session_shape

NOT_FOUND: Final = "SESSION_NOT_FOUND"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EBARIMT: Final[dict[str, Any]] = dict.fromkeys(("status", "receiptId", "qrData", "createdAt", "lastError"))
_STATUS_NAMES: Final = (
    *("invoiceId", "orderIds", "paidAmount", "expectedAmount"),
    *("lastCheckAt", "processedAt"),
)


def seeded(session: Session, links: Links) -> dict[str, Any] | None:
    """A session with its invoice; None while there is no invoice."""
    invoice = session_shape(session, links).invoice
    if invoice is None:
        return None
    return {
        "success": True,
        "sessionId": session.id,
        "ttlSec": session.cache_seconds,
        "invoice": {
            "invoiceId": invoice.id,
            "qrText": invoice.qr_text,
            "qrImage": invoice.qr_image,
            "shortUrl": invoice.short_url,
            "deeplinks": [link.model_dump() for link in invoice.links],
        },
    }


def status_of(session: Session) -> str:
    return "PROCESSED" if session.status is Status.PAID else session.status.value


def status_shape(session: Session) -> dict[str, Any]:
    received = session.sum("received")
    return {
        "ok": True,
        "sessionId": session.id,
        "status": status_of(session),
        "invoiceId": invoice_id(session),
        "orderIds": order_ids(session) or None,
        "paidAmount": number(received) if received else None,
        "expectedAmount": number(session.amount),
        "lastCheckAt": _time(session.last_check_at),
        "processedAt": _time(session.paid_at),
    }


def unknown_status(session_id: str) -> dict[str, Any]:
    return {"ok": True, "sessionId": session_id, "status": NOT_FOUND, **dict.fromkeys(_STATUS_NAMES)}


def ebarimt_shape(session: Session) -> dict[str, Any]:
    """Receipts come with a later release: until then there is none, for any session."""
    paid = next((payment.id for payment in session.payments if payment.received), None)
    return {
        "ok": True,
        "sessionId": session.id,
        "status": status_of(session),
        "invoiceId": invoice_id(session),
        "paymentId": paid,
        "ebarimt": dict(_EBARIMT),
    }


def invoice_id(session: Session) -> str | None:
    """The invoice to pay, else the latest there is."""
    shown = session.payable or next(reversed(session.asked_about), None)
    return shown.id if shown else None


def order_ids(session: Session) -> list[str]:
    return [order.id for order in session.orders]


def number(amount: Mongo) -> int | float:
    """Tugrik as a JSON number; whole but where a payer paid a fraction."""
    whole, rest = divmod(amount, 100)
    return amount / 100 if rest else whole


def _time(at: Micros | None) -> str | None:
    if at is None:
        return None
    return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
