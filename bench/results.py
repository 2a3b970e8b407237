"""What a benchmark came to: medians of its runs, as rates, as shares of the limit, and against the figures to reach."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from bench.contender import Run


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """A row at so many at once, of one server on one kind of database."""

    kind: str
    server: str
    row: str
    at_once: int


@dataclass(frozen=True, slots=True)
class Figure:
    """The share of the limit to reach, and the milliseconds within which 99 of 100 are answered (0: none is set)."""

    share: float
    p99_ms: float = 0.0


FIGURES: Final[Mapping[tuple[str, int], Figure]] = {
    ("paid", 16): Figure(0.25, 50.0),
    ("paid", 64): Figure(0.25),
    ("open", 16): Figure(0.20),
    ("repeated", 16): Figure(1.00),
    ("status (paid)", 16): Figure(1.20),
}
"""Of tulbur on PostgreSQL."""

TIMES_TEXTBOOK: Final = 4.0
"""So many times as many sessions as the textbook's server, paid at 16 at once."""


@dataclass
class Results:
    """`limit` is pgbench's rate and `empty` wrk's own, by how many at once; `memory` the peak bytes by process."""

    limit: defaultdict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    empty: defaultdict[int, list[Run]] = field(default_factory=lambda: defaultdict(list))
    runs: defaultdict[Cell, list[Run]] = field(default_factory=lambda: defaultdict(list))
    memory: dict[tuple[str, str], int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def rate(self, cell: Cell) -> float:
        return median(run.load.rate for run in self.runs[cell])

    def p50_ms(self, cell: Cell) -> float:
        return median(run.load.p50_ms for run in self.runs[cell])

    def p99_ms(self, cell: Cell) -> float:
        return median(run.load.p99_ms for run in self.runs[cell])

    def late(self, cell: Cell) -> int:
        """Orders that were not there yet as the last answer of their run came."""
        return sum(run.late for run in self.runs[cell])

    def share(self, cell: Cell) -> float | None:
        """Of the limit at the same concurrency, if that was measured."""
        limit = self.limit.get(cell.at_once)
        return self.rate(cell) / median(limit) if limit else None

    def reached(self, cell: Cell) -> bool | None:
        """Whether the figure of this cell was reached; None where none is set, or no limit was measured."""
        figure, share = self.figure(cell), self.share(cell)
        if figure is None or share is None:
            return None
        return share >= figure.share and (not figure.p99_ms or self.p99_ms(cell) <= figure.p99_ms)

    def figure(self, cell: Cell) -> Figure | None:
        own = cell.kind == "postgres" and cell.server == "tulbur"
        return FIGURES.get((cell.row, cell.at_once)) if own else None

    def cpu_ms(self, cell: Cell) -> Mapping[str, float]:
        """Milliseconds of CPU for one answer, by process, over all runs."""
        runs = self.runs[cell]
        answered = sum(run.load.answered for run in runs)
        return {name: 1000 * sum(run.cpu[name] for run in runs) / answered for name in runs[0].cpu}

    def times_textbook(self, row: str, at_once: int) -> float | None:
        """The rate of tulbur over the textbook's, if both were measured."""
        ours, theirs = (Cell("postgres", server, row, at_once) for server in ("tulbur", "textbook"))
        return self.rate(ours) / self.rate(theirs) if ours in self.runs and theirs in self.runs else None

    def cells(self, kinds: Sequence[str], server: str) -> list[Cell]:
        """Those that were measured, in the order in which they were first."""
        return [cell for cell in self.runs if cell.kind in kinds and cell.server == server]
