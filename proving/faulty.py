"""The ports of one process, which fail as the run's faults say. None of them asserts or repairs anything."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeVar

from proving.faults import Fault, Faults
from proving.oracle import Oracle
from proving.qpay import SmallQPay
from tulbur.cache import MemoryBackend
from tulbur.core.session import SECOND, Micros, Session
from tulbur.core.settling import InvoiceAnswer, InvoiceSeen, SeenPayment
from tulbur.core.steps import InvoiceMade
from tulbur.errors import (
    CommitUnknown,
    Conflict,
    ProviderRefused,
    ProviderUnavailable,
    StoreUnavailable,
    TulburError,
)
from tulbur.ports import Cancelling, Clock, Committed, InvoiceRequest
from tulbur.qpay.breaker import Breaker
from tulbur.stores.memory import MemoryData, MemoryStore
from tulbur.stores.rows import ORDERED_ALREADY, TOLD_ALREADY, Change

T = TypeVar("T")

UNKNOWN: Final = ("add", "commit")
"""Calls that may leave a caller not knowing whether they happened."""

NOT_FOUND: Final = "INVOICE_NOTFOUND"

SLOW_SECONDS: Final = 20.0
"""How long a slow database takes at most, on the way there and back."""

CALL_SECONDS: Final = 15.0
"""The client's own time limit: no call of QPay's takes longer."""


class Host(Protocol):
    """The process a port belongs to."""

    async def may_go_on(self) -> None:
        """Wait while the process is stopped; here it may be killed, and a killed one ends."""

    @property
    def dead(self) -> bool: ...


# --- the store -----------------------------------------------------------------------------------------------------


class TrueStore(MemoryStore):
    """The database itself, shared by all processes; every write is judged. `written` hears of each."""

    def __init__(
        self,
        clock: Clock,
        data: MemoryData,
        oracle: Oracle,
        faults: Faults,
        commit_ids: Callable[[], str],
        written: Callable[[], None],
    ) -> None:
        super().__init__(clock, data=data, commit_ids=commit_ids)
        self._oracle = oracle
        self._faults = faults
        self._written = written
        self._read_already: dict[str, tuple[bytes, Session]] = {}
        self.away_until: Micros = 0

    def _send_commit(self, write: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever was written answers
        done = write()
        if self._faults.fires(Fault.STORE_RESENT):
            raise CommitUnknown
        return done

    def _write(self, change: Change) -> None:
        before = self._session(change.after.id)
        super()._write(change)
        stored = self._session(change.after.id)
        if stored is not None:
            self._oracle.committed(before, change.after, stored)
        self._written()

    def _check_keys(self, change: Change) -> None:
        try:
            super()._check_keys(change)
        except Conflict as refused:
            with self._oracle.judging(change.after.id):
                twice = refused.message in (TOLD_ALREADY, ORDERED_ALREADY)
                assert not twice, "law 6: a commit that compares and sets is not left to the unique keys"
            raise

    def _read(self, row: Mapping[str, Any]) -> Session:
        # A session is a value, so reading the same bytes once is enough.
        known = self._read_already.get(row["id"])
        if known is None or known[0] is not row["document"] or known[1].version != row["version"]:
            known = self._read_already[row["id"]] = (row["document"], super()._read(row))
        return known[1]

    def judged(self, session_id: str) -> Session:
        """The session as it is stored, for the oracle."""
        return self._read(self.data.sessions[session_id])


class FaultyStore:
    """One process's way to the database; every method of `ports.Store` passes through `_call`."""

    def __init__(self, store: TrueStore, host: Host, faults: Faults, clock: Clock) -> None:
        self._store, self._host, self._faults, self._clock = store, host, faults, clock
        self._kinds = faults.among(Fault.STORE_FAILED, Fault.STORE_LOST, Fault.STORE_LATE, Fault.STORE_SLOW)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any method of the store
        method = getattr(self._store, name)

        async def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            return await self._call(name, lambda: method(*args, **kwargs))

        self.__dict__[name] = called
        return called

    async def _call(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401
        try:
            await self._host.may_go_on()
            fault = await self._before(name, work)
            done = await work()
            if fault is Fault.STORE_SLOW:
                await asyncio.sleep(self._faults.rng.uniform(0, SLOW_SECONDS / 2))
        except asyncio.CancelledError:
            if self._host.dead and name in UNKNOWN and self._faults.fires(Fault.KILLED_IN_FLIGHT):
                self._lands_later(work)
            raise
        await asyncio.sleep(0)
        await self._host.may_go_on()
        if fault is Fault.STORE_LOST:
            self._faults.count(fault)
            raise CommitUnknown if name in UNKNOWN else StoreUnavailable
        if done is Committed.LOST:
            self._faults.count(Fault.STORE_RACE)
        return done

    async def _before(self, name: str, work: Callable[[], Awaitable[Any]]) -> Fault | None:
        """What goes wrong on the way there; what goes wrong on the way back is returned."""
        self._here()
        fault = self._faults.one_of(self._kinds)
        if fault is Fault.STORE_FAILED:
            self._faults.count(fault)
            raise StoreUnavailable
        if fault is Fault.STORE_SLOW:
            self._faults.count(fault)
            await asyncio.sleep(self._faults.rng.uniform(0, SLOW_SECONDS / 2))
        if fault is Fault.STORE_LATE and name in UNKNOWN:
            self._faults.count(fault)
            self._lands_later(work)
            raise CommitUnknown
        return fault

    def _here(self) -> None:
        """Raise StoreUnavailable while the database is away for everybody."""
        now = self._clock()
        if self._faults.calm:
            return
        if self._faults.odds.get(Fault.STORE_AWAY) and self._store.away_until <= now:
            if not self._faults.fires(Fault.STORE_AWAY):
                return
            self._store.away_until = now + int(self._faults.rng.uniform(1, 120) * SECOND)
        if self._store.away_until > now:
            raise StoreUnavailable

    def _lands_later(self, work: Callable[[], Awaitable[Any]]) -> None:
        seconds = self._faults.rng.uniform(0, 30) if self._faults.rng.random() < 0.5 else 0

        async def land() -> None:
            await asyncio.sleep(seconds)
            with contextlib.suppress(TulburError):
                await work()

        # No process has it any more: it is under way in the network.
        asyncio.get_running_loop().create_task(land(), context=Context())


# --- the cache -----------------------------------------------------------------------------------------------------


@dataclass
class Shelf:
    """Where cached bytes lie, with what lay there before; processes may share one."""

    backend: MemoryBackend
    older: dict[str, list[bytes]] = field(default_factory=dict)


class FaultyBackend:
    """One process's way to a shelf."""

    def __init__(self, shelf: Shelf, host: Host, faults: Faults) -> None:
        self._shelf, self._host, self._faults = shelf, host, faults
        self._reads = faults.among(
            Fault.CACHE_MISS,
            Fault.CACHE_ERROR,
            Fault.CACHE_SLOW,
            Fault.CACHE_STALE,
            Fault.CACHE_OTHERS,
            Fault.CACHE_GARBAGE,
            Fault.CACHE_FLUSHED,
        )
        self._writes = faults.among(Fault.CACHE_UNWRITTEN, Fault.CACHE_ERROR, Fault.CACHE_SLOW)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def ping(self) -> None: ...

    async def get(self, key: str) -> bytes | None:
        await self._host.may_go_on()
        fault = self._faults.one_of(self._reads)
        if fault is Fault.CACHE_FLUSHED:
            self._faults.count(fault)
            await self._shelf.backend.stop()
        await self._trouble(fault)
        value = await self._shelf.backend.get(key)
        lie = self._lie(fault, key, value)
        if lie == value:
            return value
        if fault is not None:
            self._faults.count(fault)
        return lie

    def _lie(self, fault: Fault | None, key: str, value: bytes | None) -> bytes | None:
        if fault is Fault.CACHE_MISS:
            return None
        if fault is Fault.CACHE_STALE and self._shelf.older.get(key):
            return self._faults.rng.choice(self._shelf.older[key])
        if fault is Fault.CACHE_OTHERS:
            others = [values[-1] for name, values in self._shelf.older.items() if name != key]
            return self._faults.rng.choice(others) if others else value
        if fault is Fault.CACHE_GARBAGE and value is not None:
            at = self._faults.rng.randrange(len(value))
            return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
        return value

    async def set_if_newer(self, key: str, version: int, value: bytes, ttl_seconds: int) -> None:
        await self._host.may_go_on()
        fault = self._faults.one_of(self._writes)
        await self._trouble(fault)
        if fault is Fault.CACHE_UNWRITTEN:
            self._faults.count(fault)
            return
        self._shelf.older.setdefault(key, []).append(value)
        await self._shelf.backend.set_if_newer(key, version, value, ttl_seconds)

    async def delete(self, key: str) -> None:
        await self._host.may_go_on()
        await self._shelf.backend.delete(key)

    async def _trouble(self, fault: Fault | None) -> None:
        if fault is Fault.CACHE_ERROR:
            self._faults.count(fault)
            raise ConnectionError
        if fault is Fault.CACHE_SLOW:
            self._faults.count(fault)
            await asyncio.sleep(self._faults.rng.uniform(0.01, 1))


# --- the provider --------------------------------------------------------------------------------------------------


@dataclass
class Sight:
    """What QPay shows: from when each payment, and on which invoices it has not told the truth once."""

    from_: dict[str, Micros] = field(default_factory=dict)
    lied: set[str] = field(default_factory=set)
    elsewhere: set[str] = field(default_factory=set)
    away_until: Micros = 0


class Line:
    """One process's way to QPay, with the breaker of the real client."""

    def __init__(self, qpay: SmallQPay, sight: Sight, host: Host, faults: Faults, oracle: Oracle, clock: Clock) -> None:
        self._qpay, self._sight, self._host, self._faults = qpay, sight, host, faults
        self._oracle, self._clock = oracle, clock
        self._breaker = Breaker(clock)
        self._kinds = faults.among(Fault.QPAY_SILENT, Fault.QPAY_LOST, Fault.QPAY_SLOW, Fault.QPAY_REFUSED)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def login(self) -> None: ...

    def answering(self) -> bool:
        return self._breaker.may_ask()

    async def create_invoice(self, request: InvoiceRequest) -> InvoiceMade:
        return await self._call(lambda: self._qpay.create_invoice(request))

    async def get_invoice(self, invoice_id: str) -> InvoiceSeen | None:
        with self._breaker.guard():
            return await self._call(lambda: self._qpay.get_invoice(invoice_id))

    async def cancel_invoice(self, invoice_id: str) -> Cancelling:
        return await self._call(lambda: self._qpay.cancel_invoice(invoice_id))

    async def check(self, invoice_id: str) -> InvoiceAnswer:
        with self._breaker.guard():
            self._oracle.asked(invoice_id)
            try:
                answer = await self._call(lambda: self._checked(invoice_id))
            except ProviderRefused as refusal:
                if refusal.key == NOT_FOUND:
                    self._oracle.answered_in_full(invoice_id)
                raise
            if answer.complete:
                self._oracle.answered_in_full(invoice_id)
            return answer

    async def get_payment(self, payment_id: str) -> SeenPayment | None:
        with self._breaker.guard():
            return await self._call(lambda: self._paid(payment_id))

    async def _call(self, work: Callable[[], Awaitable[T]]) -> T:
        await self._host.may_go_on()
        await self._there()
        fault = self._faults.one_of(self._kinds)
        if fault is not None:
            self._faults.count(fault)
        seconds = self._faults.rng.uniform(0.1, CALL_SECONDS) if fault in (Fault.QPAY_SILENT, Fault.QPAY_SLOW) else 0
        there = seconds * self._faults.rng.random() if fault is Fault.QPAY_SLOW else seconds
        if there:
            await asyncio.sleep(there)
        if fault is Fault.QPAY_SILENT:
            raise ProviderUnavailable
        if fault is Fault.QPAY_REFUSED:
            status = self._faults.rng.choice((400, 401, 403, 422, 500))
            raise ProviderRefused("NO_REASON", provider_status=status)
        done = await work()
        await asyncio.sleep(seconds - there)  # an answer may be old when it comes
        await self._host.may_go_on()
        if fault is Fault.QPAY_LOST:
            raise ProviderUnavailable
        return done

    async def _there(self) -> None:
        now = self._clock()
        if self._faults.calm:
            return
        if self._sight.away_until <= now:
            if not self._faults.fires(Fault.QPAY_AWAY):
                return
            self._sight.away_until = now + int(self._faults.rng.uniform(10, 1800) * SECOND)
        await asyncio.sleep(self._faults.rng.uniform(0, CALL_SECONDS))
        raise ProviderUnavailable

    async def _checked(self, invoice_id: str) -> InvoiceAnswer:
        truth = await self._qpay.check(invoice_id)
        visible = self._visible(truth.payments)
        lies = self._lies(invoice_id, visible)
        if lies is not visible:
            self._sight.lied.add(invoice_id)
        complete = True
        if lies and self._faults.fires(Fault.QPAY_INCOMPLETE):
            lies, complete = lies[: self._faults.rng.randrange(len(lies))], False
        for payment in lies:
            self._oracle.shown(invoice_id, payment)
        return InvoiceAnswer(invoice_id=invoice_id, payments=lies, complete=complete)

    def _lies(self, invoice_id: str, visible: tuple[SeenPayment, ...]) -> tuple[SeenPayment, ...]:
        """What QPay shows of an invoice where it does not tell the truth; else `visible` itself."""
        if visible and self._faults.fires(Fault.QPAY_NOT_FOUND):
            self._sight.lied.add(invoice_id)
            raise ProviderRefused(NOT_FOUND, provider_status=404)
        if visible and self._faults.fires(Fault.QPAY_UNPAID_AGAIN):
            return ()
        if visible and self._faults.fires(Fault.QPAY_UNKNOWN_STATUS):
            return (replace(visible[0], status="SETTLING"), *visible[1:])
        others = [p for bill in self._qpay.bills.values() if bill.id != invoice_id for p in bill.payments]
        others = list(self._visible(tuple(others)))
        if others and self._faults.fires(Fault.QPAY_OTHERS):
            other = replace(self._faults.rng.choice(others), invoice_id="", paid_at=None)
            self._sight.elsewhere.add(other.id)
            return (*visible, other)
        return visible

    async def _paid(self, payment_id: str) -> SeenPayment | None:
        payment = await self._qpay.get_payment(payment_id)
        if payment is None or not self._visible((payment,)) or self._faults.fires(Fault.QPAY_UNPAID_AGAIN):
            return None
        self._oracle.shown(payment.invoice_id, payment)
        return payment

    def _visible(self, payments: tuple[SeenPayment, ...]) -> tuple[SeenPayment, ...]:
        now = self._clock()
        return tuple(p for p in payments if self._sight.from_.get(p.id, 0) <= now)
