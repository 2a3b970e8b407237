"""The old shop's data as its code left it: every state, the losses it caused, and QPay's side of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from proving.world import START
from tulbur.core.session import SECOND
from tulbur.simulator.forms import invoice_form
from tulbur.simulator.state import Money

Row = dict[str, Any]

DAY: Final = 86_400
LOGIN: Final = "TEST_MERCHANT"
NOW: Final = START // SECOND


@dataclass(frozen=True)
class Kind:
    """One thing that happened: what the old shop wrote, what QPay knows, and what must come of it.

    `paid` is how many times the invoice is paid at QPay, `made` how many of the cart's orders exist; `loose` says that
    no processed invoice names them, `claimed` that it names others. `ends` is the state after import, take-over and
    rescue; "skipped" where there is nothing to import.
    """

    status: str
    ends: str
    paid: int = 0
    made: int = 0
    claimed: int = 0
    is_open: bool = False
    late: bool = False
    invoice: bool = True
    processed: bool = False
    loose: bool = False
    spoil: Callable[[Row], None] | None = None
    exceptions: frozenset[str] = frozenset()


def _wrong_total(row: Row) -> None:
    row["payload"]["totalAmount"] += 1


def _weird_status(row: Row) -> None:
    row["status"] = "WEIRD"


def _negative(row: Row) -> None:
    row["amount"] = -row["amount"]


def _no_cart(row: Row) -> None:
    row["payload"] = [1, 2]


ALL: Final = 99
KINDS: Final[dict[str, Kind]] = {
    "open": Kind("PENDING", "PENDING", is_open=True),
    "open, paid": Kind("PENDING", "PAID", paid=1, is_open=True),
    "abandoned": Kind("PENDING", "EXPIRED"),
    "webhook lost": Kind("PENDING", "PAID", paid=1),
    "paid late, webhook lost": Kind("PENDING", "PAID", paid=1, late=True, exceptions=frozenset({"late"})),
    "paid twice": Kind("PENDING", "PAID", paid=2, exceptions=frozenset({"paid_twice"})),
    "money seen, no order": Kind("PAID", "PAID", paid=1),
    "processed": Kind("PROCESSED", "PAID", paid=1, made=ALL),
    "processed, session row forgotten": Kind("PENDING", "PAID", paid=1, made=ALL),
    "crashed after the processed row": Kind("PROCESSED", "PAID", paid=1, processed=True),
    "orders named that do not exist": Kind("PROCESSED", "PAID", paid=1, processed=True, claimed=ALL),
    "half an order": Kind("PROCESSED", "PAID", paid=1, made=1),
    "killed between two orders": Kind("PROCESSED", "PAID", paid=1, made=1, processed=True, loose=True),
    "killed before the orders were named": Kind("PAID", "PAID", paid=1, made=ALL, loose=True),
    "invoice id lost": Kind("PAID", "PAID", paid=1, invoice=False),
    "called processed, not paid": Kind("PROCESSED", "EXPIRED", processed=True),
    "expired": Kind("EXPIRED", "EXPIRED"),
    "expired, paid late": Kind("EXPIRED", "PAID", paid=1, late=True, exceptions=frozenset({"late"})),
    "cancelled": Kind("CANCELLED", "CANCELLED"),
    "cancelled, paid": Kind("CANCELLED", "PAID", paid=1, exceptions=frozenset({"after_cancel"})),
    "failed": Kind("FAILED", "EXPIRED"),
    "failed, paid": Kind("FAILED", "PAID", paid=1),
    "total is not the cart": Kind("PENDING", "review", paid=1, spoil=_wrong_total),
    "payload is no cart": Kind("PROCESSED", "review", paid=1, spoil=_no_cart),
    "status unknown": Kind("PENDING", "skipped", spoil=_weird_status),
    "amount negative": Kind("PAID", "skipped", spoil=_negative),
}
CALLED_PAID: Final = ("called processed, not paid",)


@dataclass
class Case:
    """One session of the old shop's."""

    kind: str
    row: Row
    totals: dict[str, float]
    processed: list[Row] = field(default_factory=list)
    orders: list[Row] = field(default_factory=list)

    @property
    def what(self) -> Kind:
        return KINDS[self.kind]

    @property
    def shops(self) -> list[str]:
        return list(self.totals)

    @property
    def session_id(self) -> str:
        return str(self.row["sessionId"])


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def cases(number: int, seed: int = 1) -> list[Case]:
    """So many sessions, of every kind in turn."""
    chance = random.Random(seed)
    names = list(KINDS)
    return [_case(names[i % len(names)], i, chance) for i in range(number)]


def object_id(i: int, family: str) -> str:
    return f"{family}{i:022x}"


