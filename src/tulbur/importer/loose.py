"""Orders that exist and that no processed invoice names: the old shop was killed between two of its writes.

One that matches a session in payer, shop and total, made in the session's time, is taken for its own: the payer must
not get the same thing twice. Every such finding is in the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tulbur.core.money import Mongo
from tulbur.core.moving import OldSession, order_totals
from tulbur.core.old_cart import old_money, old_text
from tulbur.core.session import SECOND, Micros
from tulbur.errors import Invalid
from tulbur.importer.report import Report
from tulbur.importer.rows import Row, id_of, micros, plain
from tulbur.importer.sources import Source

MARGIN_SECONDS: Final = 60
"""How long after its last trace on the session the old shop may have written an order."""

_FOUND: Final = "orders that no processed invoice names are taken for its own"


async def with_loose_orders(
    source: Source, report: Report, read: Sequence[OldSession], used: set[str]
) -> Sequence[OldSession]:
    """The sessions as they are, with the loose orders that match them; `used` are the ones of earlier batches."""
    missing = {old.id: _missing(old) for old in read}
    users = list(dict.fromkeys(old.user_id for old in read if missing[old.id]))
    by_user = _by_user(await source.orders_of(users) if users else [])
    candidates = {old.id: _matching(old, missing[old.id], by_user.get(old.user_id, [])) for old in read}
    wanted = list(dict.fromkeys(id_ for found in candidates.values() for ids in found.values() for id_ in ids))
    if wanted:
        used.update(await source.named(wanted))
    return [_attached(report, old, candidates[old.id], used) for old in read]


def _missing(old: OldSession) -> Mapping[str, Mongo]:
    """What each shop without an order would have to deliver for."""
    if "" in old.orders:
        return {}
    return {shop: total for shop, total in order_totals(old).items() if shop not in old.orders}


@dataclass(frozen=True, slots=True)
class _Order:
    id: str
    shop: str
    total: Mongo
    made_at: Micros


def _by_user(rows: Sequence[Row]) -> Mapping[str, Sequence[_Order]]:
    found: dict[str, list[_Order]] = {}
    for row in rows:
        try:
            user, shop = (old_text(plain(row.get(name)), name) for name in ("userId", "shopId"))
            total = old_money(plain(row.get("total")), "total")
            made_at = micros(row.get("createdAt"), "createdAt")
        except Invalid:
            continue
        if made_at is not None:
            found.setdefault(user, []).append(_Order(id_of(row), shop, total, made_at))
    return found


def _matching(old: OldSession, missing: Mapping[str, Mongo], orders: Sequence[_Order]) -> Mapping[str, list[str]]:
    until = max(old.updated_at, old.processed_at or 0) + MARGIN_SECONDS * SECOND
    found: dict[str, list[str]] = {}
    for order in orders:
        if missing.get(order.shop) == order.total and old.created_at <= order.made_at <= until:
            found.setdefault(order.shop, []).append(order.id)
    return found


def _attached(report: Report, old: OldSession, found: Mapping[str, Sequence[str]], used: set[str]) -> OldSession:
    mine = {}
    for shop, ids in found.items():
        free = next((id_ for id_ in ids if id_ not in used), None)
        if free is not None:
            used.add(free)
            mine[shop] = free
    if not mine:
        return old
    report.noted(old.id, _FOUND, ", ".join(f"{id_} (shop {shop})" for shop, id_ in mine.items()))
    return replace(old, orders={**old.orders, **mine})
