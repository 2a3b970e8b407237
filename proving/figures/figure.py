"""What one figure came to: its counts, what broke, and what so many trials bound."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from proving.many import commit

MOST_TOLD: Final = 20
"""Failures told; after so many it is clear enough."""


@dataclass
class Figure:
    """`listed` faults must all strike; `trials` of `unit` is the n of 3/n."""

    name: str
    goal: str
    unit: str
    command: str
    listed: tuple[str, ...]
    counts: Counter[str] = field(default_factory=Counter)
    facts: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    failed: int = 0
    trials: int = 0
    seconds: float = 0.0
    commit: str = field(default_factory=commit)
    began: float = field(default_factory=time.monotonic)

    def struck(self, fault: str, times: int = 1) -> None:
        """Count a fault; one that is not listed is a mistake of the figure's own."""
        assert fault in self.listed, fault
        self.counts[fault] += times

    def fails(self, what: str) -> None:
        self.failed += 1
        if len(self.failures) < MOST_TOLD:
            self.failures.append(what)

    def holds(self, what: str, found: object, wanted: object) -> None:
        """A count taken from the outside, such as rows of a database, that must be what it must be."""
        self.facts.append(f"{what}: {_told(found)}")
        if found != wanted:
            self.fails(f"{what}: {_told(found)}, and not {_told(wanted)}")

    def end(self) -> Figure:
        self.seconds = time.monotonic() - self.began
        for fault in self.silent:
            self.fails(f"never struck, so nothing is shown of it: {fault}")
        return self

    @property
    def silent(self) -> list[str]:
        return [fault for fault in self.listed if not self.counts[fault]]

    @property
    def verdict(self) -> str:
        if self.failed:
            return f"{self.failed:,} failures in {self.trials:,} {self.unit}"
        if not self.trials:
            return "nothing was tried"
        bound = 3 / self.trials
        return f"{self.trials:,} clean {self.unit} bound the failure rate at about 3/n = {bound:.1e}"


def _told(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
