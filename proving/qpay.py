"""A small QPay in this process: invoices and payments, and nothing else."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from tulbur.core.session import SECOND, Micros
from tulbur.core.settling import InvoiceAnswer, InvoiceSeen, SeenPayment
from tulbur.core.steps import InvoiceMade
from tulbur.ports import Cancelling, Clock, GivingBack, InvoiceRequest, PaymentPage

PAGE_ROWS = 100
"""Rows of one page of the list."""


@dataclass
class Bill:
    """An invoice at the small QPay, and what was paid on it."""

    id: str
    request: InvoiceRequest
    cancelled: bool = False
    payments: list[SeenPayment] = field(default_factory=list)
    hidden: bool = False

    def seen(self) -> tuple[SeenPayment, ...]:
        return () if self.hidden else tuple(self.payments)


@dataclass
class SmallQPay:
    """Invoices and payments, answered at once and without faults of its own; `before` runs in front of each call."""

    clock: Clock
    bills: dict[str, Bill] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    given_back: list[str] = field(default_factory=list)
    before: Callable[[str], Awaitable[None]] | None = None
    page_rows: int = PAGE_ROWS
    prefix: str = ""
    """Of every id, where the invoices of several small QPays meet in one database."""

    def answering(self) -> bool:
        return True

    def taking_invoices(self) -> bool:
        return True

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def login(self) -> None: ...

    async def create_invoice(self, request: InvoiceRequest) -> InvoiceMade:
        await self._called("create_invoice")
        bill = self._made(request)
        return InvoiceMade(id=bill.id, qr_text=f"QR {bill.id}", qr_image="png")

    async def get_invoice(self, invoice_id: str) -> InvoiceSeen | None:
        await self._called("get_invoice")
        bill = self.bills.get(invoice_id)
        if bill is None:
            return None
        status = "CANCELED" if bill.cancelled else "CLOSED" if bill.payments else "OPEN"
        asked = bill.request
        return InvoiceSeen(id=bill.id, status=status, sender_invoice_no=asked.sender_invoice_no, amount=asked.amount)

    async def cancel_invoice(self, invoice_id: str) -> Cancelling:
        await self._called("cancel_invoice")
        bill = self.bills.get(invoice_id)
        if bill is None:
            return Cancelling.NOT_FOUND
        if bill.payments:
            return Cancelling.PAID
        was, bill.cancelled = bill.cancelled, True
        return Cancelling.ALREADY if was else Cancelling.CANCELLED

    async def check(self, invoice_id: str) -> InvoiceAnswer:
        await self._called("check")
        payments = tuple(replace(p, invoice_id="", paid_at=None) for p in self.bills[invoice_id].seen())
        return InvoiceAnswer(invoice_id=invoice_id, payments=payments)

    async def get_payment(self, payment_id: str) -> SeenPayment | None:
        await self._called("get_payment")
        return next((p for bill in self.bills.values() for p in bill.seen() if p.id == payment_id), None)

    async def list_payments(self, start: Micros, end: Micros, page: int = 1) -> PaymentPage:
        await self._called("list_payments")
        seconds = range(start // SECOND, end // SECOND + 1)
        shown = [p for bill in self.bills.values() for p in bill.seen() if (p.paid_at or 0) // SECOND in seconds]
        return self.page_of(sorted(shown, key=lambda p: (p.paid_at, p.id)), page)

    def page_of(self, rows: Sequence[SeenPayment], page: int, moved: int = 0) -> PaymentPage:
        """A page of the whole list; `moved` are the rows that went to the page before, or came from it, meanwhile.

        A page has room for more than comes in two seconds, however short it is: no window is shorter.
        """
        counts = Counter((p.paid_at or 0) // SECOND for p in rows)
        most = max((count + counts[second + 1] for second, count in list(counts.items())), default=0)
        size = max(self.page_rows, min(most + 1, PAGE_ROWS))
        first = max((page - 1) * size + moved, 0)
        shown = tuple(rows[first : first + size])
        return PaymentPage(payments=shown, complete=True, more=len(shown) == size, total=len(rows))

    async def refund_payment(self, payment_id: str, note: str) -> GivingBack:  # noqa: ARG002 - it tells nobody
        await self._called("refund_payment")
        for bill in self.bills.values():
            for at, p in enumerate(bill.payments):
                if p.id == payment_id and p.method == "CARD":
                    bill.payments[at] = replace(p, status="REFUNDED")
                    self.given_back.append(payment_id)
                    return GivingBack.ACCEPTED
        return GivingBack.SETTLED

    def bill(self, sender_invoice_no: str, amount: int, callback_url: str) -> Bill:
        """An invoice that none of the processes asked for: another system did, or one whose database is lost."""
        request = InvoiceRequest(
            sender_invoice_no=sender_invoice_no,
            receiver_code="terminal",
            description="",
            amount=amount,
            callback_url=callback_url,
        )
        return self._made(request)

    def _made(self, request: InvoiceRequest) -> Bill:
        bill = Bill(f"{self.prefix}inv-{len(self.bills) + 1}", request)
        self.bills[bill.id] = bill
        return bill

    def refund_at_portal(self, payment_id: str) -> None:
        """Somebody gives a payment back in QPay's own portal, where bank payments can be, too."""
        for bill in self.bills.values():
            bill.payments = [replace(p, status="REFUNDED") if p.id == payment_id else p for p in bill.payments]

    def pay(
        self,
        invoice_id: str,
        amount: int = 5_000_000,
        status: str = "PAID",
        currency: str = "MNT",
        method: str = "P2P",
        *,
        crossing: bool = False,
    ) -> str:
        """Money reaches an invoice, and nobody is told; a cancelled one only where the money was `crossing`."""
        bill = self.bills[invoice_id]
        assert crossing or not bill.cancelled, "nobody can pay a cancelled invoice"
        number = sum(len(b.payments) for b in self.bills.values()) + 1
        payment = SeenPayment(
            id=f"{self.prefix}pay-{number}",
            amount=amount,
            currency=currency,
            status=status,
            invoice_id=bill.id,
            method=method,
            paid_at=self.clock(),
        )
        bill.payments.append(payment)
        return payment.id

    async def _called(self, name: str) -> None:
        self.calls.append(name)
        await asyncio.sleep(0)
        if self.before is not None:
            await self.before(name)
