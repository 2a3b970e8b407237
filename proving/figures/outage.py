"""QPay gone for days while thousands have paid: after its return everything paid is ordered, and politely asked for.

Worker, sweeper and use cases are the real ones, on virtual time and a memory store; QPay is the small model.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, TypeVar, cast

from proving.figures.figure import Figure
from proving.host import KEYS, LINKS
from proving.laws import check_session
from proving.loop import OWNER, Loop
from proving.qpay import SmallQPay
from proving.world import START
from tulbur.cache import MemoryBackend, SessionCache
from tulbur.core.orders import Item
from tulbur.core.schedule import BUDGETS, DAY
from tulbur.core.session import SECOND, Micros, Reason, Session, Status
from tulbur.core.settling import InvoiceAnswer, InvoiceSeen, SeenPayment
from tulbur.core.steps import InvoiceMade
from tulbur.errors import ProviderUnavailable, TulburError
from tulbur.payments import OpenRequest, Payments
from tulbur.payments.desk import Desk
from tulbur.ports import Cache, Cancelling, Clock, InvoiceRequest, PaymentPage, Provider, Store, SweepRun
from tulbur.qpay.breaker import Breaker
from tulbur.stores.memory import MemoryStore
from tulbur.worker import Sweeper, Worker
from tulbur.worker.pace import IDLE_SECONDS

T = TypeVar("T")

HOURS: Final = 72
PROCESSES: Final = 1
"""One worker has to do all of it."""

AWAY_SECONDS: Final = 5.0
"""How often the worker looks whether QPay may be asked again; `Worker.run` does so each second, to the same effect."""

OPENING_SECONDS: Final = 900
"""In which all sessions are opened, before QPay goes."""

EXPIRY_SECONDS: Final = 3600

PAYING_SECONDS: Final = 1200
"""In which all is paid, just after it went: money moves between banks, and QPay's callbacks may still come out."""

RETURN_SECONDS: Final = 600
"""How soon after QPay's return everything paid has its orders."""

SETTLED_SECONDS: Final = 7200
"""How long after it the world is watched."""

ANSWER_SECONDS: Final = 0.2
SILENCE_SECONDS: Final = 10.0

HEARD: Final = "callback came while QPay was silent"
LOST: Final = "callback lost"
LOOKED: Final = "payer looked while QPay was silent"
REFUSED: Final = "question to QPay refused at once"
TIMED_OUT: Final = "question to QPay without an answer for 10 s"
PASSED: Final = "paid session whose deadline passed meanwhile"
UNPAID: Final = "session that nobody paid"
FORGED: Final = "made-up payment id on it"
KILLED: Final = "process killed meanwhile"

LISTED: Final = (HEARD, LOST, LOOKED, REFUSED, TIMED_OUT, PASSED, UNPAID, FORGED, KILLED)


class LongLoop(Loop):
    """A loop for days: it keeps no task that ended well."""

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:  # noqa: ANN401 - as the loop's own
        task = super().create_task(coro, **options)
        if len(self.tasks) > 10_000:
            self.tasks = [each for each in self.tasks if not _ended_well(each)]
        return task


def _ended_well(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or not cast("Any", task)._log_traceback)


@dataclass
class Heard:
    """What the use cases tell: each question's class, and when each session was paid."""

    clock: Clock
    asked_for: Counter[Reason] = field(default_factory=Counter)
    paid_at: dict[str, Micros] = field(default_factory=dict)

    def loaded(self, session_id: str, source: str) -> None: ...

    def called_back(self, outcome: str, seconds: float) -> None: ...

    def asked(self, reason: Reason) -> None:
        self.asked_for[reason] += 1

    def changed(self, session: Session) -> None:
        if session.status is Status.PAID:
            self.paid_at.setdefault(session.id, self.clock())

    def unmatched(self, session_id: str, payment_id: str) -> None: ...

    def swept(self, run: SweepRun) -> None: ...


class Line:
    """One process's way to QPay, with breakers as the real client has them."""

    def __init__(self, world: World) -> None:
        self._world, self._qpay = world, world.qpay
        self._questions, self._invoices, self._lists = (Breaker(world.clock) for _ in range(3))

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def login(self) -> None: ...

    def answering(self) -> bool:
        return self._questions.may_ask()

    async def create_invoice(self, request: InvoiceRequest) -> InvoiceMade:
        return await self._asked(self._invoices, lambda: self._qpay.create_invoice(request))

    async def cancel_invoice(self, invoice_id: str) -> Cancelling:
        return await self._asked(self._invoices, lambda: self._qpay.cancel_invoice(invoice_id))

    async def get_invoice(self, invoice_id: str) -> InvoiceSeen | None:
        return await self._asked(self._questions, lambda: self._qpay.get_invoice(invoice_id))

    async def check(self, invoice_id: str) -> InvoiceAnswer:
        return await self._asked(self._questions, lambda: self._world.checked(invoice_id))

    async def get_payment(self, payment_id: str) -> SeenPayment | None:
        return await self._asked(self._questions, lambda: self._qpay.get_payment(payment_id))

    async def list_payments(self, start: Micros, end: Micros, page: int = 1) -> PaymentPage:
        return await self._asked(self._lists, lambda: self._qpay.list_payments(start, end, page))

    async def _asked(self, breaker: Breaker, work: Callable[[], Awaitable[T]]) -> T:
        await breaker.turn()
        with breaker.guard():
            return await self._world.reached(work)


