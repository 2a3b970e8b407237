"""Cache, QPay and database taken away in turn from real processes under load: what is answered stays true.

Without the cache nothing is lost but speed; without QPay nothing is decided; without the database nothing is promised
that is not kept, and whatever was promised is ordered when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from proving.figures.books import Books
from proving.figures.figure import Figure
from proving.figures.services import (
    API_KEY,
    SHOPS,
    Bank,
    Paid,
    Service,
    Shop,
    bank,
    callback_path,
    migrated,
    pay_path,
    serving,
)
from proving.figures.wire import Answer, Line, Unanswered, request
from testbed.servers import Server, Servers

AT_ONCE: Final = 8
MOST_SLOWER: Final = 2.0
LEAST_SUCCESS: Final = 0.9999

POLL_SECONDS: Final = 0.1

MOST_ROUND_SECONDS: Final = 120.0

BACK_SECONDS: Final = 180.0
"""How long after something is back all must be settled: QPay's breaker and a look's first pauses fit into it."""

CACHE_KILLED: Final = "cache: killed under load"
CACHE_GONE: Final = "cache: request while it was dead"
QPAY_GONE: Final = "QPay: nobody listens"
QPAY_HEARD: Final = "QPay: callback of a payment while it was dead"
QPAY_FORGED: Final = "QPay: made-up payment id while it was dead"
QPAY_LOST: Final = "QPay: paid, and the callback lost"
QPAY_LOOKED: Final = "QPay: payer said to have paid while it was dead"
QPAY_DEADLINE: Final = "QPay: deadline passed while it was dead"
DATABASE_KILLED: Final = "database: killed under load"
DATABASE_SPOOLED: Final = "database: callback while it was dead, with a spool"
DATABASE_REFUSED: Final = "database: callback while it was dead, without a spool"
DATABASE_AGAIN: Final = "database: callback refused, and delivered again"

LISTED: Final = (
    CACHE_KILLED,
    CACHE_GONE,
    QPAY_GONE,
    QPAY_HEARD,
    QPAY_FORGED,
    QPAY_LOST,
    QPAY_LOOKED,
    QPAY_DEADLINE,
    DATABASE_KILLED,
    DATABASE_SPOOLED,
    DATABASE_REFUSED,
    DATABASE_AGAIN,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of each; times in seconds."""

    rounds: int = 5
    round_seconds: float = 6.0
    """The shortest time with and without the cache."""
    requests: int = 30_000
    """How many without it, in all rounds together: that many clean ones bound the failure rate at 1e-4."""
    sessions: int = 60
    qpay_away: float = 30.0
    expires_in: int = 10
    """The deadline of the sessions QPay leaves alone: it passes while QPay is away, where that is to be tried."""
    compared: bool = True
    """Whether the slowness without the cache is judged: not in a short run on a busy machine."""


@dataclass(frozen=True, slots=True)
class Rig:
    figure: Figure
    servers: dict[str, Server]
    database: str
    qpay: Bank
    services: Sequence[Service]
    """One with a spool, then one without."""
    rng: Random

    @property
    def shop(self) -> Shop:
        return Shop(self.services, self.qpay, at_once=AT_ONCE)


async def run(figure: Figure, folder: Path, servers: Servers, plan: Plan, *, seed: int = 1) -> None:
    """Take each away in turn; each run has servers of its own, which it kills."""
    async with _rig(figure, folder, servers, seed) as rig:
        await _without_cache(rig, plan)
        await _without_qpay(rig, plan)
        await _without_database(rig, plan)
        for service in rig.services:
            if b"Traceback" in service.log.read_bytes():
                figure.fails(f"a traceback is in the log {service.log.name}")


@contextlib.asynccontextmanager
async def _rig(figure: Figure, folder: Path, servers: Servers, seed: int) -> AsyncIterator[Rig]:
    async with contextlib.AsyncExitStack() as stack:
        own = {name: stack.enter_context(servers.own(name)) for name in ("postgres", "valkey")}
        database = await asyncio.to_thread(lambda: migrated(own["postgres"].url()))
        qpay = await stack.enter_async_context(bank())
        settings = {"DATABASE_URL": database, "REDIS_URL": own["valkey"].admin_url}
        spool = folder / "spool"
        spool.mkdir(mode=0o700)
        both = [settings | {"SPOOL_DIR": str(spool)}, settings]
        services = await stack.enter_async_context(serving(folder, qpay, both))
        yield Rig(figure, own, database, qpay, services, Random(seed))


