"""An event loop without a world around it: time is virtual and jumps, and of what is ready chance runs the next.

No selector, no thread, no socket: what is asked of it beyond tasks, futures and timers is refused. A seed gives one
order of things, always the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from random import Random
from typing import Any, Final, NoReturn, TypeVar, TypeVarTuple, Unpack, cast

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MOST_STEPS: Final = 300_000
"""Steps of one run; more means that something goes on without an end."""

MOST_WAITS: Final = 100
"""Waits of one coroutine on its way out."""

OWNER: Final[contextvars.ContextVar[list[asyncio.Task[Any]] | None]] = contextvars.ContextVar("OWNER", default=None)
"""The list in which a task and the tasks it makes are kept, so that a process can die with all of its tasks."""


class Endless(AssertionError):
    """A run that does not come to rest."""


class Stuck(AssertionError):
    """Somebody waits for something that will never happen."""


class Loop(asyncio.AbstractEventLoop):
    """`halt` ends a run at once: the first law that was broken is what is to be told, not what followed from it."""

    def __init__(self, rng: Random, most_steps: int = MOST_STEPS) -> None:
        self._chance = rng.random
        self._most_steps = most_steps
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._now = 0.0
        self._count = 0
        self._closed = False
        self._running = False
        self.steps = 0
        self.tasks: list[asyncio.Task[Any]] = []
        self.failures: list[BaseException | str] = []
        self.halt: BaseException | None = None
        self.disk: Callable[[object, Callable[[], Any]], asyncio.Future[Any]] | None = None

    # --- time and order

    def time(self) -> float:
        return self._now

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (max(when, self._now), self._count, timer))
        return timer

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """Run in the order chance gives until `future` is done.

        Raises:
            Stuck: nothing is ready and no timer runs.
            Endless: too many steps.
        """
        before = asyncio._get_running_loop()  # a test's own loop stands still meanwhile
        asyncio._set_running_loop(self)
        self._running = True
        try:
            task = asyncio.ensure_future(cast("Awaitable[T]", future), loop=self)
            while not task.done():
                self._step()
                if self.halt is not None:
                    raise self.halt
            return task.result()
        finally:
            self._running = False
            asyncio._set_running_loop(before)

    def _step(self) -> None:
        ready = self._ready
        timers = self._timers
        if not ready and not timers:
            raise Stuck("law 10: nothing is ready and no timer runs, but somebody waits")
        if not ready:
            self._now = timers[0][0]
            while timers and timers[0][0] <= self._now:
                ready.append(heapq.heappop(timers)[2])
        self.steps += 1
        if self.steps > self._most_steps:
            raise Endless("law 10: the run does not come to rest")
        count = len(ready)
        if count > 1:
            at = int(self._chance() * count)
            ready[at], ready[-1] = ready[-1], ready[at]
        handle = ready.pop()
        if not handle.cancelled():
            handle._run()

    # --- tasks and futures

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self.tasks.append(task)
        owner = context.get(OWNER) if context is not None else OWNER.get()
        if owner is not None:
            owner.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(context.get("exception") or str(context.get("message")))

    def unheard(self) -> list[BaseException | str]:
        """What went wrong and nobody asked about: errors of callbacks, and of tasks whose result nobody read."""
        heard = list(self.failures)
        for task in self.tasks:
            if task.done() and not task.cancelled() and cast("Any", task)._log_traceback:
                error = task.exception()
                if error is not None:
                    heard.append(error)
        return heard

    def close(self) -> None:
        """Forget everything that still waits; its coroutines end now, without a word, not when they are collected."""
        self._closed = True
        for task in self.tasks:
            if not task.done():
                cast("Any", task)._log_destroy_pending = False
                _ended(cast("Coroutine[Any, Any, Any]", task.get_coro()))
        self._ready.clear()
        self._timers.clear()

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, _handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when its time comes."""

    def run_in_executor(self, executor: object, work: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """No thread: what is to be done with a disk is done by the world's, where it has one, at some virtual time."""
        if self.disk is None:
            raise AssertionError("there is no thread in a simulated world")
        return self.disk(executor, lambda: work(*args))

    def call_soon_threadsafe(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise AssertionError("there is no thread in a simulated world")


def _ended(coroutine: Coroutine[Any, Any, Any]) -> None:
    """End it where it waits, and where it waits again because it has something to put back."""
    for _ in range(MOST_WAITS):
        with contextlib.suppress(Exception):  # Nobody is there to be told any more.
            coroutine.close()
        if inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED:
            return
    raise AssertionError(f"it cannot be ended: {coroutine!r}")
