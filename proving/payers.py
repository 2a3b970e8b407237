"""One checkout as its shop and its payer know it, and the table of payers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from proving.faults import Fault
from proving.world import World
from tulbur.payments import OpenRequest


@dataclass
class Checkout:
    """One cart on its way, as its shop and its payer know it."""

    request: OpenRequest
    opened_at: float
    session_id: str | None = None
    shown: list[str] = field(default_factory=list)

    @property
    def amount(self) -> int:
        return self.request.amount

    @property
    def seconds(self) -> int:
        return self.request.expires_in


Purse: TypeAlias = list[tuple[float, int, str]]
"""What a payer pays: after how many seconds, how much, in which currency."""


def in_time(w: World, c: Checkout) -> float:
    if w.rng.random() < 0.3:  # near the deadline
        return c.seconds + w.rng.uniform(-15, 5)
    return w.rng.uniform(0, c.seconds)


def pays(w: World, c: Checkout) -> Purse:
    return [(in_time(w, c), c.amount, "MNT")]


def never(_w: World, _c: Checkout) -> Purse:
    return []


def late(w: World, c: Checkout) -> Purse:
    return [(c.seconds + w.rng.uniform(0, 7200), c.amount, "MNT")]


def twice(w: World, c: Checkout) -> Purse:
    return [(in_time(w, c), c.amount, "MNT") for _ in range(2)]


def in_parts(w: World, c: Checkout) -> Purse:
    first = w.rng.randrange(100, c.amount, 100)
    return [(in_time(w, c), part, "MNT") for part in (first, c.amount - first)]


def short(w: World, c: Checkout) -> Purse:
    paid = w.rng.randrange(100, c.amount, 100)
    rest = [(c.seconds + w.rng.uniform(0, 7200), c.amount - paid, "MNT")] if w.rng.random() < 0.5 else []
    return [(in_time(w, c), paid, "MNT"), *rest]


def over(w: World, c: Checkout) -> Purse:
    return [(in_time(w, c), c.amount + w.rng.randrange(100, 100_000, 100), "MNT")]


def foreign(w: World, c: Checkout) -> Purse:
    return [(in_time(w, c), c.amount, "USD")]


PAYERS: Final[Mapping[Fault, Callable[[World, Checkout], Purse]]] = {
    Fault.NEVER_PAID: never,
    Fault.PAID_LATE: late,
    Fault.PAID_TWICE: twice,
    Fault.PAID_IN_PARTS: in_parts,
    Fault.PAID_SHORT: short,
    Fault.PAID_OVER: over,
    Fault.PAID_FOREIGN: foreign,
}
"""Payers who do not simply pay; each is a fault of the run."""
