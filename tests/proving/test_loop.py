"""The loop of the schedules: time jumps, order is chance and nothing else, and nothing that goes wrong is lost."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from proving.loop import Loop, Stuck


def fresh(seed: int = 1) -> Loop:
    return Loop(Random(seed))  # type: ignore[abstract]


async def steps_of(name: str, log: list[str]) -> None:
    for n in range(3):
        log.append(f"{name}{n}")
        await asyncio.sleep(0)


def order(seed: int) -> list[str]:
    log: list[str] = []

    async def all_of_them() -> None:
        await asyncio.gather(*(steps_of(name, log) for name in "abcd"))

    fresh(seed).run_until_complete(all_of_them())
    return log


def test_time_jumps_to_the_next_timer() -> None:
    loop = fresh()

    async def wait_a_year() -> float:
        await asyncio.sleep(365 * 86_400)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert loop.run_until_complete(wait_a_year()) == 365 * 86_400
    assert time.monotonic() - began < 5


def test_a_seed_gives_one_order_and_another_seed_another() -> None:
    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(20)}) > 15


def test_what_one_task_does_stays_in_its_order() -> None:
    for seed in range(20):
        for name in "abcd":
            assert [step for step in order(seed) if step[0] == name] == [f"{name}{n}" for n in range(3)]


async def timed_out() -> str:
    try:
        async with asyncio.timeout(3):
            await asyncio.sleep(5)
    except TimeoutError:
        return f"{asyncio.get_running_loop().time():.0f}"
    return "no"


async def waited_for() -> str:
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 2)
    except TimeoutError:
        return f"{asyncio.get_running_loop().time():.0f}"
    return "no"


async def at_most_two_at_once() -> str:
    door, inside, most = asyncio.Semaphore(2), 0, 0

    async def go() -> None:
        nonlocal inside, most
        async with door:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(1)
            inside -= 1

    await asyncio.gather(*(go() for _ in range(6)))
    return f"{most} {asyncio.get_running_loop().time():.0f}"


async def cancelled() -> str:
    task = asyncio.create_task(asyncio.sleep(10))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait({task})
    return f"{task.cancelled()}"


@pytest.mark.parametrize(
    ("what", "answer"), [(timed_out, "3"), (waited_for, "2"), (at_most_two_at_once, "2 3"), (cancelled, "True")]
)
def test_what_asyncio_offers_works(what: Callable[[], Awaitable[str]], answer: str) -> None:
    for seed in range(10):
        assert fresh(seed).run_until_complete(what()) == answer


def test_threads_are_refused() -> None:
    with pytest.raises(AssertionError, match="no thread"):
        fresh().run_until_complete(asyncio.to_thread(print))


def test_an_error_nobody_asks_about_is_told() -> None:
    loop = fresh()

    async def fails() -> None:
        raise ValueError("nobody hears this")

    async def forgets() -> None:
        asyncio.create_task(fails())  # noqa: RUF006 - that is the point
        await asyncio.sleep(1)

    loop.run_until_complete(forgets())
    assert [str(error) for error in loop.unheard()] == ["nobody hears this"]


def test_a_callback_that_fails_is_told() -> None:
    loop = fresh()
    nothing: list[int] = []
    loop.call_soon(nothing.pop)
    loop.run_until_complete(asyncio.sleep(1))
    assert [type(error) for error in loop.unheard()] == [IndexError]


def test_waiting_for_nothing_is_an_error_and_no_end() -> None:
    loop = fresh()

    async def waits() -> Any:
        return await asyncio.get_running_loop().create_future()

    with pytest.raises(Stuck):
        loop.run_until_complete(waits())
    loop.close()