# --- the cache -------------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """What all clients ask, again and again, and how it was answered."""

    rig: Rig
    requests: Sequence[bytes]
    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    stopped: bool = False

    async def client(self, port: int) -> None:
        line = await Line.to(port)
        while not self.stopped:
            began = time.perf_counter()
            try:
                answer = await line.ask(self.rig.rng.choice(self.requests))
            except Unanswered:
                self.failed += 1
                line.abort()
                line = await Line.to(port)
                continue
            self.seconds.append(time.perf_counter() - began)
            self.failed += answer.status not in (200, 201)
        await line.close()

    async def comes_to(self, requests: int, seconds: float) -> None:
        """Until so many were made since the last `taken`, or for so long."""
        until = time.monotonic() + seconds
        while len(self.seconds) + self.failed < requests and time.monotonic() < until:  # noqa: ASYNC110 - the clients only count
            await asyncio.sleep(POLL_SECONDS)

    def taken(self) -> tuple[list[float], int]:
        taken = sorted(self.seconds), self.failed
        self.seconds, self.failed = [], 0
        return taken


async def _without_cache(rig: Rig, plan: Plan) -> None:
    """Alive and dead in turn, under one load: readers, payers' pages, repeated callbacks, and new sessions."""
    valkey, figure = rig.servers["valkey"], rig.figure
    paid = await rig.shop.pay(await rig.shop.opened(plan.sessions))
    await _called_back(rig, paid)
    load = Load(rig, list(_readers(paid)))
    clients = [asyncio.create_task(load.client(rig.services[n % 2].port)) for n in range(AT_ONCE)]
    p99: dict[bool, list[float]] = {True: [], False: []}
    requests = failed = 0
    for _ in range(plan.rounds):
        for alive in (True, False):
            if not alive:
                await asyncio.to_thread(valkey.kill)
                figure.struck(CACHE_KILLED)
            elif not valkey.running():
                await asyncio.to_thread(valkey.start)
            load.taken()
            await asyncio.sleep(plan.round_seconds)
            if not alive:
                await load.comes_to(plan.requests // plan.rounds, MOST_ROUND_SECONDS - plan.round_seconds)
            seconds, broken = load.taken()
            p99[alive].append(_p99(seconds))
            if not alive:
                requests, failed = requests + len(seconds), failed + broken
                figure.struck(CACHE_GONE, len(seconds))
            elif broken:
                figure.fails(f"{broken} requests failed with the cache alive")
    load.stopped = True
    await asyncio.gather(*clients)
    await asyncio.to_thread(valkey.start)
    figure.trials += requests
    _compared(figure, plan, {alive: statistics.median(p99[alive]) for alive in p99}, requests, failed)


def _compared(figure: Figure, plan: Plan, p99: dict[bool, float], requests: int, failed: int) -> None:
    slower = p99[False] / p99[True]
    figure.facts.append(f"cache dead: {failed} of {requests:,} requests failed")
    figure.facts.append(
        f"p99, medians of {plan.rounds} turns: {p99[True] * 1000:.1f} ms with the cache, {p99[False] * 1000:.1f} ms "
        f"without: {slower:.2f} times"
    )
    if failed > requests * (1 - LEAST_SUCCESS):
        figure.fails(f"without the cache {failed} of {requests} requests failed")
    if plan.compared and slower > MOST_SLOWER:
        figure.fails(f"without the cache p99 is {slower:.2f} times as long")


def _readers(paid: Sequence[Paid]) -> Iterator[bytes]:
    for one in paid:
        yield request("GET", f"/v1/sessions/{one.session_id}", key=API_KEY)
        yield request("GET", f"{pay_path(one.session_id)}/status")
        yield request("GET", f"{callback_path(one.session_id)}?qpay_payment_id={one.payment_id}")


def _p99(seconds: Sequence[float]) -> float:
    return seconds[int(len(seconds) * 0.99)] if seconds else 0.0


# --- QPay ------------------------------------------------------------------------------------------------------------


async def _without_qpay(rig: Rig, plan: Plan) -> None:
    """Paid and unpaid sessions, called back, forged and forgotten, while nobody listens at QPay."""
    figure = rig.figure
    opened = await rig.shop.opened(plan.sessions, expires_in=plan.expires_in)
    half = len(opened) // 2
    paid = await rig.shop.pay(opened[:half])
    unpaid = [session["id"] for session in opened[half:]]
    await rig.qpay.leave()
    figure.struck(QPAY_GONE)
    until = time.monotonic() + plan.qpay_away
    heard = await _while_qpay_is_away(rig, paid, unpaid)
    # A payment of which nobody told is found at the deadline.
    passed = plan.expires_in < plan.qpay_away
    found = paid if passed else heard
    wanted = dict.fromkeys((session["id"] for session in opened), "EXPIRED" if passed else "PENDING")
    wanted |= dict.fromkeys((one.session_id for one in found), "PAID")
    async with Books.of(rig.database) as books:

        async def statuses() -> dict[str, str]:
            return {id_: status for id_, status in (await books.statuses()).items() if id_ in wanted}

        while time.monotonic() < until:
            moved = {id_: status for id_, status in (await statuses()).items() if status != "PENDING"}
            if moved:
                figure.fails(f"decided while QPay was away: {moved}")
                break
            await asyncio.sleep(0.5)
        if passed:
            figure.struck(QPAY_DEADLINE, len(wanted))
        await rig.qpay.listen()
        seconds = await _settled(figure, statuses, wanted)
        figure.facts.append(f"QPay back: {len(found)} paid sessions ordered within {seconds:.1f} s")
        orders = await books.ordered()
    whole = sum(orders.get(one.session_id, 0) == len(SHOPS) for one in found)
    figure.holds("paid sessions with a whole order set", whole, len(found))
    figure.holds("orders of sessions nobody paid", sum(orders.get(session_id, 0) for session_id in unpaid), 0)
    figure.trials += len(wanted)


async def _while_qpay_is_away(rig: Rig, paid: Sequence[Paid], unpaid: Sequence[str]) -> list[Paid]:
    """What comes meanwhile; the payments whose callbacks did."""
    figure = rig.figure
    forged = [Paid(session_id, f"forged-{number}") for number, session_id in enumerate(unpaid[::2])]
    heard = [one for number, one in enumerate(paid) if number % 3]
    figure.struck(QPAY_LOST, len(paid) - len(heard))
    for fault, some in ((QPAY_HEARD, heard), (QPAY_FORGED, forged)):
        for answer in await _called_back(rig, some):
            figure.struck(fault)
            if answer is None or answer.body != b"SUCCESS":
                figure.fails(f"{fault}: answered {answer}")
    for session_id in [one.session_id for one in paid[:3]] + list(unpaid[:3]):
        answer = await _asked(rig.services[0].port, request("POST", f"{pay_path(session_id)}/check"))
        figure.struck(QPAY_LOOKED)
        if answer is None or answer.status >= 500:
            figure.fails(f"{QPAY_LOOKED}: answered {answer}")
    return heard


async def _settled(figure: Figure, look: Callable[[], Awaitable[object]], wanted: object) -> float:
    """Seconds until what is looked at is as wanted."""
    began = time.monotonic()
    while (found := await look()) != wanted:
        if time.monotonic() - began > BACK_SECONDS:
            figure.fails(f"after {BACK_SECONDS:.0f} s: {found}, and not {wanted}")
            break
        await asyncio.sleep(0.2)
    return time.monotonic() - began


# --- the database ----------------------------------------------------------------------------------------------------


async def _without_database(rig: Rig, plan: Plan) -> None:
    """Killed as callbacks come; more come while it is dead, to a process with a spool and to one without."""
    figure, postgres = rig.figure, rig.servers["postgres"]
    paid = await rig.shop.pay(await rig.shop.opened(plan.sessions))
    first, later = paid[: len(paid) // 3], paid[len(paid) // 3 :]
    flying = asyncio.create_task(_called_back(rig, first))
    await asyncio.to_thread(postgres.kill)
    figure.struck(DATABASE_KILLED)
    answers = dict(zip(first, await flying, strict=True))
    for number, (service, fault) in enumerate(zip(rig.services, (DATABASE_SPOOLED, DATABASE_REFUSED), strict=True)):
        for one in later[number::2]:
            answer = await _asked(service.port, _hook(one))
            answers[one] = answer
            figure.struck(fault)
            promised = _success(answer)
            if promised != (fault == DATABASE_SPOOLED):
                figure.fails(f"{fault}: answered {answer}")
    await asyncio.to_thread(postgres.start)
    promised_ones = [one for one, answer in answers.items() if _success(answer)]
    wanted = {one.session_id: len(SHOPS) for one in promised_ones}
    async with Books.of(rig.database) as books:

        async def ordered() -> dict[str, int]:
            return {id_: count for id_, count in (await books.ordered()).items() if id_ in wanted}

        seconds = await _settled(figure, ordered, wanted)
        figure.facts.append(f"database back: {len(wanted)} promised sessions ordered within {seconds:.1f} s")
        refused = [one for one, answer in answers.items() if not _success(answer)]
        figure.struck(DATABASE_AGAIN, len(refused))
        for one in refused:
            answer = await _asked(rig.services[1].port, _hook(one))
            if not _success(answer):
                figure.fails(f"{DATABASE_AGAIN}: answered {answer}")
        wanted.update({one.session_id: len(SHOPS) for one in refused})
        await _settled(figure, ordered, wanted)
    figure.trials += len(paid)


def _success(answer: Answer | None) -> bool:
    return answer is not None and (answer.status, answer.body) == (200, b"SUCCESS")


def _hook(one: Paid) -> bytes:
    return request("GET", f"{callback_path(one.session_id)}?qpay_payment_id={one.payment_id}")


async def _called_back(rig: Rig, paid: Sequence[Paid]) -> list[Answer | None]:
    """One callback for each, many at once, at the processes in turn."""
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, each: Paid) -> Answer | None:
        async with at_once:
            return await _asked(rig.services[number % 2].port, _hook(each))

    return await asyncio.gather(*(one(number, each) for number, each in enumerate(paid)))


async def _asked(port: int, data: bytes) -> Answer | None:
    """The answer on a connection of its own; None when there was none."""
    try:
        line = await Line.to(port)
    except Unanswered:
        return None
    try:
        return await line.ask(data)
    except Unanswered:
        return None
    finally:
        line.abort()
