"""Many callbacks for each session, many at once and from all processes: one order set each, counted in the database."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Final

from proving.figures.books import Books
from proving.figures.figure import Figure
from proving.figures.services import SHOPS, Paid, Service, Shop, bank, callback_path, migrated, serving
from proving.figures.wire import Line, Unanswered, request

PROCESSES: Final = 4
AT_ONCE: Final = 64
CALLBACKS: Final = 100
"""Of each session."""

CHUNK: Final = 50
"""Sessions opened and paid before their callbacks come."""

WAVE: Final = "first wave of 64 written in one step, to all 4 processes"
AGAIN: Final = "callback after the first wave"
GET: Final = "callback by GET"
POST: Final = "callback by POST"
NAMELESS: Final = "callback without a payment id"
PAID: Final = "callback that was there as the order was made"
WAITING: Final = "callback answered while another one settled"
REPEATED: Final = "callback that found the session paid"

MADE: Final = (WAVE, AGAIN, GET, POST, NAMELESS)
"""What the callers do; what becomes of it is the machine's to say."""

LISTED: Final = (*MADE, PAID, WAITING, REPEATED)

SETTLED_SECONDS: Final = 60.0
"""What was answered SUCCESS while QPay was asked is ordered so soon."""

_OUTCOMES: Final[Mapping[str, str]] = {"paid": PAID, "waiting": WAITING, "repeated": REPEATED}
_OUTCOME: Final = re.compile(rb'^tulbur_callbacks_total\{outcome="(\w+)"\} ([\d.e+]+)$', re.MULTILINE)


async def run(
    figure: Figure, folder: Path, database: str, cache: str, *, sessions: int, seconds: float = 0.0, seed: int = 1
) -> None:
    """Call back for so many sessions; after `seconds`, if not 0, no more are begun."""
    settings = {"DATABASE_URL": migrated(database), "REDIS_URL": cache}
    async with contextlib.AsyncExitStack() as stack:
        qpay = await stack.enter_async_context(bank())
        services = await stack.enter_async_context(serving(folder, qpay, [settings] * PROCESSES))
        books = await stack.enter_async_context(Books.of(database))
        ports = [services[number % PROCESSES].port for number in range(AT_ONCE)]
        shop, load = Shop(services, qpay), _Load(figure, ports, Random(seed))
        until = time.monotonic() + seconds if seconds else float("inf")
        done = 0
        while done < sessions and time.monotonic() < until:
            count = min(CHUNK, sessions - done)
            for paid in await shop.pay(await shop.opened(count)):
                await load.call_back(paid)
            done += count
        if done < sessions:
            figure.facts.append(f"{done:,} of {sessions:,} sessions fitted into {seconds:.0f} s")
        figure.trials = done
        figure.facts.append(f"{done * CALLBACKS:,} callbacks, {load.rate:,.0f} a second")
        await _outcomes(figure, services)
        await _counted(figure, books, done)


class _Load:
    """64 connections for each session, which take its callbacks from one heap; a service keeps no idle one for long."""

    def __init__(self, figure: Figure, ports: Sequence[int], rng: Random) -> None:
        self._figure, self._ports, self._rng = figure, ports, rng
        self._seconds = 0.0
        self._calls = 0

    @property
    def rate(self) -> float:
        return self._calls / max(self._seconds, 0.001)

    async def call_back(self, paid: Paid) -> None:
        """All callbacks of one session, the first of each connection written before any is answered."""
        heap = iter([self._one(paid) for _ in range(CALLBACKS)])
        lines = await asyncio.gather(*(Line.to(port) for port in self._ports))
        began = time.monotonic()
        for line in lines:
            line.write(next(heap))
        self._figure.struck(WAVE)
        await asyncio.gather(*(self._answers(line, heap) for line in lines))
        for line in lines:
            line.abort()
        self._calls += CALLBACKS
        self._seconds += time.monotonic() - began
        self._figure.struck(AGAIN, CALLBACKS - AT_ONCE)

    async def _answers(self, line: Line, heap: Iterator[bytes]) -> None:
        while True:
            try:
                answer = await line.answer()
            except Unanswered as error:
                self._figure.fails(f"a callback was not answered: {error}")
                return
            if (answer.status, answer.body) != (200, b"SUCCESS"):
                self._figure.fails(f"a callback was answered {answer.status} {answer.body[:200]!r}")
            following = next(heap, None)
            if following is None:
                return
            line.write(following)

    def _one(self, paid: Paid) -> bytes:
        path, kind = callback_path(paid.session_id), self._rng.random()
        if kind < 0.1:
            self._figure.struck(NAMELESS)
            return request("GET", path)
        if kind < 0.3:
            self._figure.struck(POST)
            return request("POST", path, {"payment_id": paid.payment_id})
        self._figure.struck(GET)
        return request("GET", f"{path}?qpay_payment_id={paid.payment_id}")


async def _outcomes(figure: Figure, services: Sequence[Service]) -> None:
    """What became of the callbacks, as the processes count them."""
    for service in services:
        line = await Line.to(service.port)
        told = (await line.ask(request("GET", "/metrics"))).body
        await line.close()
        found = Counter({name.decode(): int(float(count)) for name, count in _OUTCOME.findall(told)})
        figure.facts.append(f"process {service.port}: {found.total():,} callbacks")
        for outcome, count in found.items():
            if outcome not in _OUTCOMES:
                figure.fails(f"{count} callbacks were {outcome}")
            elif _OUTCOMES[outcome] in figure.listed:
                figure.struck(_OUTCOMES[outcome], count)


async def _counted(figure: Figure, books: Books, sessions: int) -> None:
    until = time.monotonic() + SETTLED_SECONDS
    while await books.number("tulbur_sessions", "status = 'PENDING'"):
        if time.monotonic() > until:
            break
        await asyncio.sleep(0.1)
    figure.holds("sessions PAID", await books.number("tulbur_sessions", "status = 'PAID'"), sessions)
    figure.holds("sessions stored", await books.number("tulbur_sessions"), sessions)
    figure.holds("whole order sets", await books.order_sets(len(SHOPS)), sessions)
    figure.holds("orders", await books.number("tulbur_orders"), sessions * len(SHOPS))
    figure.holds("payments", await books.number("tulbur_payments", "session_id IS NOT NULL"), sessions)
    figure.holds("payments without a session", await books.number("tulbur_payments", "session_id IS NULL"), 0)
    figure.holds("events session.paid", await books.number("tulbur_events", "type = 'session.paid'"), sessions)
