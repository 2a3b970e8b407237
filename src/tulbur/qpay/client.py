"""The QPay client: what tulbur asks QPay, and what QPay's answers mean.

A POST or DELETE is sent once. The one exception is an answer 401 NO_CREDENTIALS: QPay refused it for its token alone,
so it is sent once more with another one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from tulbur.core.session import Micros
from tulbur.core.settling import InvoiceAnswer, InvoiceSeen, SeenPayment
from tulbur.core.steps import InvoiceMade
from tulbur.errors import ProviderError, ProviderRefused, ProviderUnavailable, SettingsError
from tulbur.ports import Cancelling, Clock, GivingBack, InvoiceRequest, PaymentPage
from tulbur.qpay import wire
from tulbur.qpay.breaker import Breaker
from tulbur.qpay.caller import Caller, Observer, Request
from tulbur.qpay.reading import Unreadable, is_id, mapping
from tulbur.qpay.texts import is_known
from tulbur.qpay.token import Sleep, TokenStore
from tulbur.qpay.transport import SystemBusy, Timeouts

MOST_PAGES: Final = 10
"""Pages of payments read for one invoice."""

LIST_ROWS: Final = (100, 50, 25, 10)
"""Rows asked for at once from the list; each SYSTEM_BUSY goes one step down, and it stays there until a restart."""

_CANCELLED: Final[Mapping[str, Cancelling]] = {
    "INVOICE_ALREADY_CANCELED": Cancelling.ALREADY,
    "INVOICE_PAID": Cancelling.PAID,
}

LONGEST_NOTE: Final = 255

_GIVEN_BACK: Final[Mapping[str, GivingBack]] = {
    "PAYMENT_SETTLED": GivingBack.SETTLED,
    "PAYMENT_ALREADY_CANCELED": GivingBack.ACCEPTED,
}

T = TypeVar("T")


class QPay:
    """QPay's merchant API, version 2, as `ports.Provider`.

    Args:
        base_url: QPay's host; `/v2` may be left out.
        username: the login; with `password` it is sent only to log in, and shown nowhere.
        password: see `username`.
        invoice_code: names the merchant's kind of invoice, from QPay.
        store: shares the token between processes.
        clock: the time now.
        sleep: waits for a number of seconds.
        timeouts: see `Timeouts`.
        on_request: told of every request; must not raise.
        owner: names this process; by default a random name.
    """

    def __init__(
        self,
        base_url: str,
        username: str,
        password: str,
        invoice_code: str,
        *,
        store: TokenStore,
        clock: Clock,
        sleep: Sleep = asyncio.sleep,
        timeouts: Timeouts | None = None,
        on_request: Observer | None = None,
        owner: str | None = None,
    ) -> None:
        if not username or ":" in username or not password:
            raise SettingsError("QPAY_USERNAME (without a colon) and QPAY_PASSWORD are the login QPay gave you")
        if not 1 <= len(invoice_code) <= 45:
            raise SettingsError("QPAY_INVOICE_CODE is the invoice code QPay gave you")
        self._invoice_code = invoice_code
        self._timeouts = timeouts or Timeouts()
        self._caller = Caller(
            base_url,
            username,
            password,
            store=store,
            clock=clock,
            sleep=sleep,
            timeouts=self._timeouts,
            on_request=on_request or (lambda _operation, _result, _seconds: None),
            owner=owner or secrets.token_hex(8),
        )
        self._questions, self._invoices, self._lists = Breaker(clock), Breaker(clock), Breaker(clock)
        self._list_rows = LIST_ROWS[0]

    async def start(self) -> None:
        await self._caller.start()

    async def stop(self) -> None:
        await self._caller.stop()

    def answering(self) -> bool:
        """Whether a question may be asked now: its breaker is closed, or may try."""
        return self._questions.may_ask()

    def taking_invoices(self) -> bool:
        """Whether an invoice may be asked for now."""
        return self._invoices.may_ask()

    async def login(self) -> None:
        """Make sure there is a live token; raises as every method does."""
        await self._caller.login()

    async def create_invoice(self, request: InvoiceRequest) -> InvoiceMade:
        """QPay workbook, invoice_create. ProviderUnavailable leaves open whether there is an invoice now.

        Raises:
            Invalid: QPay cannot be asked for such an invoice; nothing was sent.
            ProviderRefused: there is no invoice.
            ProviderUnavailable: it is unknown.
        """
        body = wire.invoice_body(self._invoice_code, request)
        asked = Request("invoice_create", "POST", "invoice", body)
        return await self._instruct(asked, wire.invoice_made)

    async def get_invoice(self, invoice_id: str) -> InvoiceSeen | None:
        """GET invoice/{id}; None when QPay knows no such invoice."""
        if not is_id(invoice_id):
            return None
        asked = Request("invoice_get", "GET", f"invoice/{invoice_id}")
        try:
            return await self._question(self._questions, asked, lambda answer: wire.invoice_seen(answer, invoice_id))
        except ProviderRefused as refused:
            if _is_missing(refused, "INVOICE_NOTFOUND"):
                return None
            raise

    async def cancel_invoice(self, invoice_id: str) -> Cancelling:
        """QPay workbook, invoice_cancel; safe to repeat."""
        if not is_id(invoice_id):
            return Cancelling.NOT_FOUND
        asked = Request("invoice_cancel", "DELETE", f"invoice/{invoice_id}")
        try:
            return await self._instruct(asked, _cancelled)
        except ProviderRefused as refused:
            if refused.key in _CANCELLED:
                return _CANCELLED[refused.key]
            if _is_missing(refused, "INVOICE_NOTFOUND"):
                return Cancelling.NOT_FOUND
            raise

    async def refund_payment(self, payment_id: str, note: str) -> GivingBack:
        """QPay workbook, payment_refund: the whole of a card payment; a bank payment is PAYMENT_SETTLED."""
        if not is_id(payment_id):
            return GivingBack.NOT_FOUND
        asked = Request("payment_refund", "DELETE", f"payment/refund/{payment_id}", {"note": note[:LONGEST_NOTE]})
        try:
            return await self._instruct(asked, _accepted)
        except ProviderRefused as refused:
            if refused.key in _GIVEN_BACK:
                return _GIVEN_BACK[refused.key]
            if _is_missing(refused, "PAYMENT_NOTFOUND"):
                return GivingBack.NOT_FOUND
            raise

    async def check(self, invoice_id: str) -> InvoiceAnswer:
        """QPay workbook, payment_check: every payment on one invoice.

        Payments that were seen are returned even when a later page is not answered; the answer is then incomplete.
        """
        page = await self._checked(invoice_id, 1)
        payments, rows, complete = list(page.payments), page.rows, page.readable
        try:
            async with asyncio.timeout(self._timeouts.question):  # all pages behind the first together
                for number in range(2, MOST_PAGES + 1):
                    if page.rows < wire.PAGE_ROWS:
                        break
                    page = await self._checked(invoice_id, number)
                    payments += page.payments
                    rows, complete = rows + page.rows, complete and page.readable
        except (ProviderError, TimeoutError):
            complete = False
        ended = page.rows < wire.PAGE_ROWS and page.agrees(rows)
        return InvoiceAnswer(invoice_id=invoice_id, payments=tuple(payments), complete=complete and ended)

    async def get_payment(self, payment_id: str) -> SeenPayment | None:
        """QPay workbook, payment_get: one payment with its invoice and date; None when QPay knows no such payment."""
        if not is_id(payment_id):
            return None

        def read(answer: object) -> SeenPayment:
            seen = wire.payment(answer)
            if seen.id != payment_id:
                raise Unreadable("the answer is about another payment")
            return seen

        try:
            return await self._question(self._questions, Request("payment_get", "GET", f"payment/{payment_id}"), read)
        except ProviderRefused as refused:
            if _is_missing(refused, "PAYMENT_NOTFOUND"):
                return None
            raise

    async def list_payments(self, start: Micros, end: Micros, page: int = 1) -> PaymentPage:
        """QPay workbook, payment_list: the payments of some time, in pages of 100 counted from 1; `end` is in it.

        When 100 rows at once are too much for QPay (SYSTEM_BUSY), the page is fetched in smaller parts.

        Raises:
            ProviderUnavailable: not even the first part was answered.
        """
        while True:
            try:
                return await self._listed(start, end, page, self._list_rows)
            except SystemBusy:
                if self._list_rows == LIST_ROWS[-1]:
                    raise
                self._list_rows = next(rows for rows in LIST_ROWS if rows < self._list_rows)

    async def _listed(self, start: Micros, end: Micros, page: int, rows: int) -> PaymentPage:
        parts = wire.PAGE_ROWS // rows
        payments: list[SeenPayment] = []
        complete, total = True, None
        for part in range(parts):
            body = wire.list_body(self._invoice_code, start, end, (page - 1) * parts + part + 1, rows)
            asked = Request("payment_list", "POST", "payment/list", body)
            try:
                found = await self._question(self._lists, asked, wire.page)
            except ProviderUnavailable:
                if part == 0:
                    raise
                return PaymentPage(payments=tuple(payments), complete=False, more=True, requests=part + 1)
            payments += found.payments
            complete = complete and found.readable
            # A count that is the number of these very rows may be that of the page, and tells nothing.
            total = total if found.count == found.rows else found.count
            if found.rows < rows:
                return PaymentPage(
                    payments=tuple(payments), complete=complete, more=False, total=total, requests=part + 1
                )
        return PaymentPage(payments=tuple(payments), complete=complete, more=True, total=total, requests=parts)

    async def _checked(self, invoice_id: str, number: int) -> wire.Page:
        asked = Request("payment_check", "POST", "payment/check", wire.check_body(invoice_id, number))
        return await self._question(self._questions, asked, lambda answer: wire.page(answer, invoice_id))

    async def _question(self, breaker: Breaker, request: Request, read: Callable[[object], T]) -> T:
        seconds, whole = self._timeouts.question, self._timeouts.whole_question
        return await self._caller.ask(breaker, request, read, seconds=seconds, whole=whole)

    async def _instruct(self, request: Request, read: Callable[[object], T]) -> T:
        seconds, whole = self._timeouts.invoice, self._timeouts.whole_invoice
        return await self._caller.ask(self._invoices, request, read, seconds=seconds, whole=whole)


def _accepted(answer: object) -> GivingBack:
    mapping(answer)
    return GivingBack.ACCEPTED


def _cancelled(answer: object) -> Cancelling:
    mapping(answer)
    return Cancelling.CANCELLED


def _is_missing(refused: ProviderRefused, key: str) -> bool:
    """Whether this refusal says that there is no such thing; QPay's status for it is 422, some know 404."""
    if refused.key == key:
        return True
    return refused.provider_status in (404, 422) and not refused.fields and not is_known(refused.key)
