"""What became of every row that was read: counts and money that balance, and the reasons, one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tulbur.core.money import Mongo, format_tugrik

MOST_PROBLEMS: Final = 10_000
"""Reasons kept one by one; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One row a person may have to look at."""

    id: str
    what: str
    why: str = ""


@dataclass
class Report:
    """Rows by the old shop's status and by what was done with them; read and done are counted apart, and must agree."""

    title: str
    read: int = 0
    read_money: Counter[str] = field(default_factory=Counter)
    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    money: Counter[tuple[str, str]] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    found_amiss: int = 0

    def row_read(self, amount: Mongo = 0, currency: str = "MNT") -> None:
        self.read += 1
        self.read_money[currency] += amount

    def row_done(self, status: str, what: str, amount: Mongo, currency: str) -> None:
        self.done[status, what] += 1
        self.money[what, currency] += amount

    def row_skipped(self, why: str) -> None:
        """A row that could not be read as a session, or is none."""
        self.skipped[why] += 1

    def amiss(self, id_: str, what: str, why: str = "") -> None:
        """Something a person has to look at."""
        self.found_amiss += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(id_, what, why))

    def noted(self, id_: str, what: str, why: str) -> None:
        """Something a person may want to know."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(id_, what, why))

    @property
    def balances(self) -> bool:
        """Whether every row, and all money, that was read is in exactly one line of what was done."""
        money: Counter[str] = Counter()
        for (_, currency), amount in self.money.items():
            money[currency] += amount
        return self.read == sum(self.done.values()) + sum(self.skipped.values()) and +money == +self.read_money

    @property
    def fine(self) -> bool:
        return self.balances and not self.found_amiss

    def as_json(self) -> Mapping[str, Any]:
        by_status: dict[str, dict[str, int]] = {}
        for (status, what), count in sorted(self.done.items()):
            by_status.setdefault(status, {})[what] = count
        money: dict[str, dict[str, str]] = {}
        for (what, currency), amount in sorted(self.money.items()):
            money.setdefault(what, {})[currency] = format_tugrik(amount)
        return {
            "step": self.title,
            "read": self.read,
            "read_money": {currency: format_tugrik(amount) for currency, amount in sorted(self.read_money.items())},
            "by_status": by_status,
            "money": money,
            "skipped": dict(sorted(self.skipped.items())),
            "balances": self.balances,
            "for_a_person": self.found_amiss,
            "problems": [{"id": p.id, "what": p.what, "why": p.why} for p in self.problems],
        }
