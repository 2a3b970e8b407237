"""Sessions in every state, made by the real steps, and the parts of the payer's page with a shelf for a database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import httpx2
from starlette.applications import Starlette

from tulbur.core import refunding, reviewing, settling, steps
from tulbur.core.rules import Rules
from tulbur.core.session import SECOND, Link, Micros, Reason, Session
from tulbur.core.settling import Evidence, InvoiceAnswer, SeenPayment
from tulbur.errors import NotFound, ProviderUnavailable, StoreUnavailable
from tulbur.links import Links
from tulbur.simulator.banks import deep_links
from tulbur.simulator.emv import QrContent, qr_text
from tulbur.web.checkout import checkout_routes
from tulbur.web.live import LiveSessions

NOON: Micros = 1_790_000_000 * SECOND
LATER: Micros = NOON + 3600 * SECOND
AMOUNT = 50_000_00
KEYS = ("a-key-only-for-tests-0123456789abcdef",)
QR = qr_text(
    QrContent(
        account="1" * 31, merchant="Номин Их дэлгүүр", amount=Decimal(50000), bill="B1", label="L1", token="T" * 21
    )
)
REVIEW = Rules(review_late=True)
LINKS = tuple(Link(**link) for link in deep_links(QR))


# --- sessions --------------------------------------------------------------------------------------------------------


def uninvoiced(**fields: Any) -> Session:
    """A session of 50,000 tugrik, open for half an hour, whose invoice is not made yet."""
    values = {
        "id": "S1",
        "user_id": "u1",
        "amount": AMOUNT,
        "description": "Номин дэлгүүр – захиалга 1042",
        "return_url": "https://shop.mn/thanks?order=1042",
        "created_at": NOON,
        "expires_at": NOON + 1800 * SECOND,
    }
    session = Session(**{**values, **fields})
    return steps.opened(session, sender_invoice_no="TB1", deadline=NOON + 30 * SECOND).committed()


def waiting(links: tuple[Link, ...] = LINKS, qr: str = QR, **fields: Any) -> Session:
    made = steps.InvoiceMade(id="inv1", qr_text=qr, qr_image="png", links=links)
    return steps.with_invoice(uninvoiced(**fields), 1, made, NOON).committed()


def answered(
    session: Session,
    *tugrik: int,
    status: str = "PAID",
    now: Micros = NOON + SECOND,
    rules: Rules = steps.ACCEPT,
) -> Session:
    """QPay shows payments of these sums on the invoice."""
    payments = tuple(
        SeenPayment(id=f"P{n}", amount=sum_ * 100, currency="MNT", status=status) for n, sum_ in enumerate(tugrik)
    )
    evidence = Evidence(answers=(InvoiceAnswer(invoice_id="inv1", payments=payments),), complete=True)
    return settling.after_answer(session, evidence, now, rules).committed()


def paid(**fields: Any) -> Session:
    return answered(waiting(**fields), 50_000)


def underpaid(**fields: Any) -> Session:
    return answered(waiting(**fields), 30_000)


def expired(**fields: Any) -> Session:
    return steps.expired(waiting(**fields), LATER).committed()


def cancelled(**fields: Any) -> Session:
    return steps.cancelled(waiting(**fields), NOON + SECOND).committed()


def held(**fields: Any) -> Session:
    """Money after the deadline, where the shop wants to look at it first."""
    return answered(expired(**fields), 50_000, now=LATER + SECOND, rules=REVIEW)


def returning(**fields: Any) -> Session:
    return reviewing.declined(held(**fields), by="bold", note="", now=LATER + 2 * SECOND).committed()


def returned(**fields: Any) -> Session:
    gone = returning(**fields)
    return refunding.refund_closed(
        gone, "P0", None, by="bold", reference="KHAN-1", note="", now=LATER + 3 * SECOND
    ).committed()


def paid_and_returned(**fields: Any) -> Session:
    """The orders were made, and then the shop gave the money back."""
    gone = paid(**fields)
    return refunding.refund_closed(gone, "P0", None, by="bold", reference="KHAN-1", note="", now=LATER).committed()


def changed(session: Session, **fields: Any) -> Session:
    """As some other process would have stored it."""
    return replace(session, **{"version": session.version + 1, **fields})


# --- the parts -------------------------------------------------------------------------------------------------------


@dataclass
class Shelf:
    """Stands in for Payments: gives out what lies on it, and records what is asked."""

    sessions: dict[str, Session] = field(default_factory=dict)
    reads: int = 0
    asked: list[tuple[str, Reason]] = field(default_factory=list)
    found: Session | None = None
    silent: bool = False
    down: bool = False

    def put(self, session: Session) -> Session:
        self.sessions[session.id] = session
        return session

    async def get(self, session_id: str) -> Session:
        self.reads += 1
        if self.down:
            raise StoreUnavailable
        if session_id not in self.sessions:
            raise NotFound
        return self.sessions[session_id]

    async def check(self, session_id: str, reason: Reason = Reason.PAYER) -> Session:
        self.asked.append((session_id, reason))
        if self.silent:
            raise ProviderUnavailable
        if self.found is not None:
            return self.put(self.found)
        return await self.get(session_id)


@dataclass
class Parts:
    payments: Any = field(default_factory=Shelf)
    links: Links = field(default_factory=lambda: Links("https://pay.example", KEYS))
    now: Micros = NOON
    live: LiveSessions = field(default_factory=LiveSessions)

    @property
    def clock(self) -> Callable[[], Micros]:
        return lambda: self.now

    def app(self) -> Starlette:
        return Starlette(routes=checkout_routes(self))

    def path(self, session: Session, more: str = "") -> str:
        return self.links.checkout_url(session.id).removeprefix(self.links.public_url) + more


def client(app: Any, root_path: str = "") -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=app, root_path=root_path)
    return httpx2.AsyncClient(transport=transport, base_url="http://pay.example")
