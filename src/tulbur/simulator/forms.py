"""What QPay demands of a request body, and the object-shaped 400 it answers otherwise.

Source: QPay workbook, "invoice_create" (required fields and lengths), "payment_check", "payment_list"; the pairs of
type and message are those seen in QPay's answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from tulbur.simulator.errors import invalid, refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")
# The most that fits into the amount of an EMV QR text.
MAX_AMOUNT = Decimal("9999999999.99")
MAX_LINES = 1000
MAX_PAGE = 100
# Mongolia has had no summer time since 2017, and QPay's lists do not reach back further.
ULAANBAATAR = timezone(timedelta(hours=8), "Asia/Ulaanbaatar")
_CENT = Decimal("0.01")
_DECIMAL = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")
_REQUIRED = ("REQUIRED", "Required!")
_INVALID = ("INVALID", "Invalid!")
_PERSON = {"register": 20, "name": 100, "email": 255, "phone": 20}

_TEXTS = {
    "invoice_code": (45, True),
    "sender_invoice_no": (45, True),
    "invoice_receiver_code": (45, True),
    "invoice_description": (255, True),
    "callback_url": (255, True),
    "sender_branch_code": (45, False),
    "sender_staff_code": (100, False),
    "sender_terminal_code": (45, False),
    "district_code": (4, False),
    "subscription_interval": (20, False),
    "subscription_webhook": (255, False),
    "note": (1000, False),
}
_PARTS = {
    "sender_branch_data": _PERSON,
    "sender_staff_data": {"name": 100, "email": 255, "phone": 20},
    "sender_terminal_data": {"name": 100},
    "invoice_receiver_data": _PERSON,
}
_LINE_TEXTS = {
    "line_description": (255, True),
    "sender_product_code": (45, False),
    "tax_product_code": (45, False),
    "barcode": (45, False),
    "classification_code": (7, False),
    "note": (100, False),
}


def number(value: object) -> Decimal | None:
    """A JSON number or a string of digits; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return Decimal(value) if _DECIMAL.fullmatch(value) else None
    return Decimal(value) if isinstance(value, int | Decimal) else None


def money(value: Decimal) -> Decimal:
    """An amount above zero with at most two decimals; else INVALID_AMOUNT or MAX_AMOUNT_ERR."""
    if value > MAX_AMOUNT:
        raise refusal("MAX_AMOUNT_ERR")
    if value <= 0 or value != value.quantize(_CENT):
        raise refusal("INVALID_AMOUNT")
    return value.quantize(_CENT)


