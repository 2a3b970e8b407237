"""What a shop makes use of: one table. A run draws some of it; what came of it is counted as deeds."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from random import Random
from typing import Final

from tulbur.core.money import parse_tugrik
from tulbur.core.refund import RefundWay
from tulbur.core.session import Event, ExceptionName, Session
from tulbur.payments.cleaning import Keep


class Use(StrEnum):
    """A part of tulbur that a shop may do without, and the two settings that change what is done about money."""

    REFUNDS = "people give money back"
    REVIEWS = "people decide about money"
    STRAYS = "money without a session, assigned or closed"
    SWEEPS = "sweeps, daily and by hand"
    BOOKS = "certificates while things happen"
    SPOOL = "a spool"
    WEBHOOK = "events sent to the shop"
    CLEANING = "retention"
    REVIEW_LATE = "LATE_PAYMENTS=review"
    CANCEL_EXPIRED = "EXPIRED_INVOICES=cancel"
    OLD_SHOP = "the old shop beside ours, whose Redis is followed"


class Deed(StrEnum):
    """What was done, and had an effect; one that never happens in many runs is not shown."""

    SPOOLED = "callback: spooled"
    REPLAYED = "callback: replayed from the spool"
    QPAY_REFUND = "refund: done by QPay"
    HAND_REFUND = "refund: paid by hand and closed"
    REFUND_UNCONFIRMED = "refund: asked for, and never seen"
    PORTAL_SEEN = "refund: done at QPay's portal, and seen"
    ACCEPTED = "review: orders made"
    SHORTFALL = "review: orders made of too little"
    DECLINED = "review: money goes back"
    ASSIGNED = "unmatched: assigned"
    CLOSED = "unmatched: closed with a reference"
    SWEPT = "sweep: all seen"
    SWEPT_IN_PART = "sweep: not all seen"
    SWEPT_DAILY = "sweep: by itself"
    SWEPT_BACK = "sweep: catching up"
    SWEPT_UP = "sweep: missing money brought to its session"
    PROVEN = "certificate: proven while things happen"
    UNPROVEN = "certificate: not proven while things happen"
    BALANCED = "certificate: proven in the end"
    DELIVERED = "event: delivered"
    PARKED = "event: parked"
    REDELIVERED = "event: parked, replayed, delivered"
    BLANKED = "cleaning: blanked"
    BLANKED_SECOND = "cleaning: money for a blanked session"
    CLOSED_INVOICES = "expiry: its invoices cancelled first"
    FOLLOWED = "old shop: a session stored, and followed"
    OURS = "old shop: a session made ours"
    OLD_ORDERED = "old shop: orders made of its session"
    OLD_REVIEW = "old shop: a session that does not add up"
    LET_IN = "old shop: such a session let in by a person"
    TAKEN_OVER = "old shop: taken over while its key was there"
    TAKEN_OVER_GONE = "old shop: taken over after its key was gone"


KEEPS: Final = (
    Keep(retention_days=0, late_days=0),
    Keep(retention_days=0, late_days=1),
    Keep(retention_days=1, late_days=2),
    Keep(),
)
"""How long sessions stay whole; nothing at all, so that cleaning meets what is still under way."""


def chosen(rng: Random, without: frozenset[Use] = frozenset()) -> frozenset[Use]:
    """A random subset; `without` leaves some out and moves no other's."""
    share = rng.choice((0.0, 0.15, 0.3, 0.5))
    return frozenset([use for use in Use if rng.random() < share and use not in without])


def deeds(before: Session | None, after: Session) -> Iterator[Deed]:
    """What a commit says was done."""
    for event in after.news:
        if event.type == "session.reviewed":
            yield _reviewed(event)
        elif event.type == "refund.done":
            by_hand = event.data["way"] == RefundWay.PERSON
            yield Deed.HAND_REFUND if by_hand else Deed.QPAY_REFUND if event.data["by"] else Deed.PORTAL_SEEN
        elif event.type == "session.exception" and event.data["exception"] == ExceptionName.REFUND_UNCONFIRMED:
            yield Deed.REFUND_UNCONFIRMED
        elif event.type == "session.exception" and event.data["exception"] == ExceptionName.REVIEW:
            yield Deed.OLD_REVIEW
        elif event.type == "session.paid" and after.claim is not None:
            yield Deed.OLD_ORDERED
        elif event.type in _DEEDS:
            yield _DEEDS[event.type]
        elif event.type == "payment.seen" and before is not None and before.blanked_at is not None:
            yield Deed.BLANKED_SECOND


def _reviewed(event: Event) -> Deed:
    if "why" in event.data:
        return Deed.LET_IN
    if event.data["decision"] == "refund":
        return Deed.DECLINED
    return Deed.SHORTFALL if parse_tugrik(event.data["shortfall"]) else Deed.ACCEPTED


_DEEDS: Final = {
    "payment.assigned": Deed.ASSIGNED,
    "session.blanked": Deed.BLANKED,
    "session.imported": Deed.FOLLOWED,
    "session.taken_over": Deed.OURS,
}