class World:
    """A database, a QPay that goes and comes back, and the processes."""

    def __init__(self, loop: LongLoop, rng: Random, figure: Figure) -> None:
        self.loop, self.rng, self.figure = loop, rng, figure
        self._numbers = itertools.count(1)
        self.away = False
        self.checks: Counter[tuple[str, int]] = Counter()
        """Questions about each invoice that reached QPay, by UTC day."""
        self.qpay = SmallQPay(self.clock)
        self.heard = Heard(self.clock)
        self.store = MemoryStore(self.clock)
        self.processes = [Process(self) for _ in range(PROCESSES)]

    def clock(self) -> Micros:
        return START + int(self.loop.time() * SECOND)

    def new_id(self) -> str:
        return f"{next(self._numbers):032x}"

    async def reached(self, work: Callable[[], Awaitable[T]]) -> T:
        """A request on its way to QPay and back.

        Raises:
            ProviderUnavailable: it is away.
        """
        if self.away:
            silent = self.rng.random() < 0.5
            self.figure.struck(TIMED_OUT if silent else REFUSED)
            if silent:
                await asyncio.sleep(SILENCE_SECONDS)
            raise ProviderUnavailable
        await asyncio.sleep(ANSWER_SECONDS)
        return await work()

    async def checked(self, invoice_id: str) -> InvoiceAnswer:
        self.checks[invoice_id, self.clock() // DAY] += 1
        return await self.qpay.check(invoice_id)

    def any(self) -> Payments:
        return self.rng.choice(self.processes).payments

    def kill_one(self) -> None:
        """One process ends where it is, and another takes its place."""
        at = self.rng.randrange(len(self.processes))
        self.processes[at].kill()
        self.processes[at] = Process(self)
        self.figure.struck(KILLED)


class Process:
    """One process: use cases, worker and sweeper."""

    def __init__(self, world: World) -> None:
        self._tasks: list[asyncio.Task[Any]] = []
        self._world = world
        line = Line(world)
        desk = Desk(
            store=cast("Store", world.store),
            cache=cast("Cache", SessionCache(MemoryBackend(world.clock), KEYS, world.clock, final_only=True)),
            provider=cast("Provider", line),
            links=LINKS,
            sink=world.heard,
            clock=world.clock,
            new_id=world.new_id,
        )
        self.payments = Payments(desk)
        owner = f"w{world.new_id()}"
        self._line = line
        self._run(self._work(Worker(self.payments, owner=owner)))
        self._run(Sweeper(self.payments, owner=owner).run())

    def _run(self, coro: Coroutine[Any, Any, None]) -> None:
        context = copy_context()
        context.run(OWNER.set, self._tasks)
        self._world.loop.create_task(coro, context=context)

    async def _work(self, worker: Worker) -> None:
        while True:
            busy = await worker.once()
            if not busy:
                await asyncio.sleep(IDLE_SECONDS if self._line.answering() else AWAY_SECONDS)

    def kill(self) -> None:
        for task in self._tasks:
            task.cancel()


def run(figure: Figure, *, sessions: int, hours: float = HOURS, seed: int = 1) -> None:
    """So many paid sessions, a tenth as many that nobody pays, and QPay away for so many hours."""
    rng = Random(seed)
    steps = 2_000 * sessions + int(hours * 3600) * 100 + 1_000_000
    loop = LongLoop(rng, most_steps=steps)  # type: ignore[abstract] # what it has no use for it refuses
    try:
        loop.run_until_complete(_story(figure, loop, rng, sessions, hours))
        for error in loop.unheard():
            figure.fails(f"nobody heard of {error!r}")
    finally:
        loop.close()


async def _story(figure: Figure, loop: LongLoop, rng: Random, count: int, hours: float) -> None:
    world = World(loop, rng, figure)
    paid = await asyncio.gather(*(_opened(world) for _ in range(count)))
    unpaid = await asyncio.gather(*(_opened(world) for _ in range(max(count // 10, 1))))
    await asyncio.sleep(OPENING_SECONDS - loop.time())
    before = Counter(world.heard.asked_for)
    world.away = True
    back = loop.time() + hours * 3600
    for at in (0.1, 0.5, 0.9):
        loop.call_at(loop.time() + at * hours * 3600, world.kill_one)
    await asyncio.gather(*(_pays(world, s) for s in paid), *(_leaves(world, s) for s in unpaid))
    await asyncio.sleep(back - loop.time())
    during = world.heard.asked_for - before
    await _nothing_moved(world, paid, unpaid)
    world.away = False
    returned = world.clock()
    await asyncio.sleep(SETTLED_SECONDS)
    after = world.heard.asked_for - before - during
    await _judge(world, paid, unpaid, returned)
    figure.trials = count
    for name, asked in (("while QPay was away", during), ("after its return", after)):
        told = ", ".join(f"{reason.value} {asked[reason]:,}" for reason in Reason if asked[reason])
        figure.facts.append(f"questions {name}: {told or 'none'}")


async def _opened(world: World) -> Session:
    await asyncio.sleep(world.rng.uniform(0, OPENING_SECONDS - 60))
    item = Item(shop_id="s1", product_id="p1", title="Цай", quantity=1, unit_price=world.rng.randrange(1, 500) * 100)
    request = OpenRequest(
        user_id="u1",
        amount=item.total,
        items=(item,),
        expires_in=EXPIRY_SECONDS,
        cache_seconds=600,
        body_digest="digest",
    )
    return await world.any().open(request)


async def _pays(world: World, session: Session) -> None:
    await asyncio.sleep(world.rng.uniform(0, PAYING_SECONDS))
    payment_id = world.qpay.pay(str(session.attempts[0].id), session.amount)
    kind = world.rng.random()
    if kind < 0.4:
        world.figure.struck(LOST)
    else:
        await world.any().callback(session.id, payment_id)
        world.figure.struck(HEARD)
    if kind < 0.1 or kind > 0.9:
        await _looks(world, session)


async def _leaves(world: World, session: Session) -> None:
    await asyncio.sleep(world.rng.uniform(0, PAYING_SECONDS))
    world.figure.struck(UNPAID)
    if world.rng.random() < 0.5:
        await world.any().callback(session.id, f"forged-{world.new_id()}")
        world.figure.struck(FORGED)


async def _looks(world: World, session: Session) -> None:
    await asyncio.sleep(world.rng.uniform(0, 600))
    try:
        seen = await world.any().check(session.id)
    except TulburError:
        world.figure.struck(LOOKED)
        return
    if seen.status is not Status.PENDING:
        world.figure.fails(f"{session.id} was told to be {seen.status} while QPay was away")


async def _nothing_moved(world: World, paid: list[Session], unpaid: list[Session]) -> None:
    """Unknown is pending: neither paid nor expired while nobody could tell."""
    for session in (*paid, *unpaid):
        stored = await _stored(world, session)
        if stored.status is not Status.PENDING:
            world.figure.fails(f"{session.id} became {stored.status} while QPay was away")
    world.figure.struck(PASSED, sum(session.expires_at < world.clock() for session in paid))


async def _judge(world: World, paid: list[Session], unpaid: list[Session], returned: Micros) -> None:
    figure, waits = world.figure, []
    for session in paid:
        stored = await _stored(world, session)
        check_session(stored)
        if stored.status is not Status.PAID or len(stored.orders) != 1:
            figure.fails(f"{session.id} is {stored.status} with {len(stored.orders)} orders")
            continue
        waits.append((world.heard.paid_at[session.id] - returned) / SECOND)
        if waits[-1] > RETURN_SECONDS:
            figure.fails(f"{session.id} was ordered {waits[-1]:.0f} s after QPay's return")
        if stored.attempts[0].id is not None and stored.sum("received") != session.amount:
            figure.fails(f"{session.id} has {stored.sum('received')} of {session.amount}")
    for session in unpaid:
        stored = await _stored(world, session)
        if stored.status is not Status.EXPIRED:
            figure.fails(f"{session.id}, which nobody paid, is {stored.status}")
    waits.sort()
    if waits:
        figure.facts.append(
            f"ordered after QPay's return: half within {waits[len(waits) // 2]:.0f} s, all {waits[-1]:.0f} s"
        )
    await _politeness(world, [*paid, *unpaid])


async def _politeness(world: World, sessions: list[Session]) -> None:
    """Each class within its budget, and no question that was not claimed before."""
    for session in sessions:
        for reason, asked in (await _stored(world, session)).asks.counts.items():
            if asked > BUDGETS[Reason(reason)]:
                world.figure.fails(f"{session.id}: {asked} questions of class {reason}")
    most, claimed = max(world.checks.values(), default=0), world.heard.asked_for.total()
    world.figure.facts.append(f"questions about one invoice in one day, at most: {most}")
    lists = sum(name == "list_payments" for name in world.qpay.calls)
    world.figure.facts.append(f"pages of the payment list: {lists:,}")
    if sum(world.checks.values()) > claimed:
        world.figure.fails(f"{sum(world.checks.values()):,} checks reached QPay, {claimed:,} were claimed")


async def _stored(world: World, session: Session) -> Session:
    found = await world.store.get(session.id)
    assert found is not None
    return found
