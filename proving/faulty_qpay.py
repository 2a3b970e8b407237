"""QPay as one process sees it: silent, slow, refusing, and not always telling the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from proving.faults import Fault, Faults
from proving.host import Host
from proving.oracle import Oracle
from proving.qpay import SmallQPay
from tulbur.core.session import SECOND, Micros
from tulbur.core.settling import InvoiceAnswer, InvoiceSeen, SeenPayment
from tulbur.core.steps import InvoiceMade
from tulbur.errors import (
    ProviderRefused,
    ProviderUnavailable,
)
from tulbur.ports import Cancelling, Clock, GivingBack, InvoiceRequest, PaymentPage
from tulbur.qpay.breaker import Breaker

T = TypeVar("T")

NOT_FOUND: Final = "INVOICE_NOTFOUND"

CALL_SECONDS: Final = 15.0
"""The client's own time limit: no call of QPay's takes longer."""


@dataclass
class Sight:
    """What QPay shows: from when each payment and each refund, and on which invoices it has not told the truth once."""

    from_: dict[str, Micros] = field(default_factory=dict)
    lied: set[str] = field(default_factory=set)
    elsewhere: set[str] = field(default_factory=set)
    refunds_from: dict[str, Micros] = field(default_factory=dict)
    away_until: Micros = 0


class Line:
    """One process's way to QPay, with the breaker of the real client."""

    def __init__(self, qpay: SmallQPay, sight: Sight, host: Host, faults: Faults, oracle: Oracle, clock: Clock) -> None:
        self._qpay, self._sight, self._host, self._faults = qpay, sight, host, faults
        self._oracle, self._clock = oracle, clock
        self._breaker, self._list_breaker = Breaker(clock), Breaker(clock)
        self._kinds = faults.among(Fault.QPAY_SILENT, Fault.QPAY_LOST, Fault.QPAY_SLOW, Fault.QPAY_REFUSED)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def login(self) -> None: ...

    def answering(self) -> bool:
        return self._breaker.may_ask()

    def taking_invoices(self) -> bool:
        return True

    async def create_invoice(self, request: InvoiceRequest) -> InvoiceMade:
        return await self._call(lambda: self._qpay.create_invoice(request))

    async def get_invoice(self, invoice_id: str) -> InvoiceSeen | None:
        await self._breaker.turn()
        with self._breaker.guard():
            return await self._call(lambda: self._qpay.get_invoice(invoice_id))

    async def cancel_invoice(self, invoice_id: str) -> Cancelling:
        return await self._call(lambda: self._qpay.cancel_invoice(invoice_id))

    async def check(self, invoice_id: str) -> InvoiceAnswer:
        await self._breaker.turn()
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
        await self._breaker.turn()
        with self._breaker.guard():
            return await self._call(lambda: self._paid(payment_id))

    async def list_payments(self, start: Micros, end: Micros, page: int = 1) -> PaymentPage:
        await self._list_breaker.turn()
        with self._list_breaker.guard():
            return await self._call(lambda: self._listed(start, end, page))

    async def refund_payment(self, payment_id: str, note: str) -> GivingBack:
        with self._oracle.judging(payment_id):
            self._oracle.books.asks(payment_id)
        return await self._call(lambda: self._given_back(payment_id, note))

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
        truth = await self._qpay.get_payment(payment_id)
        payment = next(iter(self._visible((truth,) if truth else ())), None)
        if payment is None or self._faults.fires(Fault.QPAY_UNPAID_AGAIN):
            return None
        self._oracle.shown(payment.invoice_id, payment)
        return payment

    async def _listed(self, start: Micros, end: Micros, page: int) -> PaymentPage:
        await asyncio.sleep(0)
        seconds = range(start // SECOND, end // SECOND + 1)
        everything = tuple(p for bill in self._qpay.bills.values() for p in bill.payments)
        rows = [p for p in self._visible(everything) if (p.paid_at or 0) // SECOND in seconds]
        moved = self._faults.rng.choice((-1, 1)) if page > 1 and self._faults.fires(Fault.LIST_MOVED) else 0
        listed = self._qpay.page_of(sorted(rows, key=lambda p: (p.paid_at, p.id)), page, moved)
        if listed.payments and self._faults.fires(Fault.LIST_CUT):
            cut = self._faults.rng.randrange(len(listed.payments))
            return replace(listed, payments=listed.payments[:cut], more=False)
        if listed.payments and self._faults.fires(Fault.LIST_UNREADABLE):
            return replace(listed, payments=listed.payments[1:], complete=False)
        return listed

    async def _given_back(self, payment_id: str, note: str) -> GivingBack:
        answer = await self._qpay.refund_payment(payment_id, note)
        if answer is GivingBack.ACCEPTED:
            with self._oracle.judging(payment_id):
                self._oracle.books.gives_back(payment_id)
            if self._faults.fires(Fault.QPAY_REFUND_UNSEEN):
                self._sight.refunds_from[payment_id] = self._clock() + int(self._faults.rng.uniform(1, 7200) * SECOND)
        return answer

    def _visible(self, payments: tuple[SeenPayment, ...]) -> tuple[SeenPayment, ...]:
        now = self._clock()
        return tuple(self._so_far(p, now) for p in payments if self._sight.from_.get(p.id, 0) <= now)

    def _so_far(self, p: SeenPayment, now: Micros) -> SeenPayment:
        return replace(p, status="PAID") if self._sight.refunds_from.get(p.id, 0) > now else p
