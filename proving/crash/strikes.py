"""Counts every line and every edge a process reaches while it is armed, and strikes at the ones it was told."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from pymongo import monitoring
from sqlalchemy import Engine, event

import tulbur
from proving.crash.shared import EDGES, LOSSES, Edge, Shared
from tulbur.errors import CommitUnknown, StoreUnavailable

HOME: Final = str(Path(tulbur.__file__).parent) + os.sep
"""Whose lines are counted."""

_LINE: Final = EDGES.index(Edge.LINE)


class Striker:
    """Of one process. `at` names the points: an edge, and which one of its kind since `armed`."""

    def __init__(self, shared: Shared, at: frozenset[tuple[Edge, int]] = frozenset(), *, lines: bool = True) -> None:
        self.shared = shared
        self._at = at
        self._lines = lines
        self._at_line = next((number for edge, number in at if edge is Edge.LINE), 0)
        self._on = False

    def listen(self) -> None:
        """Before the process opens its database; threads begun from here on are heard too."""
        event.listen(Engine, "before_cursor_execute", self._before_statement)
        event.listen(Engine, "after_cursor_execute", self._after_statement)
        monitoring.register(_Commands(self))

    @contextmanager
    def armed(self, threads: Sequence[Executor] = ()) -> Iterator[None]:
        """From here on it counts; `threads` are those that run tulbur's code already."""
        self.shared.begin()
        if self._lines:
            threading.settrace(self._called)
            for thread in threads:
                thread.submit(sys.settrace, self._called).result()
            sys.settrace(self._called)
        self._on = True
        yield
        self._on = False
        sys.settrace(None)

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

    def _called(self, frame: FrameType, _event: str, _argument: object) -> Any:  # noqa: ANN401 - a trace function
        return self._traced if frame.f_code.co_filename.startswith(HOME) else None

    def _traced(self, frame: FrameType, event_: str, _argument: object) -> Any:  # noqa: ANN401 - a trace function
        if event_ == "line" and self._on and self.shared.count(_LINE) == self._at_line:
            self.shared.strike(f"{frame.f_code.co_filename.removeprefix(HOME)}:{frame.f_lineno}")
            _die()
        return self._traced

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


def _first_words(statement: str) -> str:
    return " ".join(statement.split()[:3])


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
