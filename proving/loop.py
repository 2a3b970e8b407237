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


class Planned(list[Any]):
    """`[callback, args, context]` of what is to be run: a handle that costs no frame of Python; a run has thousands.

    Cancelled it is empty, and passed over when its turn comes.
    """

    def cancel(self) -> None:
        self.clear()


class Loop(asyncio.AbstractEventLoop):
    """`halt` ends a run at once: the first law that was broken is what is to be told, not what followed from it."""

    def __init__(self, rng: Random, most_steps: int = MOST_STEPS) -> None:
        self._chance = rng.random
        self._most_steps = most_steps
        self._ready: list[Planned] = []
        self._timers: list[tuple[float, int, Planned]] = []
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
        planned = Planned((callback, args, contextvars.copy_context() if context is None else context))
        self._ready.append(planned)
        return cast("asyncio.Handle", planned)

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
        planned = Planned((callback, args, contextvars.copy_context() if context is None else context))
        self._count += 1
        heapq.heappush(self._timers, (max(when, self._now), self._count, planned))
        return cast("asyncio.TimerHandle", planned)

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
            self._run_until(task.done)
            return task.result()
        finally:
            self._running = False
            asyncio._set_running_loop(before)

    def _run_until(self, done: Callable[[], bool]) -> None:
        ready, chance, most = self._ready, self._chance, self._most_steps
        while not done():
            if not ready:
                self._jump()
            self.steps += 1
            if self.steps > most:
                raise Endless("law 10: the run does not come to rest")
            count = len(ready)
            if count > 1:
                at = int(chance() * count)
                ready[at], ready[-1] = ready[-1], ready[at]
            if planned := ready.pop():
                callback, args, context = planned
                try:
                    context.run(callback, *args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001 - whatever a callback raises is told
                    self.failures.append(error)
            if self.halt is not None:
                raise self.halt

    def _jump(self) -> None:
        """To the time of the next timer, with all that is due then."""
        timers = self._timers
        if not timers:
            raise Stuck("law 10: nothing is ready and no timer runs, but somebody waits")
        self._now = timers[0][0]
        while timers and timers[0][0] <= self._now:
            self._ready.append(heapq.heappop(timers)[2])

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
