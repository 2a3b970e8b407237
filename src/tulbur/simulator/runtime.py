"""The simulator itself: its clock, its chance, its books, and the one thing payers do."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

from tulbur.simulator.callbacks import Answer, Callbacks
from tulbur.simulator.faults import FaultBoard, Faults
from tulbur.simulator.hosts import is_qpay_host, refuse_qpay_host
from tulbur.simulator.ids import Ids
from tulbur.simulator.journal import Journal
from tulbur.simulator.state import Invoice, Ledger, Money, Payment
from tulbur.simulator.tokens import TokenBook

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping


class Simulator:
    """One simulated QPay. Times are epoch seconds; everything is kept in memory."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        bank_links: bool = False,
        public_url: str | None = None,
        faults: Faults | Mapping[str, Any] | None = None,
    ) -> None:
        if public_url is not None:
            refuse_qpay_host(public_url.partition("//")[2].partition("/")[0], "to be reached as")
        self.clock = clock
        self.sleep = sleep
        self.bank_links = bank_links
        self.public_url = public_url.rstrip("/") if public_url else None
        self.ids = Ids(rng or random.SystemRandom())
        self.tokens = TokenBook(self.ids)
        self.faults = FaultBoard(faults if isinstance(faults, Faults) else Faults.model_validate(faults or {}))
        self.callbacks = Callbacks(clock, sleep)
        self._open_books()

    def _open_books(self) -> None:
        self.ledger = Ledger(self.ids)
        self.journal = Journal()

    def reset(self) -> None:
        """Forget invoices, payments, logs and faults; tokens stay, so that clients need not log in again."""
        self._open_books()
        self.faults = FaultBoard()

    async def pay(self, invoice: Invoice, money: Money, *, callback: bool = True) -> tuple[Payment, Answer | None]:
        """Take money for an invoice and tell the merchant; raises InvoiceCancelledError."""
        faults = self.faults.current.callback
        payment = self.ledger.pay(invoice, money, self.clock(), hidden_seconds=faults.before_visible_seconds)
        if not callback:
            return payment, None
        if faults.drop:
            self.faults.fired["callback.drop"] += 1
        return payment, await self.callbacks.send(payment, faults, self.journal.callbacks)

    def page(self, invoice: Invoice, base_url: str) -> str:
        """Where a person can pay this invoice."""
        return f"{self.public_url or base_url.rstrip('/')}/bank/{invoice.id}"

    def serves(self, host: str | None) -> bool:
        """Whether a request for this host name may be answered at all."""
        return not is_qpay_host(host)

    async def aclose(self) -> None:
        """Stop callbacks that are still under way."""
        await self.callbacks.aclose()