class Fields:
    """Reads one JSON object field by field and remembers every problem."""

    def __init__(self, body: object, prefix: str = "", problems: dict[str, tuple[str, str]] | None = None) -> None:
        self._body: dict[str, Any] = body if isinstance(body, dict) else {}
        self._prefix = prefix
        self.problems: dict[str, tuple[str, str]] = {} if problems is None else problems

    def raw(self, name: str) -> object:
        return self._body.get(name)

    def complain(self, name: str, problem: tuple[str, str]) -> None:
        self.problems[self._prefix + name] = problem

    def text(self, name: str, limit: int, *, required: bool = False) -> str | None:
        value = self._body.get(name)
        if value is None or value == "":
            if required:
                self.complain(name, _REQUIRED)
            return None
        if not isinstance(value, str):
            self.complain(name, _INVALID)
            return None
        if len(value) > limit:
            self.complain(name, ("MAX_LENGTH", f"String max length ({limit})!"))
        return value

    def decimal(self, name: str, *, required: bool = False) -> Decimal | None:
        value = self._body.get(name)
        if value is None or value == "":
            if required:
                self.complain(name, _REQUIRED)
            return None
        parsed = number(value)
        if parsed is None or abs(parsed) > 10**20:
            self.complain(name, _INVALID)
            return None
        return parsed

    def flag(self, name: str) -> bool:
        value = self._body.get(name)
        if value not in (None, "", True, False, "true", "false"):
            self.complain(name, _INVALID)
        return value in (True, "true")

    def part(self, name: str, limits: dict[str, int]) -> None:
        value = self._body.get(name)
        if value is not None and not isinstance(value, dict):
            self.complain(name, _INVALID)
        inner = Fields(value, f"{self._prefix}{name}.", self.problems)
        for key, limit in limits.items():
            inner.text(key, limit)

    def objects(self, name: str) -> list[Fields]:
        value = self._body.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > MAX_LINES:
            self.complain(name, _INVALID)
            return []
        return [Fields(item, f"{self._prefix}{name}[{index}].", self.problems) for index, item in enumerate(value)]

    def page(self, *, most: int | None = MAX_PAGE) -> Page:
        """The `offset`; missing means the first page of 100. `most` bounds `page_limit`."""
        offset = self._body.get("offset")
        if offset is not None and not isinstance(offset, dict):
            self.complain("offset", _INVALID)
        inner = Fields(offset, self._prefix, self.problems)
        return Page(
            inner._counting("page_number", 1, MAX_PAGE),
            inner._counting("page_limit", MAX_PAGE, most),
        )

    def _counting(self, name: str, default: int, most: int | None) -> int:
        value = number(self._body.get(name, default))
        if value is None or abs(value) > 10**20 or value != int(value):
            self.complain(name, _INVALID)
        elif value < 1:
            self.complain(name, ("MIN_NUMBER", "Number min value [1]!"))
        elif most is not None and value > most:
            self.complain(name, ("MAX_NUMBER", f"Number max value [{most}]!"))
        else:
            return int(value)
        return default

    def moment(self, name: str) -> float | None:
        """`YYYY-MM-DD HH:mm:ss` in Ulaanbaatar's time; ISO 8601 is taken too, and its zone counts."""
        value = self.text(name, 45)
        if value is None:
            return None
        try:
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=ULAANBAATAR)).timestamp()
        except (ValueError, OverflowError):
            self.complain(name, _INVALID)
            return None

    def finish(self) -> None:
        """Raise the validation error when there was any problem."""
        if self.problems:
            raise invalid(self.problems)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list; both counted from 1."""

    number: int
    limit: int

    def of(self, items: Sequence[T]) -> Sequence[T]:
        start = (self.number - 1) * self.limit
        return items[start : start + self.limit]


@dataclass(frozen=True, slots=True)
class InvoiceForm:
    """A valid request for an invoice; `echo` holds what is only given back."""

    invoice_code: str
    sender_invoice_no: str
    description: str
    amount: Decimal
    callback_url: str
    allow_partial: bool
    minimum_amount: Decimal | None
    allow_exceed: bool
    maximum_amount: Decimal | None
    enable_expiry: bool
    subscribe: bool
    echo: dict[str, Any]


def invoice_form(body: object) -> InvoiceForm:
    """Check the body of `POST /v2/invoice`; raises the object-shaped 400 naming every wrong field."""
    fields = Fields(body)
    texts = {name: fields.text(name, limit, required=needed) for name, (limit, needed) in _TEXTS.items()}
    for name, limits in _PARTS.items():
        fields.part(name, limits)
    lines = fields.objects("lines")
    fields.objects("transactions")
    total = sum((_line_total(line) for line in lines), Decimal(0))
    amount = fields.decimal("amount", required=not lines)
    minimum, maximum = fields.decimal("minimum_amount"), fields.decimal("maximum_amount")
    flags = {name: fields.flag(name) for name in ("allow_partial", "allow_exceed", "enable_expiry", "allow_subscribe")}
    fields.finish()
    echoed = (*_TEXTS, *_PARTS, "invoice_due_date", "expiry_date", "next_payment_date", "lines", "transactions")
    return InvoiceForm(
        invoice_code=texts["invoice_code"] or "",
        sender_invoice_no=texts["sender_invoice_no"] or "",
        description=texts["invoice_description"] or "",
        amount=money(total.quantize(_CENT) if amount is None else amount),
        callback_url=texts["callback_url"] or "",
        allow_partial=flags["allow_partial"],
        minimum_amount=None if not minimum else money(minimum),
        allow_exceed=flags["allow_exceed"],
        maximum_amount=None if not maximum else money(maximum),
        enable_expiry=flags["enable_expiry"],
        subscribe=flags["allow_subscribe"],
        echo={name: fields.raw(name) for name in echoed if fields.raw(name) is not None},
    )


def _line_total(line: Fields) -> Decimal:
    """Quantity times price, less discounts, plus surcharges; taxes are inside the price."""
    for name, (limit, needed) in _LINE_TEXTS.items():
        line.text(name, limit, required=needed)
    quantity = line.decimal("line_quantity", required=True) or Decimal(0)
    price = line.decimal("line_unit_price", required=True) or Decimal(0)
    for tax in line.objects("taxes"):
        tax.decimal("amount", required=True)
    less = sum((item.decimal("amount", required=True) or Decimal(0) for item in line.objects("discounts")), Decimal(0))
    more = sum((item.decimal("amount", required=True) or Decimal(0) for item in line.objects("surcharges")), Decimal(0))
    return quantity * price - less + more
