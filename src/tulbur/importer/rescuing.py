"""Ask QPay, slowly, about every session the old shop left without orders; and the account of all that came from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tulbur.core.custody import Custody
from tulbur.core.money import format_tugrik
from tulbur.core.session import Session, Status
from tulbur.importer.report import Report
from tulbur.payments.desk import Desk
from tulbur.payments.moving import Rescue, needs_rescue, old_sessions, rescue

_AMISS: Final = frozenset({Rescue.UNPROVEN, Rescue.SILENT, Rescue.WAITS})
_WOULD: Final = "QPay would be asked"
_PARTS: Final = ("received", "ordered", "held", "refund_due", "refunded")


async def rescue_all(
    desk: Desk, *, pause: Callable[[], Awaitable[None]], dry_run: bool, progress: Callable[[int], None] = lambda _: None
) -> Report:
    """One question for each session that needs one, with a `pause` before it, one after the other."""
    report = Report("rescue")
    async for session in old_sessions(desk):
        if session.claim is None or not needs_rescue(session):
            continue
        report.row_read(session.amount, session.currency)
        done = _WOULD
        if not dry_run:
            await pause()
            done = (await rescue(desk, session)).value
        report.row_done(session.claim.status, done, session.amount, session.currency)
        if done in _AMISS:
            report.amiss(session.id, done)
        progress(report.read)
    return report


@dataclass
class Account:
    """What all sessions of the old shop's have come to, by the old shop's word for them, and QPay's money in them."""

    states: Counter[tuple[str, str]] = field(default_factory=Counter)
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    parts: Counter[str] = field(default_factory=Counter)
    order_sets: int = 0

    def add(self, session: Session) -> None:
        status = session.claim.status if session.claim else ""
        self.states[status, state_of(session)] += 1
        self.asked[state_of(session), session.currency] += session.amount
        self.order_sets += bool(session.orders)
        for part in _PARTS:
            self.parts[part] += session.sum(part)

    @property
    def balances(self) -> bool:
        """Whether all money that was received is ordered, held, due back or given back."""
        return self.parts["received"] == sum(self.parts[part] for part in _PARTS[1:])

    def as_json(self) -> Mapping[str, Any]:
        by_status: dict[str, dict[str, int]] = {}
        for (status, state), count in sorted(self.states.items()):
            by_status.setdefault(status, {})[state] = count
        money: dict[str, dict[str, str]] = {}
        for (state, currency), amount in sorted(self.asked.items()):
            money.setdefault(state, {})[currency] = format_tugrik(amount)
        return {
            "sessions": self.states.total(),
            "order_sets": self.order_sets,
            "by_status": by_status,
            "amounts": money,
            "received_at_qpay": {part: format_tugrik(self.parts[part]) for part in _PARTS},
            "balances": self.balances,
        }


async def account(desk: Desk) -> Account:
    """Every session that came from the old shop."""
    total = Account()
    async for session in old_sessions(desk, paid=True):
        total.add(session)
    return total


def state_of(session: Session) -> str:
    """Where one of them stands, in words."""
    claim = session.claim
    if session.status is Status.PAID:
        ours = claim is None or session.sum("ordered") > 0
        return "ordered, paid at QPay" if ours else "ordered by the old shop"
    if session.custody is Custody.FOLLOWED:
        return "for a person" if claim and claim.review else "followed"
    if session.custody is Custody.HANDED_OVER:
        return "handed over"
    return f"{session.status.value.lower()}, without orders"
