"""What can go wrong: one table. A run draws which of these it meets and how often; each is counted as it fires."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Final


class Fault(StrEnum):
    """Each value says what happens, and before the colon where."""

    STORE_FAILED = "store: not executed, error"
    STORE_LOST = "store: executed, answer lost"
    STORE_RESENT = "store: answer lost, sent again, recognised"
    STORE_LATE = "store: given up as unknown, executed later"
    STORE_SLOW = "store: slow"
    STORE_AWAY = "store: away for a while"
    STORE_RACE = "store: another commit was faster"
    CACHE_MISS = "cache: forgotten"
    CACHE_ERROR = "cache: error"
    CACHE_SLOW = "cache: slow"
    CACHE_STALE = "cache: an older version"
    CACHE_OTHERS = "cache: another session's value"
    CACHE_GARBAGE = "cache: damaged bytes"
    CACHE_UNWRITTEN = "cache: write lost"
    CACHE_FLUSHED = "cache: flushed"
    QPAY_SILENT = "qpay: not executed, no answer"
    QPAY_LOST = "qpay: executed, answer lost"
    QPAY_SLOW = "qpay: slow"
    QPAY_AWAY = "qpay: away for a while"
    QPAY_REFUSED = "qpay: refused for no reason"
    QPAY_INCOMPLETE = "qpay: a page is missing"
    QPAY_UNPAID_AGAIN = "qpay: paid, then shown unpaid"
    QPAY_NOT_FOUND = "qpay: invoice not found"
    QPAY_UNKNOWN_STATUS = "qpay: unknown status"
    QPAY_LATE_SIGHT = "qpay: payment visible only later"
    QPAY_OTHERS = "qpay: another session's payment"
    QPAY_REFUNDED = "qpay: payment refunded there"
    CALLBACK_LOST = "callback: lost"
    CALLBACK_LATE = "callback: late"
    CALLBACK_TWICE = "callback: sent again after SUCCESS"
    CALLBACK_AT_ONCE = "callback: several at once"
    CALLBACK_NAMELESS = "callback: without a payment id"
    CALLBACK_FORGED = "callback: made-up payment id"
    CALLBACK_OTHERS = "callback: another session's payment id"
    CALLBACK_AGED = "callback: 90 days late"
    CALLBACK_FLOOD = "callback: more payment ids than are kept"
    KILLED = "process: killed"
    KILLED_IN_FLIGHT = "process: killed, its commit arrives after it"
    STOPPED = "process: stopped for a minute, then on"
    CLOCK_OFF = "process: clock minutes off"
    CLIENT_GONE = "client: gone while it waits"
    PAID_LATE = "payer: pays after the deadline"
    PAID_TWICE = "payer: pays twice"
    PAID_IN_PARTS = "payer: pays in parts"
    PAID_SHORT = "payer: pays too little"
    PAID_OVER = "payer: pays too much"
    PAID_FOREIGN = "payer: pays in another currency"
    PAID_CANCELLED = "payer: money crosses the cancelling"
    PAID_UNSEEN = "payer: pays an invoice whose answer was lost"
    PAID_TWO = "payer: pays two invoices"
    NEVER_PAID = "payer: never pays"
    QPAY_REFUND_UNSEEN = "qpay: a refund shows only later"
    QPAY_FOREIGN = "qpay: money on somebody else's invoice"
    QPAY_ORPHAN = "qpay: money on an invoice whose session is lost"
    LIST_CUT = "list: a page is cut short"
    LIST_MOVED = "list: rows move between two pages"
    LIST_UNREADABLE = "list: a row cannot be read"
    SPOOL_FAILED = "spool: the disk fails"
    SPOOL_SLOW = "spool: written after it was given up"
    SHOP_REFUSED = "shop: refuses an event"
    SHOP_SILENT = "shop: not received, no answer"
    SHOP_LOST = "shop: received, answer lost"
    SHOP_SLOW = "shop: slow"
    SHOP_AWAY = "shop: away for a day or two"
    TWO_REFUND = "people: two give the same money back"
    TWO_REVIEW = "people: two decide about the same money"
    OLD_AWAY = "old shop: its Redis does not answer for a while"
    OLD_FORGOTTEN = "old shop: a key is gone before its time"
    OLD_NAMELESS = "old shop: a key does not name its invoice"
    OLD_AMOUNT = "old shop: QPay has the invoice over another amount"


NATURAL: Final = frozenset({Fault.STORE_RACE, Fault.PAID_TWO})
"""Nobody makes these happen; they are counted when the schedule brings them about."""

HIGHEST: Final[Mapping[Fault, float]] = {
    Fault.STORE_LATE: 0.05,
    Fault.STORE_AWAY: 0.02,
    Fault.QPAY_AWAY: 0.05,
    Fault.QPAY_OTHERS: 0.15,
    Fault.KILLED: 0.03,
    Fault.STOPPED: 0.02,
    Fault.CALLBACK_FLOOD: 0.05,
    Fault.CALLBACK_AGED: 0.1,
    Fault.QPAY_REFUNDED: 0.2,
    Fault.CLOCK_OFF: 0.7,
    Fault.CACHE_FLUSHED: 0.2,
    Fault.CALLBACK_LOST: 0.9,
    Fault.QPAY_LATE_SIGHT: 0.7,
    Fault.PAID_UNSEEN: 0.7,
    Fault.KILLED_IN_FLIGHT: 0.7,
    Fault.PAID_CANCELLED: 0.7,
    Fault.QPAY_REFUND_UNSEEN: 0.9,
    Fault.QPAY_FOREIGN: 0.7,
    Fault.QPAY_ORPHAN: 0.7,
    Fault.LIST_CUT: 0.5,
    Fault.LIST_MOVED: 0.5,
    Fault.SPOOL_SLOW: 0.5,
    Fault.SHOP_AWAY: 0.3,
    Fault.TWO_REFUND: 0.9,
    Fault.TWO_REVIEW: 0.9,
    Fault.OLD_FORGOTTEN: 0.7,
    Fault.OLD_NAMELESS: 0.7,
    Fault.OLD_AMOUNT: 0.7,
}
"""The highest odds of one occasion, where they are not `USUAL`."""

USUAL: Final = 0.3

Told = Callable[[str], None]


def nobody(_line: str) -> None:
    """Hears nothing: a run that nobody follows."""


@dataclass
class Faults:
    """The faults of one run: their odds, whether they strike still, and how often each did."""

    rng: Random
    odds: dict[Fault, float]
    tell: Told = nobody
    calm: bool = False
    counts: Counter[Fault] = field(default_factory=Counter)

    def fires(self, fault: Fault) -> bool:
        """Whether it strikes on this occasion; a fault the run does not have costs no chance."""
        odds = self.odds.get(fault)
        if not odds or self.calm or self.rng.random() >= odds:
            return False
        self.count(fault)
        return True

    def count(self, fault: Fault) -> None:
        self.counts[fault] += 1
        self.tell(f"! {fault}")

    def one_of(self, faults: Iterable[tuple[Fault, float]]) -> Fault | None:
        """At most one of some that exclude each other, whose odds sum to at most 1; it is counted by who makes it."""
        if self.calm:
            return None
        at = self.rng.random()
        for fault, odds in faults:
            at -= odds
            if at < 0:
                return fault
        return None

    def among(self, *faults: Fault) -> tuple[tuple[Fault, float], ...]:
        """Those of some that this run has, for `one_of`."""
        return tuple((fault, self.odds[fault]) for fault in faults if fault in self.odds)


def swarm(rng: Random, without: frozenset[Fault] = frozenset()) -> dict[Fault, float]:
    """A random subset of the faults, each with a random intensity; `without` leaves some out and moves no other's."""
    share = rng.choice((0.0, 0.2, 0.4, 0.7))
    odds = {}
    for fault in Fault:
        chosen, strength = rng.random() < share, rng.random()
        if chosen and fault not in NATURAL and fault not in without:
            odds[fault] = HIGHEST.get(fault, USUAL) * strength**2
    return odds