def _case(kind: str, i: int, chance: random.Random) -> Case:
    what = KINDS[kind]
    created = NOW - 60 if what.is_open else NOW - chance.randrange(DAY, 90 * DAY)
    payload, totals = _payload(i, chance)
    shops = list(totals)
    row = {
        "id": object_id(i, "aa"),
        "sessionId": f"sess-{i:06d}",
        "provider": "qpay",
        "invoiceId": None,
        "userId": f"user{i % 1009}",
        "amount": float(payload["totalAmount"]),
        "currency": "MNT",
        "payload": payload,
        "status": what.status,
        "callbackToken": f"secret-{i}",
        "expiresAt": at(created + 600),
        "lastCheckAt": None if i % 2 else at(created + 30),
        "cancelledAt": at(created + 90) if what.status == "CANCELLED" else None,
        "paymentId": None,
        "ebarimtStatus": None,
        "ebarimtReceiptId": None,
        "ebarimtQrData": None,
        "createdAt": at(created),
        "updatedAt": at(created + 120),
    }
    case = Case(kind, row, totals)
    made = shops[: what.made]
    case.orders = [
        {
            "id": object_id(4 * i + n, "bb"),
            "userId": row["userId"],
            "shopId": shop,
            "total": totals[shop],
            "createdAt": at(created + 119),
        }
        for n, shop in enumerate(made)
    ]
    listed = [order["id"] for order in case.orders]
    if what.loose:
        listed = []
    if what.claimed:
        listed = [object_id(i * 4 + n, "cc") for n in range(len(shops))]
    if what.processed or (what.made and not what.loose):
        case.processed = [
            {
                "id": object_id(i, "dd"),
                "invoiceId": "",
                "sessionId": row["sessionId"] if i % 3 else None,
                "status": "PROCESSED",
                "orderIds": listed,
                "processedAt": at(created + 121),
            }
        ]
    return case


def _payload(i: int, chance: random.Random) -> tuple[Row, dict[str, float]]:
    shops = [f"shop{n}" for n in chance.sample(range(9), chance.randint(1, 3))]
    cart = []
    totals: dict[str, Decimal] = {}
    for n, shop in enumerate(shops):
        # A third of the prices are no whole tugrik, so that the sums of the old shop's floats show their noise.
        price = chance.choice([1000, 25_000, 59.99, 1999.5, 0.1]) if i % 3 == 0 else chance.randrange(100, 90_000)
        quantity = chance.randint(1, 4)
        name = ("productId", "id", "_id")[n % 3]
        cart.append({name: f"p{i}-{n}", "shopId": shop, "quantity": quantity, "sale_price": price, "title": "Цай"})
        totals[shop] = Decimal(str(price)) * quantity
    payload: Row = {"userId": f"user{i % 1009}", "cart": cart, "sellers": [{"id": shop} for shop in shops]}
    if i % 5 == 0:
        payload["coupon"] = {"code": "TEN", "discountedProductId": f"p{i}-0", "discountPercent": 10}
        totals[shops[0]] -= (totals[shops[0]] / 10).quantize(Decimal("0.01"), "ROUND_HALF_UP")
    total = sum(totals.values(), Decimal(0))
    whole = total == int(total)
    payload["totalAmount"] = int(total) if whole else float(total) + (2e-11 if total < 10_000 else 0)
    payload["shippingAddressId"] = f"address{i}"
    return payload, {shop: float(amount) for shop, amount in totals.items()}


def tell_qpay(simulator: Any, made: Sequence[Case]) -> None:
    """QPay's side of it: an invoice for each session, and the money that reached it; spoils what is spoiled."""
    merchant = simulator.tokens._account(LOGIN).merchant
    for case in made:
        created = case.row["createdAt"].replace(tzinfo=UTC).timestamp()
        amount = Decimal(repr(float(case.row["amount"]))).quantize(Decimal("0.01"))
        form = invoice_form(
            {
                "invoice_code": "TEST_INVOICE",
                "sender_invoice_no": case.session_id,
                "invoice_receiver_code": "terminal",
                "invoice_description": "old",
                "amount": amount,
                "callback_url": "http://127.0.0.1:9/old",
            }
        )
        invoice = simulator.ledger.add(merchant, form, created, unique=False)
        paid_at = created + (1200 if case.what.late else 30)
        paid = [simulator.ledger.pay(invoice, Money(amount), paid_at) for _ in range(case.what.paid)]
        if case.what.invoice:
            case.row["invoiceId"] = invoice.id
        if paid and (not case.what.invoice or case.what.status == "PROCESSED"):
            case.row["paymentId"] = paid[0].id
        for processed in case.processed:
            processed["invoiceId"] = invoice.id
        if case.what.spoil:
            case.what.spoil(case.row)
