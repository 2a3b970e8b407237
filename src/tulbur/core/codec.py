"""Session <-> canonical JSON bytes: one session has one spelling, so bytes can be compared and signed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Final, TypeVar, cast

from tulbur.core.custody import Claim, Custody
from tulbur.core.orders import Discount, Item, Order
from tulbur.core.refund import Refund, RefundState, RefundWay
from tulbur.core.session import (
    Asks,
    ExceptionName,
    Hint,
    HintState,
    Invoice,
    InvoiceState,
    Link,
    Look,
    Payment,
    Reason,
    Session,
    Status,
)

FORMAT: Final = 1
"""Grows when an older reader would misread what a newer writer wrote."""

# How the fields that are not plain JSON are read back: a class, an enumeration, or a tuple of either.
_NESTED: Final[Mapping[type, Mapping[str, Any]]] = {
    Session: {
        "items": (Item,),
        "discount": Discount,
        "status": Status,
        "exceptions": frozenset((ExceptionName,)),
        "attempts": (Invoice,),
        "payments": (Payment,),
        "hints": (Hint,),
        "looks": (Look,),
        "asks": Asks,
        "orders": (Order,),
        "custody": Custody,
        "claim": Claim,
    },
    Order: {"items": (Item,)},
    Invoice: {"links": (Link,), "state": InvoiceState},
    Hint: {"state": HintState},
    Look: {"reason": Reason},
    Payment: {"refunds": (Refund,)},
    Refund: {"way": RefundWay, "state": RefundState},
}

_NOT_STORED: Final = frozenset({"news", "version"})

_FIELDS: Final[Mapping[type, tuple[tuple[str, Any], ...]]] = {
    cls: tuple((f.name, f.default) for f in fields(cls) if f.name not in _NOT_STORED)
    for cls in (Session, Item, Discount, Invoice, Link, Payment, Refund, Hint, Look, Asks, Order, Claim)
}

T = TypeVar("T")


class UnreadableDocument(ValueError):
    """The bytes are not a session this version can read."""


def encode(session: Session) -> bytes:
    """The stored form of a session: canonical JSON, without its version (a column) and its news (rows)."""
    document = {"format": FORMAT, **cast("dict[str, Any]", _plain(session))}
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def decode(document: bytes, version: int) -> Session:
    """Read back what `encode` wrote.

    Raises:
        UnreadableDocument: not such bytes, or written by a newer version of tulbur.
    """
    try:
        values = json.loads(document)
        if values.pop("format") != FORMAT:
            raise UnreadableDocument("written by a newer version of tulbur")
        return _built(Session, {**values, "version": version})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as broken:
        raise UnreadableDocument(str(broken)) from broken


def _plain(value: object) -> object:
    """Dataclasses become objects without the fields that hold their default; sets become sorted lists."""
    known = _FIELDS.get(type(value))
    if known is not None:
        out = {
            name: _plain(item)
            for name, default in known
            if (item := getattr(value, name)) != default or default is MISSING
        }
        return _shorter(value, out) if isinstance(value, Invoice) else out
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, frozenset):
        return sorted(value)
    return value


def _shorter(invoice: Invoice, out: dict[str, Any]) -> dict[str, Any]:
    # Every bank link repeats the QR text; one copy of it is a third of the document. A link is stored as the pieces
    # around it.
    if invoice.links:
        out["links"] = [[a.name, a.description, a.logo, *_pieces(a.link, invoice.qr_text)] for a in invoice.links]
    return out


def _pieces(link: str, qr_text: str) -> list[str]:
    return link.split(qr_text) if qr_text else [link]


def _built(cls: type[T], values: Mapping[str, Any]) -> T:
    nested = _NESTED.get(cls, {})
    if cls is Invoice:
        values = {
            **values,
            "links": [_link(row, values.get("qr_text", "")) for row in values.get("links", ())],
        }
    return cls(**{name: _read(nested.get(name), value) for name, value in values.items()})


def _link(row: object, qr_text: str) -> Mapping[str, str]:
    name, description, logo, *pieces = cast("list[str]", row)
    return {"name": name, "description": description, "logo": logo, "link": qr_text.join(pieces)}


def _read(kind: Any, value: Any) -> Any:  # noqa: ANN401 - JSON in, any field out
    if kind is None:
        return value
    if isinstance(kind, tuple):
        return tuple(_read(kind[0], item) for item in value)
    if isinstance(kind, frozenset):
        return frozenset(_read(next(iter(kind)), item) for item in value)
    return _built(kind, value) if kind in _FIELDS else kind(value)
