"""The application with the old shop's routes: its users' tokens, its gateway, and its own services on a socket."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import httpx2
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import Key, OctKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.payments.world import serving
from tests.web.api_world import PUBLIC, START, Api, Clock
from tests.web.api_world import api as make_api

from tulbur.core.session import SECOND, Session
from tulbur.settings import OldShop
from tulbur.web.seed_parts import SeedParts

SECRET = "the-secret-the-old-shop-signs-its-tokens-with"
OTHER_SECRET = "a-secret-the-old-shop-never-heard-of-at-all"
NOW = START // SECOND
INSIDE, OUTSIDE = "10.1.2.3", "203.0.113.9"
GATEWAY = {"x-internal-request": "true"}
SEED = "/payments/qpay/seed-session"
INTERNAL_SEED = "/api/internal/payments/qpay/seed-session"
HOOK = "/payments/qpay/webhook"
INTERNAL_HOOK = "/api/internal/payments/qpay/webhook"

SEEDS = [SEED, f"/api{SEED}"]
INTERNAL_SEEDS = [INTERNAL_SEED, f"/order{INTERNAL_SEED}"]
HOOKS = [HOOK, f"/api{HOOK}"]
INTERNAL_HOOKS = [INTERNAL_HOOK, f"/order{INTERNAL_HOOK}"]
HOOK_SHAPE = {"success", "processed", "invoiceId", "sessionId", "orderIds", "paidAmount"}
UUID = "5a3c8b1e-70a1-4f4e-9d0e-0b4f4c9f3a11"
PAYMENT = "493622150113497"
CLAIMS = {"id": "u1", "exp": NOW + 900}

CHECKOUT: dict[str, Any] = {
    "cart": [
        {"productId": "p1", "shopId": "s1", "quantity": 2, "sale_price": 15000, "title": "Цай"},
        {"id": "p2", "shopId": "s2", "quantity": 1, "sale_price": 20000, "selectedOptions": {"өнгө": "цэнхэр"}},
    ],
    "sellers": [{"shopId": "s1", "sellerId": "x1"}, {"shopId": "s2", "sellerId": "x2"}],
    "totalAmount": 50000,
    "shippingAddressId": "a1",
    "coupon": None,
}


def key_of(secret: str) -> OctKey:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        return OctKey.import_key(secret.encode())


def token(claims: dict[str, Any] | None = None, *, key: Key | None = None, header: dict[str, Any] | None = None) -> str:
    said = {"id": "u1", "role": "user", "exp": NOW + 900} if claims is None else claims
    made = {"alg": "HS256"} | (header or {})
    return jwt.encode(made, said, key or key_of(SECRET), algorithms=[made["alg"]])


def bearer(user: str = "u1") -> dict[str, str]:
    return {"Authorization": f"Bearer {token({'id': user, 'exp': NOW + 900})}"}


@dataclass
class Shop:
    """The application, asked from outside by browsers and from inside by the gateway."""

    api: Api
    outside: httpx2.AsyncClient
    inside: httpx2.AsyncClient

    async def seed(self, path: str = SEED, *, user: str = "u1", **changes: Any) -> httpx2.Response:
        return await self.outside.post(path, json=CHECKOUT | changes, headers=bearer(user))

    async def opened(self, **changes: Any) -> dict[str, Any]:
        answer = await self.seed(**changes)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def seed_inside(self, path: str = INTERNAL_SEED, *, top: dict[str, Any] | None = None, **changes: Any) -> Any:
        body = {"sessionData": CHECKOUT | {"userId": "u1"} | changes} | (top or {})
        return await self.inside.post(path, json=body, headers=GATEWAY)

    async def hook(
        self, session_id: str, body: Any = None, *, path: str = HOOK, token: str | None = None, **query: str
    ) -> httpx2.Response:
        given = {"sessionId": session_id, "token": self.callback_token(session_id) if token is None else token}
        return await self.outside.post(path, params=given | query, json=body)

    async def hook_inside(self, session_id: str, body: Any = None, path: str = INTERNAL_HOOK) -> httpx2.Response:
        return await self.inside.post(path, params={"sessionId": session_id}, json=body, headers=GATEWAY)

    def callback_token(self, session_id: str) -> str:
        return self.api.parts.links.callback_url(session_id).rpartition("/")[2]

    async def ask(self, name: str, session_id: str | None, *, user: str = "u1", at: str = "") -> httpx2.Response:
        params = {} if session_id is None else {"sessionId": session_id}
        return await self.outside.get(f"{at}/payments/qpay/{name}", params=params, headers=bearer(user))

    async def cancel(self, session_id: Any, *, user: str = "u1") -> httpx2.Response:
        return await self.outside.post("/payments/qpay/cancel", json={"sessionId": session_id}, headers=bearer(user))

    async def stored(self, session_id: str) -> Session:
        return await self.api.stored(session_id)


@contextlib.asynccontextmanager
async def shop(**settings: Any) -> AsyncIterator[Shop]:
    """The routes as they are set; browsers may name their prices unless a PRICE_URL or "off" says otherwise."""
    given = {"networks": (ip_network("10.0.0.0/8"),), "unverified_prices": True, "jwt_secret": SECRET} | settings
    proxies = given.pop("trusted_proxies", "")
    desk = {name: given.pop(name) for name in ("spool", "old_shop") if name in given}
    clock = Clock()
    parts = SeedParts.of(OldShop(**given), clock)
    api = make_api(clock, seed=parts, trusted_proxies=proxies, **desk)
    async with api.http, _client(api, OUTSIDE) as outside, _client(api, INSIDE) as inside:
        yield Shop(api, outside, inside)
    await api.parts.payments.stop()
    await parts.stop()


def _client(api: Api, address: str) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=api.app, client=(address, 4711))
    return httpx2.AsyncClient(transport=transport, base_url=PUBLIC)


# --- what it answers ------------------------------------------------------------------------------------------------


def assert_refused(answer: Any, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["success"] is False
    assert all(word in body["error"] for word in words), body


def told(answer: httpx2.Response, reason: str | None = None) -> dict[str, Any]:
    """The body of an answer that has this reason, or none and processed everything."""
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert set(body) == HOOK_SHAPE | ({"reason"} if reason else set())
    assert (body["success"], body["processed"], body.get("reason")) == (True, reason is None, reason)
    return body


def hook_body(invoice_id: str = "inv1", **payload: Any) -> dict[str, Any]:
    return {"invoiceId": invoice_id, "status": "paid", "payload": payload}


# --- tokens ----------------------------------------------------------------------------------------------------------


async def ask(shop: Shop, given: str | None = None, **headers: str) -> httpx2.Response:
    """What a stranger may ask with any valid token: the state of a session that does not exist."""
    sent = headers if given is None else {"Authorization": f"Bearer {given}", **headers}
    return await shop.outside.get("/payments/qpay/status?sessionId=none", headers=sent)


def assert_unauthorized(answer: httpx2.Response) -> None:
    assert answer.status_code == 401, answer.text
    assert answer.json()["ok"] is False
    assert isinstance(answer.json()["error"], str)


def part(value: Any) -> str:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def unsigned(header: Any, claims: Any = CLAIMS, signature: str = "") -> str:
    return f"{part(header)}.{part(claims)}.{signature}"


def swapped(made: str, claims: Any) -> str:
    head, _, tail = made.split(".")
    return f"{head}.{part(claims)}.{tail}"


# --- the shop's own services -----------------------------------------------------------------------------------------


@dataclass
class Service:
    """Answers every request as it is told, and keeps what it was asked."""

    url: str
    status: int = 200
    answer: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)

    async def reply(self, request: Request) -> Response:
        body = await request.body()
        self.asked.append(json.loads(body) if body else None)
        content = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        return Response(content, self.status, self.headers, "application/json")


@contextlib.asynccontextmanager
async def service(answer: Any = None, kind: type[Service] = Service) -> AsyncIterator[Service]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        made = kind(f"http://127.0.0.1:{sock.getsockname()[1]}/of/the/shop", answer=answer)
        app = Starlette(routes=[Route("/{any:path}", made.reply, methods=["GET", "POST"])])
        async with serving(app, sock):
            yield made


def rsa_key(kid: str | None = None, bits: int = 2048) -> RSAKey:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        return RSAKey.generate_key(bits, {"kid": kid} if kid else None)


def jwks(*keys: RSAKey, **more: Any) -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False) | more for key in keys]}
