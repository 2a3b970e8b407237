"""Invoices and payments of all merchants, and the rules that move them; no clock, no network."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from tulbur.simulator import emv
from tulbur.simulator.errors import refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tulbur.simulator.forms import InvoiceForm
    from tulbur.simulator.ids import Ids
    from tulbur.simulator.tokens import Merchant

MAX_INVOICES = 100_000
MAX_PAYMENTS = 200_000
MAX_PAYMENTS_PER_INVOICE = 100
DEFAULT_WALLET = "Хаан банк апп"
# More looks at one invoice than this, or several in a row within a second, is what QPay calls polling.
MANY_CHECKS = 20
FAST_CHECKS_IN_A_ROW = 3
FAST_SECONDS = 1.0
_FEE = Decimal("0.01")
_CENT = Decimal("0.01")


@dataclass(slots=True)
class Payment:
    """Money for one invoice. Times are epoch seconds; merchants see it from `visible_at` on."""

    id: str
    invoice: Invoice
    amount: Decimal
    currency: str
    method: str
    wallet: str
    status: str
    paid_at: float
    visible_at: float
    transaction_id: str

    @property
    def fee(self) -> Decimal:
        """1 %, taken from what the merchant receives."""
        return (self.amount * _FEE).quantize(_CENT, ROUND_HALF_UP)

    @property
    def received(self) -> bool:
        return self.status in {"PAID", "PARTIAL"}


@dataclass(slots=True)
class Checks:
    """How often a merchant asked about one invoice."""

    count: int = 0
    last_at: float | None = None
    fast_in_a_row: int = 0

    def seen(self, now: float) -> str | None:
        """Count one look; the reason to complain, if there is one."""
        fast = self.last_at is not None and now - self.last_at < FAST_SECONDS
        self.count += 1
        self.last_at = now
        self.fast_in_a_row = self.fast_in_a_row + 1 if fast else 0
        if self.fast_in_a_row >= FAST_CHECKS_IN_A_ROW:
            return "faster than once a second"
        return f"more than {MANY_CHECKS} times" if self.count > MANY_CHECKS else None


@dataclass(slots=True)
class Invoice:
    """One invoice and everything paid on it."""

    id: str
    merchant: Merchant
    form: InvoiceForm
    created_at: float
    qr_text: str
    short_code: str
    subscription_id: str | None = None
    subscribed: bool = False
    cancelled: bool = False
    payments: list[Payment] = field(default_factory=list)
    checks: Checks = field(default_factory=Checks)

    @property
    def received(self) -> Decimal:
        return sum((payment.amount for payment in self.payments if payment.received), Decimal(0))

    def visible(self, now: float) -> list[Payment]:
        return [payment for payment in self.payments if payment.visible_at <= now]

    def status(self, payments: Iterable[Payment] | None = None) -> str:
        """OPEN, CLOSED or CANCELED, judged by the given payments (all of them when none are given).

        A refund reopens nothing, and parts close the invoice once they add up to it.
        """
        if self.cancelled:
            return "CANCELED"
        counted = list(self.payments if payments is None else payments)
        if any(payment.status in {"PAID", "REFUNDED"} for payment in counted):
            return "CLOSED"
        parts = sum((payment.amount for payment in counted if payment.received), Decimal(0))
        return "CLOSED" if parts >= self.form.amount else "OPEN"


@dataclass(frozen=True, slots=True)
class Money:
    """What a payer sends."""

    amount: Decimal
    method: str = "P2P"
    wallet: str = DEFAULT_WALLET
    currency: str = "MNT"


class InvoiceCancelledError(Exception):
    """Nobody can pay a cancelled invoice."""


class Ledger:
    """All invoices and payments, in the order in which they were made."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self.invoices: dict[str, Invoice] = {}
        self.payments: dict[str, Payment] = {}
        self.subscriptions: dict[str, Invoice] = {}
        self.receipts: dict[str, dict[str, Any]] = {}
        self._numbers: set[tuple[str, str]] = set()

    def add(self, merchant: Merchant, form: InvoiceForm, now: float, *, unique: bool) -> Invoice:
        """A new invoice; `unique` refuses a `sender_invoice_no` this merchant has used before."""
        if len(self.invoices) >= MAX_INVOICES:
            raise refusal(
                "SYSTEM_BUSY",
                f"The simulator holds its limit of {MAX_INVOICES} invoices; POST /_sim/reset empties it.",
            )
        number = (merchant.login, form.sender_invoice_no)
        if unique and number in self._numbers:
            raise refusal("UNIQUE_ERROR")
        content = emv.QrContent(
            account="2794049627940496" + self._ids.digits(15),
            merchant=merchant.login,
            amount=form.amount,
            bill=form.sender_invoice_no,
            label=form.description,
            token=self._ids.token(21),
        )
        invoice = Invoice(self._ids.uuid(), merchant, form, now, emv.qr_text(content), self._ids.token(9))
        if form.subscribe:
            invoice.subscription_id, invoice.subscribed = self._ids.uuid(), True
            self.subscriptions[invoice.subscription_id] = invoice
        self._numbers.add(number)
        self.invoices[invoice.id] = invoice
        return invoice

    def invoice(self, merchant: Merchant, invoice_id: str) -> Invoice:
        invoice = self.invoices.get(invoice_id)
        if invoice is None or invoice.merchant.login != merchant.login:
            raise refusal("INVOICE_NOTFOUND")
        return invoice

    def cancel(self, merchant: Merchant, invoice_id: str) -> None:
        """Cancel an open invoice; a payment counts even before merchants can see it."""
        invoice = self.invoice(merchant, invoice_id)
        match invoice.status():
            case "CANCELED":
                raise refusal("INVOICE_ALREADY_CANCELED")
            case "CLOSED":
                raise refusal("INVOICE_PAID")
        invoice.cancelled = True

    def pay(self, invoice: Invoice, money: Money, now: float, *, hidden_seconds: float = 0) -> Payment:
        """Take any amount for an invoice that is not cancelled.

        Less than the invoice is PARTIAL where it allows parts, and otherwise PAID with the smaller amount.
        """
        if invoice.cancelled:
            raise InvoiceCancelledError
        if len(invoice.payments) >= MAX_PAYMENTS_PER_INVOICE or len(self.payments) >= MAX_PAYMENTS:
            raise OverflowError("The simulator holds its limit of payments; POST /_sim/reset empties it.")
        short = money.amount < invoice.form.amount
        payment = Payment(
            id=self._payment_id(money.method),
            invoice=invoice,
            amount=money.amount,
            currency=money.currency,
            method=money.method,
            wallet=money.wallet,
            status="PARTIAL" if short and invoice.form.allow_partial else "PAID",
            paid_at=now,
            visible_at=now + hidden_seconds,
            transaction_id=self._ids.uuid(),
        )
        invoice.payments.append(payment)
        self.payments[payment.id] = payment
        return payment

    def payment(self, merchant: Merchant, payment_id: str, now: float) -> Payment:
        payment = self.payments.get(payment_id)
        if payment is None or payment.invoice.merchant.login != merchant.login or payment.visible_at > now:
            raise refusal("PAYMENT_NOTFOUND")
        return payment

    def give_back(self, payment: Payment) -> None:
        """A merchant's cancel or refund call, which QPay takes for card payments only."""
        if payment.method != "CARD":
            raise refusal("PAYMENT_SETTLED")
        if payment.status == "REFUNDED":
            raise refusal("PAYMENT_ALREADY_CANCELED")
        if not payment.received:
            raise refusal("PAYMENT_NOT_PAID")
        payment.status = "REFUNDED"

    def of_merchant(self, merchant: Merchant, now: float) -> list[Payment]:
        """Every payment this merchant can see, oldest first."""
        return [
            payment
            for payment in self.payments.values()
            if payment.visible_at <= now and payment.invoice.merchant.login == merchant.login
        ]

    def _payment_id(self, method: str) -> str:
        while True:
            fresh = self._ids.uuid() if method == "CARD" else self._ids.bank_payment()
            if fresh not in self.payments:
                return fresh


def bank_problem(invoice: Invoice, amount: Decimal) -> str | None:
    """Why a bank app would not send this amount; None when it would.

    The payer may change the amount only as far as the invoice allows: parts down to `minimum_amount`, more up to
    `maximum_amount`. Source: QPay workbook, "invoice_create".
    """
    form = invoice.form
    rest = form.amount - invoice.received
    if amount == rest:
        return None
    if amount < rest:
        if not form.allow_partial:
            return "partial_forbidden"
        return "below_minimum" if form.minimum_amount and amount < form.minimum_amount else None
    if not form.allow_exceed:
        return "exceed_forbidden"
    most = form.maximum_amount
    return "above_maximum" if most and invoice.received + amount > most else None
