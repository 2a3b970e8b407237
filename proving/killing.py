"""A shop whose ports die, fail or lose their answer at the n-th call, under a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any

from proving.host import KEYS, LINKS
from proving.laws import check_session
from proving.qpay import Bill, SmallQPay
from proving.world import START
from tulbur.cache import MemoryBackend, SessionCache
from tulbur.core.orders import Item
from tulbur.core.session import SECOND, Micros, Reason, Session, Status
from tulbur.errors import (
    CommitUnknown,
    ProviderUnavailable,
    SourceUnavailable,
    SpoolUnavailable,
    StoreUnavailable,
    TulburError,
)
from tulbur.payments import OpenRequest, Payments
from tulbur.payments.desk import Desk
from tulbur.ports import InvoiceRequest, OldShop, Spool, Store, SweepRun
from tulbur.worker import Replayer, Worker

CREATE_INVOICE = 3
"""Which call of an opening asks QPay for the invoice; the session is stored and cached before."""


@dataclass
class Clock:
    now: Micros = START

    def __call__(self) -> Micros:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


@dataclass
class Heard:
    """Records what the use cases tell; repairs nothing."""

    loads: list[str] = field(default_factory=list)
    asks: list[Reason] = field(default_factory=list)
    changes: list[Session] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)
    sweeps: list[SweepRun] = field(default_factory=list)

    def loaded(self, session_id: str, source: str) -> None:
        self.loads.append(source)

    def called_back(self, outcome: str, seconds: float) -> None:
        raise AssertionError("only the web tells this")

    def asked(self, reason: Reason) -> None:
        self.asks.append(reason)

    def changed(self, session: Session) -> None:
        self.changes.append(session)

    def unmatched(self, session_id: str, payment_id: str) -> None:
        self.lost.append((session_id, payment_id))

    def swept(self, run: SweepRun) -> None:
        self.sweeps.append(run)


def request(**changes: Any) -> OpenRequest:
    """A cart of two shops over 50,000 tugrik."""
    items = (
        Item(shop_id="s1", product_id="p1", title="Цай", quantity=2, unit_price=1_500_000),
        Item(shop_id="s2", product_id="p2", title="Аяга", quantity=1, unit_price=2_000_000),
    )
    fields: dict[str, Any] = {
        "user_id": "u1",
        "amount": 5_000_000,
        "items": items,
        "expires_in": 1800,
        "cache_seconds": 600,
        "body_digest": "digest",
    }
    return OpenRequest(**(fields | changes))


class Fault(StrEnum):
    """What happens at the n-th call of a port, before or after the call has had its effect."""

    KILLED_BEFORE = "killed before"
    KILLED_AFTER = "killed after"
    REFUSED = "not executed, error"
    LOST = "executed, answer lost"


@dataclass
class Killer:
    """Counts the calls of all ports; at call `at` the fault strikes. A killed process makes no further call."""

    at: int = 0
    fault: Fault = Fault.KILLED_BEFORE
    count: int = 0
    dead: bool = False
    struck: str = ""
    pace: Random | None = None

    async def call(self, port: str, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        if self.dead:
            raise asyncio.CancelledError
        self.count += 1
        number = self.count
        await self._pause()
        if number != self.at:
            result = await work()
            await self._pause()
            return result
        self.struck = f"{port}.{name}"
        self.dead = self.fault in (Fault.KILLED_BEFORE, Fault.KILLED_AFTER)
        result = None
        if self.fault in (Fault.KILLED_AFTER, Fault.LOST):
            result = await work()
        if self.dead:
            raise asyncio.CancelledError
        return self._answer(port, name, result)

    async def _pause(self) -> None:
        for _ in range(self.pace.randrange(6) if self.pace else 0):
            await asyncio.sleep(0)

    def _answer(self, port: str, name: str, result: Any) -> Any:
        if port == "cache":
            return None  # a cache never raises: it misses
        if port == "provider":
            raise ProviderUnavailable
        if port == "old_shop":
            raise SourceUnavailable
        if port == "spool":
            raise SpoolUnavailable
        raise CommitUnknown if self.fault is Fault.LOST and name in ("add", "commit") else StoreUnavailable


class Dying:
    """A port whose asynchronous methods pass through a killer."""

    def __init__(self, port: str, target: Any, killer: Killer) -> None:
        self._port, self._target, self._killer = port, target, killer

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def called(*args: Any, **kwargs: Any) -> Any:
            return await self._killer.call(self._port, name, lambda: method(*args, **kwargs))

        return called


class Away:
    """A database that does not answer."""

    def __getattr__(self, name: str) -> Any:
        async def called(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            raise StoreUnavailable

        return called


@dataclass
class Process:
    """One process of tulbur: its own cache and memory; database and QPay are shared with the next one."""

    payments: Payments
    worker: Worker
    heard: Heard
    replayer: Replayer | None = None

    async def open(self, **changes: Any) -> Session:
        return await self.payments.open(request(**changes))


@dataclass
class Shop:
    """Everything that outlives a process; while `away` new processes find no database."""

    store: Store
    clock: Clock
    qpay: SmallQPay
    old_shop: OldShop | None = None
    spool: Spool | None = None
    away: bool = False
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def process(self, killer: Killer | None = None) -> Process:
        killer = killer or Killer()
        heard = Heard()
        cache = SessionCache(MemoryBackend(self.clock), KEYS, self.clock)
        store: Any = Dying("store", Away() if self.away else self.store, killer)
        shared: Any = Dying("cache", cache, killer)
        provider: Any = Dying("provider", self.qpay, killer)
        old_shop: Any = Dying("old_shop", self.old_shop, killer) if self.old_shop else None
        spool: Any = Dying("spool", self.spool, killer) if self.spool else None
        desk = Desk(
            store=store,
            cache=shared,
            provider=provider,
            links=LINKS,
            sink=heard,
            clock=self.clock,
            new_id=lambda: f"{next(self.numbers):032x}",
            old_shop=old_shop,
            spool=spool,
        )
        payments = Payments(desk)
        replayer = Replayer(payments, spool) if spool else None
        return Process(payments, Worker(payments, owner=f"w{next(self.numbers)}"), heard, replayer)

    async def stored(self, session_id: str) -> Session:
        found = await self.store.get(session_id)
        assert found is not None
        return found

    async def at_rest(self, session_id: str, seconds: float = 86_400) -> Session:
        """Let a healthy worker do all that is due within some time, and judge what came of it by the laws."""
        process = self.process()
        end = self.clock.now + int(seconds * 1_000_000)
        for _ in range(100):
            session = await self.stored(session_id)
            if session.next_check_at is None:
                break
            self.clock.now = max(self.clock.now, session.next_check_at) + 61_000_000  # and a lease has ended
            assert self.clock.now < end, "law 2: nothing waits without an end"
            await process.worker.once()
            await process.payments.stop()
        session = await self.stored(session_id)
        await self.judge(session)
        return session

    async def judge(self, session: Session) -> None:
        check_session(session)
        assert session.next_check_at is None, "law 2: it came to rest"
        received = {p.id: p.amount for b in self.bills(session) for p in b.payments if p.status != "FAILED"}
        known = {p.id: p.amount for p in session.payments if p.received}
        assert known == received, "law 9: every tugrik QPay has is accounted for"
        if sum(received.values()) >= session.amount:
            assert session.status is Status.PAID, "law 2: paid means ordered"
        types = [event.type for event in await self.store.history(session.id, 200)]
        assert types.count("session.paid") == (session.status is Status.PAID), "law 1: one order set"
        assert types.count("order.created") == len(session.orders)
        for order in session.orders:
            assert await self.store.order(order.id) == (session.id, order), "law 6: one transaction"

    def open_bills(self, session: Session) -> list[Bill]:
        return [b for b in self.bills(session) if not b.cancelled and not b.payments]

    def bills(self, session: Session) -> list[Bill]:
        ours = {attempt.sender_invoice_no for attempt in session.attempts}
        return [b for b in self.qpay.bills.values() if b.request.sender_invoice_no in ours]


async def ended(act: Awaitable[object]) -> object:
    """What a use case came to under a fault: its result, our error, or its death."""
    (done,) = await asyncio.gather(asyncio.ensure_future(act), return_exceptions=True)
    if isinstance(done, BaseException):
        assert isinstance(done, asyncio.CancelledError | TulburError), repr(done)
    return done


def foreign_bill(shop: Shop, sender_invoice_no: str = "WEB-17") -> str:
    """An invoice somebody else made with our login, and its payment."""
    number = f"foreign-{len(shop.qpay.bills)}"
    request = InvoiceRequest(
        sender_invoice_no=sender_invoice_no, receiver_code="t", description="x", amount=100_00, callback_url="u"
    )
    shop.qpay.bills[number] = Bill(number, request)
    return shop.qpay.pay(number, 100_00)
