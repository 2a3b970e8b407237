"""The whole HTTP application on a memory store, the real cache and a small QPay that does as it is told."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import httpx2
from fastapi import FastAPI
from starlette.responses import Response

from tulbur.cache import MemoryBackend, SessionCache
from tulbur.core.session import SECOND, Link, Micros, Session
from tulbur.core.settling import InvoiceAnswer, InvoiceSeen, SeenPayment
from tulbur.core.steps import InvoiceMade
from tulbur.errors import ProviderUnavailable, StoreUnavailable
from tulbur.links import Links
from tulbur.payments import Payments, Policy
from tulbur.payments.desk import Desk
from tulbur.ports import Cancelling, GivingBack, InvoiceRequest, OldShop, PaymentPage, Spool
from tulbur.settings import ApiKey
from tulbur.stores.memory import MemoryStore
from tulbur.telemetry import Telemetry
from tulbur.web.app import WebParts, create_app
from tulbur.web.live import LiveSessions

START: Micros = 1_790_000_000 * SECOND
PUBLIC = "https://pay.shop.mn"
SECRETS = ("a-key-only-for-tests-0123456789abcdef",)
KEYS = {
    "all": "key-of-the-shop",
    "other": "key-of-another-shop",
    "reader": "key-that-only-reads",
    "writer": "key-that-only-writes",
    "refunds": "key-that-only-refunds",
    "admin": "key-of-the-operator",
}
SCOPES = {
    "all": {"read", "write"},
    "other": {"read", "write"},
    "reader": {"read"},
    "writer": {"write"},
    "refunds": {"refund"},
    "admin": {"admin"},
}
CART: dict[str, Any] = {
    "user_id": "u1",
    "amount": "50000",
    "items": [
        {"shop_id": "s1", "product_id": "p1", "title": "Цай", "quantity": 2, "unit_price": "15000", "options": {}},
        {"shop_id": "s2", "product_id": "p2", "title": "Аяга", "quantity": 1, "unit_price": 20000},
    ],
}

SESSION_FIELDS = {
    *("id", "status", "exceptions", "amount", "currency", "received", "held", "refund_due", "refunded", "user_id"),
    *("items", "discount", "shipping", "shipping_amount", "metadata", "created_at", "expires_at", "paid_at"),
    *("cancelled_at", "last_check_at", "checkout_url", "invoice", "payments", "orders", "description", "return_url"),
}
PAYMENT_FIELDS = {
    *("id", "amount", "currency", "status", "method", "wallet", "seen_at", "ordered", "refund_due", "refunded", "held"),
    *("refunds", "assigned_by"),
}


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> Micros:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


@dataclass
class Qpay:
    """A provider in a few lines. `fault` is raised by every question; `gate` holds invoices back."""

    fault: Exception | None = None
    gate: asyncio.Event | None = None
    qr_image: str = "iVBORw0"
    is_answering: bool = True
    invoices: list[InvoiceRequest] = field(default_factory=list)
    paid: dict[str, list[SeenPayment]] = field(default_factory=dict)
    questions: int = 0
    refunds: list[str] = field(default_factory=list)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def answering(self) -> bool:
        return self.is_answering

    def taking_invoices(self) -> bool:
        return self.is_answering

    async def login(self) -> None: ...

    async def create_invoice(self, request: InvoiceRequest) -> InvoiceMade:
        await self._asked()
        if self.gate is not None:
            await self.gate.wait()
        self.invoices.append(request)
        return InvoiceMade(
            id=f"inv{len(self.invoices)}",
            qr_text=f"0002010102121531QR{len(self.invoices)}",
            qr_image=self.qr_image,
            short_url="https://s.qpay.mn/x",
            links=(Link("Khan bank", "Хаан банк", "https://qpay.mn/khan.png", "khanbank://q?qPay_QRcode=x"),),
        )

    async def get_invoice(self, invoice_id: str) -> InvoiceSeen | None:
        await self._asked()
        return None

    async def cancel_invoice(self, invoice_id: str) -> Cancelling:
        await self._asked()
        return Cancelling.PAID if self.paid.get(invoice_id) else Cancelling.CANCELLED

    async def check(self, invoice_id: str) -> InvoiceAnswer:
        await self._asked()
        self.questions += 1
        return InvoiceAnswer(invoice_id=invoice_id, payments=tuple(self.paid.get(invoice_id, ())))

    async def list_payments(self, start: Micros, end: Micros, page: int = 1) -> PaymentPage:
        await self._asked()
        found = tuple(p for payments in self.paid.values() for p in payments)
        return PaymentPage(payments=found, complete=True, more=False, total=len(found))

    async def refund_payment(self, payment_id: str, note: str) -> GivingBack:
        await self._asked()
        self.refunds.append(payment_id)
        for payments in self.paid.values():
            payments[:] = [replace(p, status="REFUNDED") if p.id == payment_id else p for p in payments]
        return GivingBack.ACCEPTED

    async def get_payment(self, payment_id: str) -> SeenPayment | None:
        await self._asked()
        return next((p for payments in self.paid.values() for p in payments if p.id == payment_id), None)

    async def _asked(self) -> None:
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault

    def pay(
        self, invoice_id: str, payment_id: str = "493622150113497", tugrik: int = 50_000, method: str = "P2P"
    ) -> str:
        payment = SeenPayment(
            id=payment_id,
            amount=tugrik * 100,
            currency="MNT",
            status="PAID",
            invoice_id=invoice_id,
            method=method,
            wallet="Khan bank",
        )
        self.paid.setdefault(invoice_id, []).append(payment)
        return payment_id


class Watched:
    """Passes every call on and notes its name; `fault` breaks all of them."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.calls: list[str] = []
        self.fault: Exception | None = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.inner, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if self.fault is not None:
                raise self.fault
            return await method(*args, **kwargs)

        return call


