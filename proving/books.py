"""What went back to payers and by whom, told by those who did it: never more than came, never twice, never unasked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from proving.qpay import Bill
from tulbur.core.refund import RefundWay
from tulbur.core.session import Payment, Session
from tulbur.core.settling import SeenPayment


@dataclass
class Books:
    """`by_hand` are möngö that people paid back; `at_portal` are payments that somebody refunded at QPay directly."""

    bills: Mapping[str, Bill]
    requested: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    by_qpay: Counter[str] = field(default_factory=Counter)
    by_hand: Counter[str] = field(default_factory=Counter)
    at_portal: set[str] = field(default_factory=set)

    def committed(self, after: Session) -> None:
        """A refund that QPay is to be asked for is in the database now."""
        for event in after.news:
            if event.type == "refund.requested" and event.data["way"] == RefundWay.QPAY:
                self.requested[str(event.data["payment_id"])] += 1

    def asks(self, payment_id: str) -> None:
        """QPay is about to be asked for a refund."""
        self.asked[payment_id] += 1
        most = self.requested[payment_id]
        assert self.asked[payment_id] <= most, "law 5: a refund is committed first, and QPay is asked once for each"

    def gives_back(self, payment_id: str) -> None:
        """QPay has sent a card payment back."""
        self.by_qpay[payment_id] += 1
        assert self.by_qpay[payment_id] == 1, "law 1: money goes back once"
        self._check(payment_id)

    def pays(self, payment_id: str, amount: int) -> None:
        """Somebody has sent money back by hand."""
        self.by_hand[payment_id] += amount
        self._check(payment_id)

    def payment(self, payment_id: str) -> SeenPayment:
        """The payment as QPay has it, whatever it shows."""
        return next(p for bill in self.bills.values() for p in bill.payments if p.id == payment_id)

    def is_refunded(self, payment_id: str) -> bool:
        """What its portal says to a person who looks there before giving money back."""
        return self.payment(payment_id).status == "REFUNDED"

    def gone(self, payment_id: str) -> int:
        return self.by_hand[payment_id] + self.by_qpay[payment_id] * self.payment(payment_id).amount

    def _check(self, payment_id: str) -> None:
        if payment_id not in self.at_portal:
            amount = self.payment(payment_id).amount
            assert self.gone(payment_id) <= amount, "law 9: no more goes back than came"

    def judge(self, p: Payment) -> None:
        """At rest, what we say went back is what went back."""
        if p.received and p.id not in self.at_portal:
            assert p.refunded == self.gone(p.id), "law 9: what is called refunded went back, and nothing else did"
