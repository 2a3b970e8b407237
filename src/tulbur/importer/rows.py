"""Rows as Prisma wrote them, whatever the database, read as an `OldSession`. Nothing here touches a database.

Null and missing are the same; an id is an ObjectId or a text; a time is what the driver makes of it, UTC.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final, TypeAlias

from tulbur.core.moving import OldSession, OldStatus
from tulbur.core.old_cart import MOST_DEPTH, old_money, old_text
from tulbur.core.session import SECOND, Micros
from tulbur.errors import Invalid

Row: TypeAlias = Mapping[str, Any]

LONGEST_SESSION_ID: Final = 100
LONGEST_CURRENCY: Final = 8
MOST_PAYLOAD: Final = 1024 * 1024
MOST_ORDERS: Final = 1000

UNKNOWN_ORDERS: Final = "whether its orders were made cannot be looked up: there is no table of orders"

_EBARIMT: Final = {"ebarimtStatus": "status", "ebarimtReceiptId": "receiptId", "ebarimtQrData": "qrData"}


@dataclass(frozen=True, slots=True)
class OrderRows:
    """The rows of `orders` by their ids; `readable` is False where the old shop has no such table."""

    rows: Mapping[str, Row]
    readable: bool = True


def id_of(row: Row) -> str:
    """A row's own id, for reports; "" where it has none that can be printed."""
    found = plain(row.get("_id", row.get("id")))
    return str(found)[:LONGEST_SESSION_ID] if isinstance(found, str | int) else ""


def order_ids(processed: Iterable[Row]) -> list[str]:
    """The ids of the orders that these processed invoices name."""
    named: dict[str, None] = {}
    for row in processed:
        listed = plain(row.get("orderIds"))
        if isinstance(listed, str):
            listed = _listed(listed)
        if isinstance(listed, list):
            named.update(dict.fromkeys(str(id_) for id_ in listed[:MOST_ORDERS] if isinstance(id_, str | int) and id_))
    return list(named)


def old_session(row: Row, processed: Sequence[Row], orders: OrderRows, doubt: str = "") -> OldSession:
    """Read one `QPayPaymentSession` with its processed invoices; `doubt` is why they need a person.

    Raises:
        Invalid: it cannot be a session; the sentence holds nothing of the row but the field's name.
    """
    updated = micros(row.get("updatedAt"), "updatedAt") or _born(row)
    created = micros(row.get("createdAt"), "createdAt") or _born(row) or updated
    if created is None or updated is None:
        raise Invalid("createdAt is missing")
    token, status = _text(row, "callbackToken"), _status(row)
    worked_on = bool(processed) or status in (OldStatus.PAID, OldStatus.PROCESSED)
    return OldSession(
        id=_needed(row, "sessionId", LONGEST_SESSION_ID),
        user_id=_needed(row, "userId"),
        amount=_amount(row),
        currency=_text(row, "currency", LONGEST_CURRENCY).upper() or "MNT",
        payload=_payload(row.get("payload")),
        status=status,
        invoice_id=_text(row, "invoiceId"),
        payment_id=_text(row, "paymentId"),
        created_at=created,
        updated_at=updated,
        expires_at=micros(row.get("expiresAt"), "expiresAt"),
        last_check_at=micros(row.get("lastCheckAt"), "lastCheckAt"),
        cancelled_at=micros(row.get("cancelledAt"), "cancelledAt"),
        processed_at=processed_at(processed),
        orders=orders_by_shop(processed, orders),
        doubt=doubt or (_doubt(processed, orders) if worked_on else ""),
        ebarimt={ours: text for name, ours in _EBARIMT.items() if (text := _text(row, name, 4096))},
        token_digest=sha256(token.encode()).hexdigest() if token else "",
    )


def redis_session(
    session_id: str,
    value: bytes,
    *,
    now: Micros,
    ttl_seconds: int | None,
    processed: Sequence[Row],
    orders: OrderRows,
    doubt: str = "",
) -> OldSession:
    """Read the session JSON of one `payment-session:*` key; its times are the key's.

    Raises:
        Invalid: it is none of the old shop's.
    """
    payload = redis_payload(value)
    if "cart" not in payload and "totalAmount" not in payload:
        raise Invalid("no session of the old shop's")
    token = _text(payload, "callbackToken")
    return OldSession(
        id=old_text(session_id, "sessionId", LONGEST_SESSION_ID),
        user_id=_needed(payload, "userId"),
        amount=old_money(payload.get("totalAmount"), "totalAmount"),
        currency="MNT",
        payload=payload,
        status=OldStatus.PENDING,
        invoice_id=_text(payload, "invoiceId"),
        created_at=now,
        updated_at=now,
        expires_at=None if ttl_seconds is None else now + ttl_seconds * SECOND,
        processed_at=processed_at(processed),
        orders=orders_by_shop(processed, orders),
        doubt=doubt or (_doubt(processed, orders) if processed else ""),
        token_digest=sha256(token.encode()).hexdigest() if token else "",
        source="redis",
    )


