"""The certificate of a day: what QPay lists, against what is recorded here, to the möngö and per currency."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tulbur.core.money import Mongo, format_tugrik
from tulbur.core.session import RECEIVED, Micros, Payment, rank
from tulbur.core.settling import SeenPayment


@dataclass(frozen=True, slots=True)
class Difference:
    """One payment on which the two books disagree; `where` names the session, if there is one."""

    payment_id: str
    what: str
    where: str = ""


@dataclass(slots=True)
class Sums:
    """Money of one currency: what QPay lists, and where it is here; `foreign` is counted apart from ours."""

    listed: Mongo = 0
    ordered: Mongo = 0
    refund_due: Mongo = 0
    refunded: Mongo = 0
    held: Mongo = 0
    unmatched: Mongo = 0
    foreign: Mongo = 0

    @property
    def here(self) -> Mongo:
        return self.ordered + self.refund_due + self.refunded + self.held + self.unmatched

    @property
    def balance(self) -> bool:
        return self.listed == self.here + self.foreign


@dataclass(slots=True)
class Certificate:
    """The books of one time, from `start` to before `end`; `trouble` says why it may not be all of it."""

    start: Micros
    end: Micros
    trouble: str = ""
    payments: int = 0
    foreign: int = 0
    sums: dict[str, Sums] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)

    @property
    def proven(self) -> bool:
        balanced = all(sums.balance for sums in self.sums.values())
        return not self.trouble and not self.differences and balanced

    def of(self, currency: str) -> Sums:
        return self.sums.setdefault(currency, Sums())

    def differs(self, payment_id: str, what: str, where: str = "") -> None:
        self.differences.append(Difference(payment_id, what, where))

    def holds(self, at: Micros | None) -> bool:
        return at is not None and self.start <= at < self.end

    def listed(self, seen: SeenPayment) -> None:
        self.payments += 1
        self.of(seen.currency).listed += seen.amount

    def is_foreign(self, seen: SeenPayment) -> None:
        self.foreign += 1
        self.of(seen.currency).foreign += seen.amount

    def is_recorded(self, seen: SeenPayment, payment: Payment, session_id: str) -> None:
        """A payment both know: the parts it is split into, and all that is not the same."""
        sums = self.of(payment.currency)
        sums.ordered += payment.ordered
        sums.refund_due += payment.refund_due
        sums.refunded += payment.refunded
        sums.held += payment.held
        for what in disagreements(seen, payment.amount, payment.currency, payment.status):
            self.differs(seen.id, what, session_id)
        if payment.ordered + payment.refund_due + payment.refunded + payment.held != payment.amount:
            self.differs(seen.id, "its parts here do not add up to it", session_id)

    def is_unmatched(self, seen: SeenPayment, amount: Mongo, currency: str, status: str) -> None:
        """A payment kept here without a session: named, and on the list a person works through."""
        self.of(currency).unmatched += amount
        for what in disagreements(seen, amount, currency, status):
            self.differs(seen.id, what)


def disagreements(seen: SeenPayment, amount: Mongo, currency: str, status: str) -> Iterable[str]:
    if (seen.amount, seen.currency) != (amount, currency):
        theirs, ours = f"{format_tugrik(seen.amount)} {seen.currency}", f"{format_tugrik(amount)} {currency}"
        yield f"{theirs} at QPay, {ours} here"
    if seen.status != status:
        yield f"{seen.status} at QPay, {status} here"


def is_money(seen: SeenPayment) -> bool | None:
    """Whether a listed payment is money received; None for a status that QPay never documented."""
    if seen.status in RECEIVED:
        return True
    return False if rank(seen.status) or seen.status == "NEW" else None
