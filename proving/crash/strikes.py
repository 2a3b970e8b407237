"""Counts every line and every edge a process reaches while it is armed, and strikes at the ones it was told."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, TypeAlias

from pymongo import monitoring
from sqlalchemy import Engine, event

import tulbur
from proving.crash.shared import EDGES, LOSSES, Edge, Point, Shared
from tulbur.errors import CommitUnknown, StoreUnavailable

HOME: Final = str(Path(tulbur.__file__).parent) + os.sep
"""Whose lines are counted."""

_LINE: Final = EDGES.index(Edge.LINE)


class Striker:
    """Of one process, which is struck `at` these points, counted from when it is `armed`.

    Tracing costs more than all else, so lines are traced only as far as the points need it; `counting` traces them all
    and notes in `spots` how often each was executed.
    """

    def __init__(self, shared: Shared, at: Collection[Point] = (), *, counting: bool = False) -> None:
        self.shared = shared
        self.spots: Counter[str] = Counter()
        self._at = {(point.edge, point.number) for point in at if point.edge is not Edge.LINE}
        self._line = next((point for point in at if point.edge is Edge.LINE), None)
        self._counting = counting
        self._on = False

    def listen(self) -> None:
        """Before the process opens its database; for the rest of its life."""
        event.listen(Engine, "before_cursor_execute", self._before_statement)
        event.listen(Engine, "after_cursor_execute", self._after_statement)
        monitoring.register(_Commands(self))

    @contextmanager
    def armed(self, threads: Sequence[Executor] = ()) -> Iterator[None]:
        """Within, it counts; `threads` are those that run tulbur's code already."""
        self.shared.begin()
        tracer = self._tracer()
        if tracer is not None:
            _trace(tracer, threads)
        self._on = True
        try:
            yield
        finally:
            self._on = False
            if tracer is not None:
                _trace(None, threads)

    def reach(self, edge: Edge, what: str) -> bool:
        """Being at an edge; a kill does not return. True when the answer is to be lost."""
        if not self._on:
            return False
        number = self.shared.count(EDGES.index(edge))
        if (edge, number) not in self._at:
            return False
        self.shared.strike(f"{edge}: {what}")
        if edge in LOSSES:
            return True
        _die()
        raise AssertionError("nobody survives SIGKILL")

    # --- lines

    def _tracer(self) -> Tracer | None:
        if self._line is None:
            return _within_tulbur(self._note) if self._counting else None
        if self._line.spot:
            return _at_spot(self._line.spot, self._count)
        return _within_tulbur(self._count)

    def _note(self, frame: FrameType) -> None:
        if self._on:
            self.shared.count(_LINE)
            self.spots[_spot(frame)] += 1

    def _count(self, frame: FrameType) -> None:
        assert self._line is not None
        if self._on and self.shared.count(_LINE) == self._line.number:
            self.shared.strike(_spot(frame))
            _die()

    # --- statements

    def _before_statement(self, *statement: Any) -> None:  # noqa: ANN401 - SQLAlchemy's
        self.reach(Edge.BEFORE_STATEMENT, _first_words(statement[2]))

    def _after_statement(self, *statement: Any) -> None:  # noqa: ANN401 - SQLAlchemy's
        self.reach(Edge.AFTER_STATEMENT, _first_words(statement[2]))


class _Commands(monitoring.CommandListener):
    """The same for MongoDB, whose driver tells of each command before it is sent and when it was answered."""

    def __init__(self, striker: Striker) -> None:
        self._striker = striker

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self._striker.reach(Edge.BEFORE_STATEMENT, event.command_name)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        self._striker.reach(Edge.AFTER_STATEMENT, event.command_name)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        self._striker.reach(Edge.AFTER_STATEMENT, event.command_name)


class Losing:
    """A store each of whose calls may be executed and then reported as timed out."""

    def __init__(self, store: Any, striker: Striker) -> None:  # noqa: ANN401 - any store
        self._store, self._striker = store, striker

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the store has
        method = getattr(self._store, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the store takes and gives
            result = await method(*args, **kwargs)
            if self._striker.reach(Edge.LOST_CALL, name):
                raise CommitUnknown if name in MAYBE else StoreUnavailable
            return result

        return called


MAYBE: Final = frozenset({"add", "commit"})
"""Store calls whose outcome may be reported as unknown; of the others a caller only hears that they failed."""


Tracer: TypeAlias = Callable[[FrameType, str, object], Any]


def _trace(tracer: Tracer | None, threads: Sequence[Executor]) -> None:
    threading.settrace(tracer)
    for thread in threads:
        thread.submit(sys.settrace, tracer).result()
    sys.settrace(tracer)


def _within_tulbur(executed: Callable[[FrameType], None]) -> Tracer:
    """Calls `executed` at each line of tulbur's."""

    def line(frame: FrameType, event_: str, _argument: object) -> Any:  # noqa: ANN401 - a trace function
        if event_ == "line":
            executed(frame)
        return line

    def called(frame: FrameType, _event: str, _argument: object) -> Any:  # noqa: ANN401 - a trace function
        return line if frame.f_code.co_filename.startswith(HOME) else None

    return called


def _at_spot(spot: str, executed: Callable[[FrameType], None]) -> Tracer:
    """Calls `executed` at one line only; functions without it are not traced."""
    name, _, number = spot.rpartition(":")
    path, at = HOME + name, int(number)
    known: dict[int, tuple[CodeType, bool]] = {}

    def line(frame: FrameType, event_: str, _argument: object) -> Any:  # noqa: ANN401 - a trace function
        if event_ == "line" and frame.f_lineno == at:
            executed(frame)
        return line

    def called(frame: FrameType, _event: str, _argument: object) -> Any:  # noqa: ANN401 - a trace function
        code = frame.f_code
        if code.co_filename != path:
            return None
        if id(code) not in known:  # kept with it, so that nothing else gets its id
            known[id(code)] = code, any(number == at for _, _, number in code.co_lines())
        return line if known[id(code)][1] else None

    return called


def _spot(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename.removeprefix(HOME)}:{frame.f_lineno}"


def _first_words(statement: str) -> str:
    return " ".join(statement.split()[:3])


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