@dataclass
class Api:
    """An application, a client of it that holds the shop's key, and all that stands behind."""

    app: FastAPI
    parts: WebParts
    http: httpx2.AsyncClient
    clock: Clock
    qpay: Qpay
    store: Watched
    cache: Watched

    async def call(
        self, method: str, path: str, *, key: str | None = "all", headers: dict[str, str] | None = None, **more: Any
    ) -> httpx2.Response:
        sent = dict(headers or {})
        if key is not None:
            sent.setdefault("Authorization", f"Bearer {KEYS[key]}")
        return await self.http.request(method, path, headers=sent, **more)

    async def get(self, path: str, **more: Any) -> httpx2.Response:
        return await self.call("GET", path, **more)

    async def post(self, path: str, **more: Any) -> httpx2.Response:
        return await self.call("POST", path, **more)

    async def open(self, **changes: Any) -> dict[str, Any]:
        answer = await self.post("/v1/sessions", json=CART | changes)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def callback_path(self, session_id: str) -> str:
        return self.parts.links.callback_url(session_id).removeprefix(PUBLIC)

    async def call_back(self, session_id: str, query: str = "", method: str = "GET", **more: Any) -> httpx2.Response:
        return await self.call(method, self.callback_path(session_id) + query, key=None, **more)

    async def stored(self, session_id: str) -> Session:
        found = await self.store.inner.get(session_id)
        assert found is not None
        return found

    def database_down(self) -> None:
        self.store.fault = StoreUnavailable()

    def qpay_down(self) -> None:
        self.qpay.fault = ProviderUnavailable()


def api(
    clock: Clock | None = None, *, spool: Spool | None = None, old_shop: OldShop | None = None, **changes: Any
) -> Api:
    clock, qpay, telemetry = clock or Clock(), Qpay(), Telemetry()
    store = Watched(MemoryStore(clock))
    cache = Watched(SessionCache(MemoryBackend(clock), SECRETS, clock))
    links = Links(PUBLIC, SECRETS)
    ids = itertools.count(1)
    desk = Desk(
        store=store,
        cache=cache,
        provider=qpay,
        links=links,
        sink=telemetry,
        clock=clock,
        new_id=lambda: f"{next(ids):032x}",
        spool=spool,
        old_shop=old_shop,
    )
    policy = Policy()

    async def ping_store() -> None:
        await store.ping()

    fields: dict[str, Any] = {
        "payments": Payments(desk, policy),
        "store": store,
        "ping_store": ping_store,
        "cache": cache,
        "provider": qpay,
        "links": links,
        "clock": clock,
        "api_keys": tuple(
            ApiKey(name, frozenset(SCOPES[name]), sha256(key.encode()).hexdigest()) for name, key in KEYS.items()
        ),
        "telemetry": telemetry,
        "live": LiveSessions(),
        "policy": policy,
    }
    parts = WebParts(**(fields | changes))
    app = create_app(parts)
    client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=PUBLIC)
    return Api(app, parts, client, clock, qpay, store, cache)


def assert_problem(answer: httpx2.Response | Response, status: int, code: str) -> dict[str, Any]:
    """A problem document with this status and code, in one sentence; returns it."""
    content = answer.content if isinstance(answer, httpx2.Response) else bytes(answer.body)
    assert answer.status_code == status, content
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = json.loads(content)
    assert (body["status"], body["code"]) == (status, code), body
    assert body["type"] == "about:blank"
    assert body["title"]
    assert not body["detail"][0].islower()
    assert body["detail"].endswith((".", "!", "?"))
    return body


def scope(
    method: str = "POST", path: str = "/v1/sessions", query: bytes = b"", **headers: str | bytes
) -> dict[str, Any]:
    """An ASGI request of the shop's, as a server would make it of whatever a client sent."""
    given = {"authorization": f"Bearer {KEYS['all']}", "content-type": "application/json", **headers}
    values = {name: value if isinstance(value, bytes) else value.encode() for name, value in given.items()}
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(errors="replace"),
        "query_string": query,
        "root_path": "",
        "headers": [(name.encode(), value) for name, value in values.items()],
        "server": ("x", 80),
        "client": ("x", 1),
    }


async def spoken(app: Any, said: dict[str, Any], *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """Run an ASGI application on these messages and then on silence; what it sent."""
    left, sent = list(messages), []

    async def receive() -> dict[str, Any]:
        if left:
            return left.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(said, receive, send)
    return sent


def whole(body: bytes) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": False}
