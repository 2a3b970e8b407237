"""Orders that exist and that no processed invoice names: the old shop was killed between two of its writes.

One that matches a session in payer, shop and total, made in the session's time, is taken for its own: the payer must
not get the same thing twice. Every such finding is in the report. An order counts for one session, and stays with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tulbur.core.money import Mongo
from tulbur.core.moving import OLD_TTL_SECONDS, OldSession, order_totals
from tulbur.core.old_cart import old_money, old_text
from tulbur.core.old_orders import totals_of
from tulbur.core.session import SECOND, Micros, Session
from tulbur.errors import Invalid
from tulbur.importer.report import Report
from tulbur.importer.rows import Row, id_of, micros, plain
from tulbur.importer.sources import MOST_ORDERS, Source
from tulbur.payments.desk import Desk
from tulbur.payments.moving import Left
from tulbur.ports import MOST_ROWS, SessionQuery

MARGIN_SECONDS: Final = 60
"""How long after its last trace on the session the old shop may have written an order."""

LONGEST_KEY_SECONDS: Final = 86_400
"""How far back a Redis key's session may have begun; the key itself tells only its end."""

_FOUND: Final = "orders that no processed invoice names are taken for its own"
_NAMED: Final = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The orders a session lacks, by shop, and when the old shop may have made them."""

    id: str
    user_id: str
    totals: Mapping[str, Mongo]
    since: Micros
    until: Micros


@dataclass(frozen=True, slots=True)
class _Order:
    id: str
    shop: str
    total: Mongo
    made_at: Micros


@dataclass
class Loose:
    """One reading's search; `_holders` tells whose each order is, so that none is counted twice."""

    desk: Desk
    source: Source
    _holders: dict[str, str] = field(default_factory=dict, init=False)

    async def attached(self, report: Report, read: Sequence[OldSession]) -> Sequence[OldSession]:
        """The sessions as they are, with the loose orders that match them."""
        found = await self.find(report, [_wanted(old) for old in read])
        return [replace(old, orders={**old.orders, **found[old.id]}) if found.get(old.id) else old for old in read]

    async def find(self, report: Report, wanted: Sequence[Wanted]) -> Mapping[str, Mapping[str, str]]:
        """The loose orders by session and shop."""
        users = list(dict.fromkeys(each.user_id for each in wanted if each.totals))
        by_user = _by_user(await self._orders_of(users))
        matching = {each.id: _matching(each, by_user.get(each.user_id, [])) for each in wanted}
        await self._learn_holders(
            dict.fromkeys(each.user_id for each in wanted if matching[each.id]),
            dict.fromkeys(order.id for orders in matching.values() for order in orders),
        )
        found = {each.id: self._taken(each, matching[each.id]) for each in wanted}
        for id_, orders in found.items():
            if orders:
                report.noted(id_, _FOUND, ", ".join(f"{order} (shop {shop})" for shop, order in orders.items()))
        return found

    async def _orders_of(self, users: Sequence[str]) -> Sequence[Row]:
        """Where there are more than one reading returns: half of the payers, then the other half."""
        rows = await self.source.orders_of(users) if users else []
        if len(rows) < MOST_ORDERS or len(users) == 1:
            return rows
        middle = len(users) // 2
        return [*await self._orders_of(users[:middle]), *await self._orders_of(users[middle:])]

    async def _learn_holders(self, users: Iterable[str], ids: Iterable[str]) -> None:
        """Whose these are already: a processed invoice's, or a session's that was imported before."""
        for user in users:
            async for session in _of_user(self.desk, user):
                for order in _ids(session.claim.orders if session.claim else {}):
                    self._holders.setdefault(order, session.id)
        if wanted := list(ids):
            self._holders.update(dict.fromkeys(await self.source.named(wanted), _NAMED))

    def _taken(self, wanted: Wanted, orders: Sequence[_Order]) -> Mapping[str, str]:
        mine: dict[str, str] = {}
        for order in sorted(orders, key=lambda o: (self._holders.get(o.id) != wanted.id, o.made_at, o.id)):
            holder = self._holders.get(order.id)
            in_time = holder is None and wanted.since <= order.made_at <= wanted.until
            if order.shop not in mine and (holder == wanted.id or in_time):
                self._holders[order.id] = wanted.id
                mine[order.shop] = order.id
        return mine


def wanted_by_ended(session: Session, left: Left) -> Wanted:
    """What a session that ended in Redis lacks, beside the orders that are known."""
    claim = session.claim
    made = {**(claim.orders if claim else {}), **left.orders}
    totals = totals_of(session) if "" not in made else {}
    return Wanted(
        id=session.id,
        user_id=session.user_id,
        totals={shop: total for shop, total in totals.items() if shop not in made},
        since=session.created_at - OLD_TTL_SECONDS * SECOND,
        until=max(session.expires_at, left.processed_at or 0) + MARGIN_SECONDS * SECOND,
    )


def _wanted(old: OldSession) -> Wanted:
    totals = {} if "" in old.orders else order_totals(old)
    return Wanted(
        id=old.id,
        user_id=old.user_id,
        totals={shop: total for shop, total in totals.items() if shop not in old.orders},
        since=old.created_at - (_key_seconds(old) * SECOND if old.source == "redis" else 0),
        until=max(old.updated_at, old.processed_at or 0) + MARGIN_SECONDS * SECOND,
    )


def _key_seconds(old: OldSession) -> int:
    """How long ago the old shop may have written a key that is still there."""
    told = old.payload.get("ttlSec")
    return min(max(told, OLD_TTL_SECONDS), LONGEST_KEY_SECONDS) if isinstance(told, int) else OLD_TTL_SECONDS


def _by_user(rows: Iterable[Row]) -> Mapping[str, Sequence[_Order]]:
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


def _matching(wanted: Wanted, orders: Sequence[_Order]) -> Sequence[_Order]:
    return [order for order in orders if wanted.totals.get(order.shop) == order.total]


def _ids(orders: Mapping[str, str]) -> Iterable[str]:
    return (id_ for ids in orders.values() for id_ in ids.split(","))


async def _of_user(desk: Desk, user_id: str) -> AsyncIterator[Session]:
    cursor: tuple[Micros, str] | None = None
    while True:
        page = await desk.store.find(SessionQuery(user_id=user_id, cursor=cursor, limit=MOST_ROWS))
        for session in page:
            yield session
        if len(page) < MOST_ROWS:
            return
        cursor = page[-1].created_at, page[-1].id
