"""When QPay does not answer, it is left alone, and its return is noticed by one question at a time."""

import asyncio
import contextlib

import pytest
from tests.qpay.conftest import MakeClient
from tests.qpay.fakes import BAD_GATEWAY, INVOICE_ID, PAYMENT_ID, Clock, FakeQPay, Reply

from tulbur.errors import ProviderError, ProviderRefused, ProviderUnavailable
from tulbur.ports import Cancelling
from tulbur.qpay import QPay
from tulbur.qpay.breaker import FAILURES, LONGEST_PAUSE_SECONDS, Breaker

pytestmark = pytest.mark.anyio


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        with contextlib.suppress(ProviderUnavailable), breaker.guard():
            raise ProviderUnavailable


def pause_seconds(breaker: Breaker, clock: Clock) -> int:
    seconds = 0
    while not breaker.may_ask():
        clock.advance(1)
        seconds += 1
    return seconds


def test_it_opens_after_failures_in_a_row(clock: Clock) -> None:
    breaker = Breaker(clock)
    fail(breaker, FAILURES - 1)
    with breaker.guard():
        pass
    fail(breaker, FAILURES - 1)
    assert breaker.may_ask()
    fail(breaker)
    assert not breaker.may_ask()
    with pytest.raises(ProviderUnavailable, match="shortly"), breaker.guard():
        pytest.fail("nothing may be asked")


def test_its_pauses_grow_and_end(clock: Clock) -> None:
    breaker = Breaker(clock)
    fail(breaker, FAILURES)
    pauses = []
    for _ in range(5):
        pauses.append(pause_seconds(breaker, clock))
        fail(breaker)
    assert pauses == [10, 20, 40, 60, LONGEST_PAUSE_SECONDS]
    pause_seconds(breaker, clock)
    with breaker.guard():
        pass
    assert breaker.may_ask()
    fail(breaker, FAILURES)
    assert pause_seconds(breaker, clock) == 10


def test_one_probe_at_a_time(clock: Clock) -> None:
    breaker = Breaker(clock)
    fail(breaker, FAILURES)
    pause_seconds(breaker, clock)
    with breaker.guard():
        assert not breaker.may_ask()
        with pytest.raises(ProviderUnavailable), breaker.guard():
            pytest.fail("a second probe")
    assert breaker.may_ask()


def test_a_refusal_is_an_answer(clock: Clock) -> None:
    breaker = Breaker(clock)
    fail(breaker, FAILURES)
    pause_seconds(breaker, clock)
    with contextlib.suppress(ProviderError), breaker.guard():
        raise ProviderRefused("INVOICE_PAID")
    fail(breaker, FAILURES - 1)
    assert breaker.may_ask()


@pytest.mark.parametrize("error", [asyncio.CancelledError, ValueError])
def test_a_probe_that_ends_otherwise_lets_another_try(clock: Clock, error: type[BaseException]) -> None:
    breaker = Breaker(clock)
    fail(breaker, FAILURES)
    pause_seconds(breaker, clock)
    with contextlib.suppress(error), breaker.guard():
        raise error
    assert breaker.may_ask()


def test_callers_that_give_up_count_when_they_had_waited(clock: Clock) -> None:
    breaker = Breaker(clock)
    for waited in (1, 1, 1, 1, 1, 1, 3, 3, 3, 3):
        with contextlib.suppress(asyncio.CancelledError), breaker.guard():
            clock.advance(waited)
            raise asyncio.CancelledError
    assert breaker.may_ask()
    with contextlib.suppress(asyncio.CancelledError), breaker.guard():
        clock.advance(3)
        raise asyncio.CancelledError
    assert not breaker.may_ask()


def test_questions_from_before_do_not_lengthen_the_pause(clock: Clock) -> None:
    breaker = Breaker(clock)
    with contextlib.suppress(ProviderUnavailable), breaker.guard():
        fail(breaker, FAILURES)
        clock.advance(9)
        raise ProviderUnavailable
    assert pause_seconds(breaker, clock) == 1


async def test_open_it_sends_nothing(qpay: FakeQPay, make_client: MakeClient, clock: Clock) -> None:
    heard: list[tuple[str, str]] = []
    client = await make_client(qpay.url, on_request=lambda name, result, _: heard.append((name, result)))
    qpay.always["payment_check"] = BAD_GATEWAY
    for _ in range(FAILURES):
        assert client.answering()
        with pytest.raises(ProviderUnavailable):
            await client.check(INVOICE_ID)
    assert not client.answering()
    for question in (client.check, client.get_payment, client.get_invoice):
        with pytest.raises(ProviderUnavailable, match="shortly"):
            await question(PAYMENT_ID)
    assert heard[-1] == ("invoice_get", "skipped")
    assert qpay.count("payment_check") == FAILURES
    assert await client.cancel_invoice(INVOICE_ID) is Cancelling.CANCELLED
    del qpay.always["payment_check"]
    qpay.always["payment_check"] = Reply(body='{"count":0,"rows":[]}')
    clock.advance(10)
    assert client.answering()
    assert (await client.check(INVOICE_ID)).complete
    assert client.answering()


async def test_many_at_once_send_one_probe(client: QPay, qpay: FakeQPay, clock: Clock) -> None:
    qpay.always["payment_check"] = BAD_GATEWAY
    await asyncio.gather(*(client.check(INVOICE_ID) for _ in range(20)), return_exceptions=True)
    sent = qpay.count("payment_check")
    clock.advance(10)
    await asyncio.gather(*(client.check(INVOICE_ID) for _ in range(20)), return_exceptions=True)
    assert qpay.count("payment_check") == sent + 1


async def test_those_who_wait_for_the_probe_are_answered(client: QPay, qpay: FakeQPay, clock: Clock) -> None:
    """A session's invoices are asked about together: the first look after an outage must be complete."""
    qpay.always["payment_check"] = BAD_GATEWAY
    await asyncio.gather(*(client.check(INVOICE_ID) for _ in range(FAILURES)), return_exceptions=True)
    qpay.always["payment_check"] = Reply(body='{"count":0,"rows":[]}')
    clock.advance(10)
    found = await asyncio.gather(*(client.check(INVOICE_ID) for _ in range(20)))
    assert all(answer.complete for answer in found)


async def test_those_who_wait_try_in_turn_when_the_probe_is_given_up(clock: Clock) -> None:
    breaker = Breaker(clock)
    fail(breaker, FAILURES)
    pause_seconds(breaker, clock)
    asked: list[str] = []
    stuck, answers = asyncio.Event(), asyncio.Event()

    async def ask(name: str, answer: asyncio.Event) -> None:
        await breaker.turn()
        with breaker.guard():
            asked.append(name)
            await answer.wait()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        probe = group.create_task(ask("first", stuck))
        for name in ("second", "third"):
            group.create_task(ask(name, answers))
        await asyncio.wait([probe], timeout=0)
        assert asked == ["first"]
        probe.cancel()
        await asyncio.wait([probe])
        for _ in range(5):
            await asyncio.sleep(0)
        assert asked == ["first", "second"], "one at a time"
        answers.set()
    assert asked == ["first", "second", "third"]
