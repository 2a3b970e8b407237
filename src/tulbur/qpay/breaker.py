"""A breaker: when nothing comes back, stop asking for a while, then let one question try for all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tulbur.core.session import SECOND, Micros
from tulbur.errors import ProviderRefused, ProviderUnavailable
from tulbur.ports import Clock

FAILURES: Final = 5
"""Unanswered questions in a row that open it."""

SHORTEST_PAUSE_SECONDS: Final = 10
LONGEST_PAUSE_SECONDS: Final = 60

GIVEN_UP_SECONDS: Final = 2
"""A caller that gives up after this long got no answer; one that leaves sooner says nothing about QPay."""


class Breaker:
    """Closed: everything may ask. Open: nothing may. Half open, after the pause: one tries, the others wait for it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._pause_seconds = SHORTEST_PAUSE_SECONDS
        self._open_until: Micros | None = None
        self._probe: asyncio.Event | None = None

    def may_ask(self) -> bool:
        return self._open_until is None or (self._clock() >= self._open_until and self._probe is None)

    async def turn(self) -> None:
        """Wait while another question tries: its answer says whether this one may be asked."""
        while self._probe is not None:
            await self._probe.wait()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Around one question: learns from how it ends.

        Raises:
            ProviderUnavailable: it is open; nothing was asked.
        """
        if not self.may_ask():
            raise ProviderUnavailable("QPay has not been answering; it is asked again shortly")
        probe = self._open_until is not None
        if probe:
            self._probe = asyncio.Event()
        started = self._clock()
        try:
            yield
            self._answered()
        except ProviderRefused:
            self._answered()
            raise
        except ProviderUnavailable:
            self._failed(probe=probe)
            raise
        except asyncio.CancelledError:
            if self._clock() - started >= GIVEN_UP_SECONDS * SECOND:
                self._failed(probe=probe)
            raise
        finally:
            if probe and self._probe is not None:
                self._probe.set()
                self._probe = None

    def _answered(self) -> None:
        self._failures, self._open_until, self._pause_seconds = 0, None, SHORTEST_PAUSE_SECONDS

    def _failed(self, *, probe: bool) -> None:
        if self._open_until is not None and not probe:
            return  # asked before it opened: this failure is counted already
        if probe:
            self._pause_seconds = min(self._pause_seconds * 2, LONGEST_PAUSE_SECONDS)
        self._failures += 1
        if probe or self._failures >= FAILURES:
            self._open_until = self._clock() + self._pause_seconds * SECOND
