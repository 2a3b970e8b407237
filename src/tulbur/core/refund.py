"""Money on its way back to a payer: who decided it, which way it goes, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tulbur.core.later import Later
from tulbur.core.money import Mongo


class RefundWay(StrEnum):
    """QPAY: QPay gives back the whole of a card payment. PERSON: somebody pays it back by hand."""

    QPAY = "qpay"
    PERSON = "person"


class RefundState(StrEnum):
    """How far it has come.

    DECIDED: it goes back, but nobody is at it. REQUESTED: QPay or a person is. UNCONFIRMED: QPay was asked, and still
    shows the payment as PAID. DONE: QPay shows it as REFUNDED, or a person named a reference.
    """

    DECIDED = "decided"
    REQUESTED = "requested"
    UNCONFIRMED = "unconfirmed"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """One refund of a payment, whole or in part; `by` is who decided, `reference` what a person paid it back with.

    `keys` are the requests that led to it, so that one which is repeated is known.
    """

    amount: Mongo
    way: RefundWay
    by: str
    at: int
    state: RefundState = RefundState.REQUESTED
    reference: str = ""
    note: str = ""
    keys: tuple[str, ...] = ()
    later: Later = ()

    @property
    def is_open(self) -> bool:
        return self.state is not RefundState.DONE
