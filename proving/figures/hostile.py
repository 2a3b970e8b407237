"""Malformed and forged requests over raw sockets: nothing breaks, changes or leaks, and the service goes on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from random import Random
from typing import Final

from proving.figures.attacks import INJECTIONS, KINDS, Attack, Targets, places_of
from proving.figures.books import Books
from proving.figures.figure import Figure
from proving.figures.services import (
    API_KEY,
    CART,
    SECRET_KEY,
    SHOPS,
    Bank,
    Service,
    Shop,
    bank,
    callback_path,
    migrated,
    pay_path,
    serving,
)
from proving.figures.wire import Answer, Line, Unanswered, request
from testbed.engine import PASSWORD

PROCESSES: Final = 2
AT_ONCE: Final = 32

JWT_SECRET: Final = "figure-jwt-secret-canary-0123456789abcdef"  # noqa: S105 - of a service that lives for one run
PAYER: Final = "figure-payer-canary"
"""Personal data of a session that exists: nobody but its shop and its payer may read it."""

MOST_TRIES: Final = 5
"""Times a request is sent again to which there was no answer, or a 503."""

HONEST: Final = 2
"""Callbacks that make orders before the strangers come."""

WARM: Final = 0.1
"""Share of the requests after which memory is looked at for the first time: caches and buffers are filled by then."""

MOST_GROWTH: Final = 64 * 1024 * 1024
"""Bytes a process may have more in the end than when it was warm."""

TELLTALES: Final = (
    b"Traceback (most recent call last)",
    b'File "/',
    b"site-packages",
    b"asyncpg",
    b"sqlalchemy",
    b"root:x:0:0",
    b"\r\nset-cookie: stolen",
)
"""What an answer contains when a defect, a driver or a file shows."""


async def run(
    figure: Figure, folder: Path, database: str, cache: str, *, requests: int, seconds: float = 0.0, seed: int = 1
) -> None:
    """Send so many requests, or as many as fit into `seconds` if that is not 0."""
    settings = {
        "DATABASE_URL": migrated(database),
        "REDIS_URL": cache,
        "SEED_API": "on",
        "TULBUR_JWT_SECRET": JWT_SECRET,
        "SEED_API_UNVERIFIED_PRICES": "on",
        "LOG_LEVEL": "INFO",
    }
    async with contextlib.AsyncExitStack() as stack:
        qpay = await stack.enter_async_context(bank())
        # Without its worker nothing changes by itself, so that whatever changes was a stranger.
        services = await stack.enter_async_context(serving(folder, qpay, [settings] * PROCESSES, "--no-worker"))
        books = await stack.enter_async_context(Books.of(database))
        targets = await _targets(services, qpay, Random(seed))
        await _counted(books, HONEST)
        before = await books.content()
        judge = Judge(figure, [PAYER, SECRET_KEY, JWT_SECRET, PASSWORD, *_tokens(targets)])
        await _sent(figure, judge, targets, services, requests, seconds)
        after = await books.content()
        figure.holds("tables whose content changed", [name for name in before if before[name] != after.get(name)], [])
        figure.facts.append(f"{judge.busy} answers were 503, because Redis or the database was too slow; sent again")
        for service in services:
            judge.log(service.log.read_bytes())
        await _goes_on(figure, services, qpay, books)


async def _targets(services: Sequence[Service], qpay: Bank, rng: Random) -> Targets:
    """Sessions in three states, with personal data, and what the document says can be sent."""
    shop = Shop(services, qpay)
    sessions = await shop.opened(6, user_id=PAYER, shipping={"name": PAYER}, expires_in=86_400)
    line = await Line.to(services[0].port)
    for paid in await shop.pay(sessions[:HONEST]):
        await line.ask(request("GET", f"{callback_path(paid.session_id)}?qpay_payment_id={paid.payment_id}"))
    await line.ask(request("POST", f"/v1/sessions/{sessions[2]['id']}/cancel", key=API_KEY))
    document = (await line.ask(request("GET", "/openapi.json"))).json()
    await line.close()
    ids = [session["id"] for session in sessions]
    return Targets(
        places=places_of(document),
        session_ids=ids,
        tokens={session_id: callback_path(session_id).rpartition("/")[2] for session_id in ids},
        pay_tokens={session_id: pay_path(session_id).rpartition("/")[2] for session_id in ids},
        key=API_KEY,
        jwt_secret=JWT_SECRET,
        rng=rng,
    )


async def _counted(books: Books, callbacks: int) -> None:
    """Wait until the honest callbacks are in the shared counts, which each process adds to every few seconds."""
    async with asyncio.timeout(60):
        while await books.tallied() < callbacks:  # noqa: ASYNC110 - another process writes them
            await asyncio.sleep(0.1)


def _tokens(targets: Targets) -> list[str]:
    return [*targets.tokens.values(), *targets.pay_tokens.values()]


class Judge:
    """Whether an answer, or a log, is one that a stranger may have caused."""

    def __init__(self, figure: Figure, canaries: Sequence[str]) -> None:
        self._figure = figure
        self.busy = 0
        self._canaries = [canary.encode() for canary in canaries] + [API_KEY.encode()]

    def answer(self, kind: str, attack: Attack, answer: Answer) -> bool:
        """False for a 503: something behind was too slow for a busy machine, and the request is sent again."""
        said = f"{kind}: {attack.data[:300]!r} was answered {answer.status} {answer.body[:300]!r}"
        for shown in self.shown(answer.head + answer.body):
            self._figure.fails(f"{shown!r} is shown. {said}")
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.busy += 1
            return False
        if answer.status >= 500 or (attack.refused and answer.status < 300):
            self._figure.fails(said)
        return True

    def log(self, log: bytes) -> None:
        for shown in self.shown(log):
            at = log.index(shown)
            self._figure.fails(f"{shown!r} is in the log: {log[max(0, at - 200) : at + 300]!r}")

    def shown(self, text: bytes) -> list[bytes]:
        """What is in a text and must not be."""
        return [word for word in (*self._canaries, *TELLTALES) if word in text]


async def _sent(
    figure: Figure, judge: Judge, targets: Targets, services: Sequence[Service], requests: int, seconds: float
) -> None:
    until = time.monotonic() + seconds if seconds else float("inf")
    numbers = iter(range(requests))
    warm = [0] * len(services)
    began = time.monotonic()

    def attacks() -> Iterator[tuple[str, Attack]]:
        names = list(KINDS)
        for number in numbers:
            if time.monotonic() >= until:
                return
            kind = names[number % len(names)]
            if number == int(requests * WARM) or (not warm[0] and time.monotonic() > began + seconds * WARM > began):
                warm[:] = [service.resident_bytes for service in services]
            figure.trials += 1
            yield kind, KINDS[kind](targets)

    shared = attacks()
    await asyncio.gather(
        *(_stranger(figure, judge, services[number % len(services)].port, shared) for number in range(AT_ONCE))
    )
    took = time.monotonic() - began
    met = sum(kind in INJECTIONS for kind, _ in targets.met)
    figure.facts.append(
        f"{len(targets.places)} parameters of the OpenAPI document; {met} of "
        f"{len(targets.places) * len(INJECTIONS)} met with each kind of injected text"
    )
    if figure.trials < requests:
        figure.facts.append(f"{figure.trials:,} of {requests:,} requests fitted into {seconds:.0f} s")
    figure.facts.append(f"{figure.trials / took:,.0f} requests a second")
    for service, bytes_ in zip(services, warm, strict=True):
        growth = service.resident_bytes - bytes_
        figure.facts.append(f"memory of a process: {bytes_ >> 20} MiB when warm, {growth / 2**20:+.1f} MiB in the end")
        if growth > MOST_GROWTH:
            figure.fails(f"a process grew by {growth >> 20} MiB")


async def _stranger(figure: Figure, judge: Judge, port: int, attacks: Iterator[tuple[str, Attack]]) -> None:
    """One connection after another, each as long as the service keeps it."""
    line: Line | None = None
    for kind, attack in attacks:
        if line is None or not line.open:
            line = await Line.to(port)
        line = await _one(figure, judge, line, port, kind, attack)
        figure.struck(kind)
    if line is not None:
        await line.close()


async def _one(figure: Figure, judge: Judge, line: Line, port: int, kind: str, attack: Attack) -> Line | None:
    """Send one; the connection, while it can be used again."""
    line.write(attack.data)
    if not attack.answers:
        # What was written leaves before the connection is cut.
        await asyncio.sleep(0)
        line.abort()
        return None
    try:
        for number in range(attack.answers):
            answer = await line.answer(bodiless=attack.bodiless)
            if not judge.answer(kind, attack, answer):
                line.abort()
                if not await _answered_anew(judge, port, kind, attack):
                    figure.fails(f"{kind}: {attack.data[:300]!r} was answered 503 again and again")
                return None
            if b"\r\nconnection: close\r\n" in answer.head.lower():
                line.abort()
                if number + 1 < attack.answers:
                    figure.fails(f"{kind}: {number + 1} of {attack.answers} requests were answered")
                return None
    except Unanswered as error:
        line.abort()
        if not attack.raw and not await _answered_anew(judge, port, kind, attack):
            figure.fails(f"{kind}: {attack.data[:300]!r} was not answered: {error}")
        return None
    if attack.raw:
        line.abort()
        return None
    return line


async def _answered_anew(judge: Judge, port: int, kind: str, attack: Attack) -> bool:
    """A kept connection may end as a request is sent, and a busy machine say 503: not again and again on new ones."""
    for _ in range(MOST_TRIES):
        line = await Line.to(port)
        line.write(attack.data)
        try:
            answers = [await line.answer(bodiless=attack.bodiless) for _ in range(attack.answers)]
        except Unanswered:
            continue
        finally:
            line.abort()
        if all([judge.answer(kind, attack, answer) for answer in answers]):  # noqa: C419 - each is judged
            return True
    return False


async def _goes_on(figure: Figure, services: Sequence[Service], qpay: Bank, books: Books) -> None:
    """After all of it each process still opens a session and makes its orders."""
    for service in services:
        shop = Shop([service], qpay, at_once=1)
        (paid,) = await shop.pay(await shop.opened(1, **CART))
        line = await Line.to(service.port)
        path = f"{callback_path(paid.session_id)}?qpay_payment_id={paid.payment_id}"
        answer = await line.ask(request("GET", path))
        await line.close()
        figure.holds("a process afterwards says", answer.body.decode(), "SUCCESS")
        figure.holds("and has made orders", (await books.ordered()).get(paid.session_id, 0), len(SHOPS))
