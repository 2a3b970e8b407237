"""What outlives a killed process: a page of memory that all processes of one trial share."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from tulbur.core.session import SECOND, Micros


class Edge(StrEnum):
    """Where a strike can fall. The first ones kill, the others lose an answer."""

    LINE = "killed at a line"
    BEFORE_STATEMENT = "killed before a statement to the database"
    AFTER_STATEMENT = "killed after a statement to the database"
    BEFORE_REQUEST = "killed before a request to QPay or a shop"
    SENT_REQUEST = "killed with a request to QPay or a shop under way"
    AFTER_REQUEST = "killed after a request to QPay or a shop"
    END = "killed after the last line"
    LOST_COMMIT = "commit executed, answer lost"
    LOST_CALL = "store call executed, answer lost"


KILLS: Final = tuple(Edge)[:7]
LOSSES: Final = (Edge.LOST_COMMIT, Edge.LOST_CALL)
EDGES: Final[Sequence[Edge]] = tuple(Edge)


class Point(NamedTuple):
    """The `number`-th time that this edge is reached; with a `spot` (`core/steps.py:54`), that this very line is."""

    edge: Edge
    number: int
    spot: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.edge.name, self.spot, str(self.number))))


_NOW, _IDS, _PROMISED, _STRUCK, _COUNTS = range(5)
_CELLS: Final = _COUNTS + len(EDGES)
_TEXT: Final = 8 * _CELLS
_LONGEST_TEXT: Final = 400


class Shared:
    """Written by one process at a time, read by the next one."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _TEXT + _LONGEST_TEXT)
        self._cells = memoryview(self._page).cast("b")[:_TEXT].cast("q")

    def kept(self) -> tuple[int, int]:
        """The time, and how many ids there were."""
        return self._cells[_NOW], self._cells[_IDS]

    def put_back(self, kept: tuple[int, int]) -> None:
        self._cells[_NOW], self._cells[_IDS] = kept

    def clock(self) -> Micros:
        return self._cells[_NOW]

    def move_to(self, now: Micros) -> None:
        self._cells[_NOW] = max(self._cells[_NOW], now)

    def advance(self, seconds: float) -> None:
        self._cells[_NOW] += int(seconds * SECOND)

    def new_id(self) -> str:
        self._cells[_IDS] += 1
        return f"{self._cells[_IDS]:032x}"

    @property
    def promised(self) -> bool:
        """Whether the use case has answered its caller."""
        return bool(self._cells[_PROMISED])

    def promise(self) -> None:
        self._cells[_PROMISED] = 1

    @property
    def struck(self) -> int:
        return self._cells[_STRUCK]

    @property
    def where(self) -> str:
        return bytes(self._page[_TEXT:]).rstrip(b"\0").decode(errors="replace")

    def strike(self, where: str) -> None:
        """Note where, before it happens."""
        self._cells[_STRUCK] += 1
        told = "; ".join(filter(None, (self.where, where))).encode()[:_LONGEST_TEXT]
        self._page[_TEXT : _TEXT + len(told)] = told

    def counts(self) -> dict[Edge, int]:
        return {edge: self._cells[_COUNTS + at] for at, edge in enumerate(EDGES)}

    def count(self, at: int) -> int:
        """One more at this edge; which one it is."""
        self._cells[_COUNTS + at] += 1
        return self._cells[_COUNTS + at]

    def begin(self) -> None:
        """Count anew."""
        for at in range(_PROMISED, _CELLS):
            self._cells[at] = 0
        self._page[_TEXT:] = bytes(_LONGEST_TEXT)
