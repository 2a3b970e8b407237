"""Session <-> canonical JSON bytes: one session has one spelling, so bytes can be compared and signed.

A document that declares more additions than this release knows may hold fields it does not know: they are kept, and
written again. Anything else that is unknown makes a document unreadable.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from operator import attrgetter
from typing import Any, Final, TypeVar, cast

from tulbur.core.custody import Claim, Custody
from tulbur.core.later import ADDITIONS
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
"""Grows when an older release must not touch what a newer one wrote; it refuses the document then."""

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
    Invoice: {"state": InvoiceState},
    Hint: {"state": HintState},
    Look: {"reason": Reason},
    Payment: {"refunds": (Refund,)},
    Refund: {"way": RefundWay, "state": RefundState, "keys": (str,)},
    **{cls: {} for cls in (Item, Discount, Asks, Claim)},
}

# In the document by other ways than as themselves, or not at all.
_NOT_STORED: Final = frozenset({"news", "version", "additions", "later"})

_NAMES: Final[Mapping[type, frozenset[str]]] = {
    cls: frozenset(f.name for f in fields(cls)) - _NOT_STORED for cls in _NESTED
}

_FIELDS: Final[Mapping[type, tuple[tuple[str, Any], ...]]] = {
    cls: tuple((f.name, f.default) for f in fields(cls) if f.name in names - {"links"}) for cls, names in _NAMES.items()
}

_HELD: Final = {cls: attrgetter(*(name for name, _ in of)) for cls, of in _FIELDS.items()}

_SPELLING: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))

T = TypeVar("T")


class UnreadableDocument(ValueError):
    """The bytes are not a session this version can read."""


def encode(session: Session) -> bytes:
    """The stored form of a session: canonical JSON, without its version (a column) and its news (rows)."""
    document = {"format": FORMAT, **cast("dict[str, Any]", _plain(session))}
    additions = max(session.additions, ADDITIONS)
    if additions:
        document["additions"] = additions
    return _SPELLING.encode(document).encode()


def decode(document: bytes, version: int) -> Session:
    """Read back what `encode` wrote, here or in a later release that only added to it.

    Raises:
        UnreadableDocument: not such bytes, or a later release wrote what this one must not touch.
    """
    try:
        values = json.loads(document)
        if values.pop("format") != FORMAT:
            raise UnreadableDocument("written by a newer version of tulbur")
        additions = values.pop("additions", 0)
        if type(additions) is not int:
            raise UnreadableDocument("additions are counted")
        newer = additions > ADDITIONS
        return _built(Session, values, newer, version=version, additions=additions if newer else 0)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as broken:
        raise UnreadableDocument(str(broken)) from broken


def plain_item(item: Item) -> dict[str, Any]:
    """An item of an order's row: every field, for those who read rows."""
    return {**{name: getattr(item, name) for name, _ in _FIELDS[Item]}, **dict(item.later)}


def read_item(values: Mapping[str, Any]) -> Item:
    """An item of an order's row, whichever release wrote it."""
    return _built(Item, values, newer=True)


def _plain(value: object) -> object:
    """Dataclasses become objects without the fields that hold their default; sets become sorted lists."""
    cls = type(value)
    known = _FIELDS.get(cls)
    if known is not None:
        nested = _NESTED[cls]
        out = {
            name: _plain(item) if name in nested else item
            for (name, default), item in zip(known, _HELD[cls](value), strict=True)
            if item is not default and (default is MISSING or item != default)
        }
        if isinstance(value, Invoice) and value.links:
            out["links"] = _shorter(value)
        if later := cast("Session", value).later:
            out.update(later)
        return out
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, frozenset):
        return sorted(value)
    return value


def _shorter(invoice: Invoice) -> list[list[str]]:
    # Every bank link repeats the QR text; one copy of it is a third of the document. A link is stored as the pieces
    # around it, in a list that no field can be added to.
    return [[a.name, a.description, a.logo, *_pieces(a.link, invoice.qr_text)] for a in invoice.links]


def _pieces(link: str, qr_text: str) -> list[str]:
    return link.split(qr_text) if qr_text else [link]


def _built(cls: type[T], values: Mapping[str, Any], newer: bool, **more: Any) -> T:  # noqa: ANN401 - fields
    names, nested = _NAMES[cls], _NESTED[cls]
    if not values.keys() <= names:
        if not newer:
            raise UnreadableDocument("a field that no release has")
        more["later"] = tuple(sorted((name, value) for name, value in values.items() if name not in names))
        values = {name: value for name, value in values.items() if name in names}
    if "links" in values and cls is Invoice:
        values = {**values, "links": tuple(_link(row, values.get("qr_text", "")) for row in values["links"])}
    for name, kind in nested.items():
        if name in values:
            more[name] = _read(kind, values[name], newer)
    return cls(**{**values, **more})


def _link(row: object, qr_text: str) -> Link:
    name, description, logo, *pieces = cast("list[str]", row)
    return Link(name, description, logo, qr_text.join(pieces))


def _read(kind: Any, value: Any, newer: bool) -> Any:  # noqa: ANN401 - JSON in, any field out
    if isinstance(kind, tuple):
        return tuple(_read(kind[0], item, newer) for item in value)
    if isinstance(kind, frozenset):
        return frozenset(_read(next(iter(kind)), item, newer) for item in value)
    return _built(kind, value, newer) if kind in _NESTED else kind(value)