def redis_payload(value: bytes) -> Mapping[str, Any]:
    """The session JSON of one key; empty when it is none."""
    return _payload(value.decode(errors="replace"))


def processed_at(processed: Iterable[Row]) -> Micros | None:
    """When the old shop was through with a session first."""
    return min((at for p in processed if (at := micros(p.get("processedAt"), "processedAt"))), default=None)


def orders_by_shop(processed: Iterable[Row], orders: OrderRows) -> Mapping[str, str]:
    """The orders these name, by shop: the ones that exist, or all of them where that cannot be looked up.

    "" where the shop is not told, then with every such order's id, so that they can be counted.
    """
    named = order_ids(processed)
    if not orders.readable:
        return {"": ",".join(named)} if named else {}
    found: dict[str, str] = {}
    for id_ in named:
        row = orders.rows.get(id_)
        if row is None:
            continue
        shop = old_text(plain(row.get("shopId")), "shopId")
        if shop:
            found.setdefault(shop, id_)
        else:
            found[""] = f"{found['']},{id_}" if "" in found else id_
    return found


def plain(value: Any, depth: int = MOST_DEPTH + 4) -> Any:  # noqa: ANN401 - whatever a driver returns
    """A driver's value as JSON knows it: an ObjectId is its text, a Decimal128 a Decimal."""
    match value:
        case None | bool() | int() | float() | Decimal() | str() | datetime():
            return value
        case Mapping() if depth:
            return {str(key): plain(item, depth - 1) for key, item in value.items()}
        case list() | tuple() if depth:
            return [plain(item, depth - 1) for item in value]
    if hasattr(value, "to_decimal"):
        return value.to_decimal()
    return None if isinstance(value, Mapping | list | tuple) else str(value)


def micros(value: object, name: str) -> Micros | None:
    """A driver's point in time.

    Raises:
        Invalid: it is none.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise Invalid(f"{name} is not a time") from None
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        since = aware - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**14:
        return value * 1000  # the milliseconds of JavaScript
    raise Invalid(f"{name} is not a time")


def _born(row: Row) -> Micros | None:
    """When an ObjectId was made, where the row has one and says nothing else."""
    return micros(getattr(row.get("_id"), "generation_time", None), "_id")


def _text(row: Row, name: str, longest: int = 255) -> str:
    return old_text(plain(row.get(name)), name, longest)


def _needed(row: Row, name: str, longest: int = 255) -> str:
    text = _text(row, name, longest)
    if not text:
        raise Invalid(f"{name} is missing")
    return text


def _amount(row: Row) -> int:
    return old_money(plain(row.get("amount")), "amount")


def _status(row: Row) -> OldStatus:
    try:
        return OldStatus(_text(row, "status").upper() or "PENDING")
    except ValueError:
        raise Invalid("status is none of the old shop's") from None


def _payload(value: object) -> Mapping[str, Any]:
    """The session JSON, from a document or from text; what is none, or too long, is an empty cart, for a person."""
    for _ in range(2):  # some wrote the text of a text
        if isinstance(value, str):
            value = _json(value)
    found = plain(value)
    fits = isinstance(found, dict) and len(json.dumps(found, default=str)) <= MOST_PAYLOAD
    return found if fits else {}


def _json(text: str) -> object:
    if len(text) > MOST_PAYLOAD:
        return None
    try:
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None


def _doubt(processed: Iterable[Row], orders: OrderRows) -> str:
    """Why it cannot be told whether the old shop, which has worked on a session, made its orders."""
    return "" if orders.readable or order_ids(processed) else UNKNOWN_ORDERS


def _listed(text: str) -> object:
    """Ids in a column of text: JSON, or one after the other between commas."""
    found = _json(text)
    if isinstance(found, list):
        return found
    given = found if isinstance(found, str) else text  # an id of digits alone reads as a number
    return [] if given == "null" else [id_ for each in given.split(",") if (id_ := each.strip(" {}\"'"))]
