"""What strangers send: a table of kinds, each of which makes one request after another from its own chance.

Nothing here may change anything, and nothing may be answered with more than its sender knew.
"""

from __future__ import annotations

import base64
import hmac
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Any, Final
from urllib.parse import quote

from proving.figures.services import CART

LONG: Final = 5_000
DEEP: Final = 20_000

INJECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "SQL": (
        "' OR 1=1 --",
        "'; DROP TABLE tulbur_sessions; --",
        '" OR ""="',
        "1 UNION SELECT document FROM tulbur_sessions",
        "') OR pg_sleep(30) --",
        "\\'; UPDATE tulbur_sessions SET status='PAID' --",
    ),
    "NoSQL": ('{"$ne": null}', '{"$gt": ""}', "'; return true; var x='", "[$ne]", '{"$where": "sleep(30000)"}'),
    "path": (
        "../../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "....//....//etc/passwd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "file:///etc/passwd",
        "..\\..\\windows\\win.ini",
        "/proc/self/environ",
    ),
    "template, script or header": (
        "{{7*7}}",
        "${jndi:ldap://127.0.0.1/x}",
        "<script>alert(1)</script>",
        "%0d%0aSet-Cookie:%20stolen=1",
        "\r\nSet-Cookie: stolen=1",
        "$(id)",
        "`id`",
    ),
}

OLD_PUBLIC: Final = ("/payments/qpay", "/api/payments/qpay", "/order/api/payments/qpay")
OLD_INTERNAL: Final = ("/api/internal/payments/qpay", "/order/api/internal/payments/qpay")


@dataclass(frozen=True, slots=True)
class Attack:
    """Bytes, and what may come back.

    `answers` 0: the sender leaves at once. `raw`: the connection may end without an answer. `refused`: no 2xx.
    """

    data: bytes
    answers: int = 1
    bodiless: bool = False
    raw: bool = False
    refused: bool = True


@dataclass(frozen=True, slots=True)
class Place:
    """One parameter of one operation: where something can be put in."""

    method: str
    path: str
    kind: str
    name: str


@dataclass
class Targets:
    """What an attacker may know: addresses, ids of sessions that exist, one token of his own, and a shop's key."""

    places: Sequence[Place]
    session_ids: Sequence[str]
    tokens: Mapping[str, str]
    pay_tokens: Mapping[str, str]
    key: str
    jwt_secret: str
    rng: Random
    met: Counter[tuple[str, Place]] = field(default_factory=Counter)
    """How often each kind of text was put into each place."""
    _turns: dict[str, Iterator[Place]] = field(default_factory=dict)

    def place(self, kind: str) -> Place:
        """The next place for this kind, each in its turn."""
        if kind not in self._turns:
            self._turns[kind] = itertools.cycle(self.places)
        place = next(self._turns[kind])
        self.met[kind, place] += 1
        return place

    def any_id(self) -> str:
        return self.rng.choice([*self.session_ids, "nobody", f"{self.rng.getrandbits(128):032x}"])

    def two(self) -> tuple[str, str]:
        """Two sessions that exist."""
        one, other = self.rng.sample(list(self.session_ids), 2)
        return one, other

    def token(self) -> str:
        return base64.urlsafe_b64encode(self.rng.randbytes(21)).decode()[:27]


def places_of(document: Mapping[str, Any]) -> list[Place]:
    """Every parameter and every field of every body in an OpenAPI document."""
    found = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if not isinstance(operation, dict):
                continue
            verb = method.upper()
            parts = [
                name for name in ("session_id", "token", "pay_token", "order_id", "payment_id") if f"{{{name}}}" in path
            ]
            found += [Place(verb, path, "path", name) for name in parts]
            found += [
                Place(verb, path, each["in"], each["name"])
                for each in operation.get("parameters", [])
                if each["in"] != "path"
            ]
            found += [Place(verb, path, "body", name) for name in _fields(document, operation)]
    return found


def _fields(document: Mapping[str, Any], operation: Mapping[str, Any]) -> list[str]:
    content = operation.get("requestBody", {}).get("content", {})
    names = [each.get("schema", {}).get("$ref", "").rpartition("/")[2] for each in content.values()]
    schemas = document.get("components", {}).get("schemas", {})
    return [field for name in names for field in schemas.get(name, {}).get("properties", {})]


def http(method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + (body or b"")


def _bearer(t: Targets) -> dict[str, str]:
    return {"Authorization": f"Bearer {t.key}", "Content-Type": "application/json"}


def _hook(t: Targets, session_id: str, token: str, query: str = "?qpay_payment_id=1") -> bytes:
    return http(t.rng.choice(("GET", "POST")), f"/callbacks/qpay/{session_id}/{token}{query}")


# --- tokens and keys -----------------------------------------------------------------------------------------------


def forged_token(t: Targets) -> Attack:
    return Attack(_hook(t, t.any_id(), t.token()))


def others_token(t: Targets) -> Attack:
    mine, other = t.two()
    if t.rng.random() < 0.5:
        return Attack(_hook(t, other, t.tokens[mine]))
    return Attack(http("GET", f"/pay/{other}/{t.pay_tokens[mine]}{t.rng.choice(('', '/status', '/events'))}"))


def swapped_token(t: Targets) -> Attack:
    """The payer's token at QPay's door, and QPay's at the payer's."""
    session_id = t.rng.choice(t.session_ids)
    if t.rng.random() < 0.5:
        return Attack(_hook(t, session_id, t.pay_tokens[session_id]))
    return Attack(http("POST", f"/pay/{session_id}/{t.tokens[session_id]}/check"))


def cut_token(t: Targets) -> Attack:
    session_id = t.rng.choice(t.session_ids)
    token = t.tokens[session_id]
    return Attack(_hook(t, session_id, token[: t.rng.randrange(len(token))]))


def changed_token(t: Targets) -> Attack:
    session_id = t.rng.choice(t.session_ids)
    token = t.tokens[session_id]
    at = t.rng.randrange(len(token))
    changed = t.rng.choice((token + "A", token[:at] + t.rng.choice("-_xYz~") + token[at + 1 :], token.swapcase()))
    return Attack(_hook(t, session_id, changed if changed != token else f"{token}A"))


def wrong_key(t: Targets) -> Attack:
    at = t.rng.randrange(len(t.key))
    said = t.rng.choice(
        (
            f"Bearer {t.key[:at]}",
            f"Bearer {t.key}x",
            f"Bearer {t.token()}",
            f"Basic {base64.b64encode(t.key.encode()).decode()}",
            t.key,
            "Bearer",
            "Bearer \xff\xfe",
            "bearer null",
        )
    )
    place = t.place("API key")
    if not place.path.startswith("/v1/"):
        return Attack(http("GET", "/v1/stats", {"Authorization": said}))
    return Attack(http(place.method, _filled(place.path, "x"), {"Authorization": said}, _body_of(place)))


def no_key(t: Targets) -> Attack:
    method, path = t.rng.choice((("GET", "/v1/sessions"), ("POST", "/v1/sessions"), ("GET", "/v1/events")))
    return Attack(http(method, path, None, json.dumps(CART).encode() if method == "POST" else None))


# --- methods, encodings, shapes --------------------------------------------------------------------------------------


def wrong_method(t: Targets) -> Attack:
    session_id = t.rng.choice(t.session_ids)
    path = t.rng.choice(
        (
            f"/callbacks/qpay/{session_id}/{t.tokens[session_id]}?qpay_payment_id=1",
            f"/pay/{session_id}/{t.pay_tokens[session_id]}",
            f"/v1/sessions/{session_id}",
            "/v1/sessions",
        )
    )
    return Attack(http(t.rng.choice(("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")), path, _bearer(t)))


def head_as_callback(t: Targets) -> Attack:
    session_id = t.rng.choice(t.session_ids)
    path = f"/callbacks/qpay/{session_id}/{t.tokens[session_id]}?qpay_payment_id=head"
    return Attack(http("HEAD", path), bodiless=True)


def no_method(t: Targets) -> Attack:
    word = t.rng.choice(("get", "G\x00T", "\x01", "GETGETGET" * 20, "ПОСТ", "GET\t"))
    return Attack(http(word, "/v1/sessions", _bearer(t)), raw=True)


def bad_encoding(t: Targets) -> Attack:
    text = t.rng.choice(("%ff%fe", "%c0%ae%c0%ae", "%u0027", "%", "%zz", "%ed%a0%80", "%F0%82%82%AC", "%e2%80%ae"))
    session_id = t.rng.choice(t.session_ids)
    if t.rng.random() < 0.5:
        return Attack(http("GET", f"/callbacks/qpay/{session_id}/{t.tokens[session_id]}?qpay_payment_id={text}"))
    return Attack(http("GET", f"/v1/sessions/{text}", _bearer(t)))


def bad_charset(t: Targets) -> Attack:
    charset, data = t.rng.choice(
        (
            ("utf-16", json.dumps(CART).encode("utf-16")),
            ("utf-7", b"+AHsAfQ-"),
            ("utf-8", b'{"user_id": "\xff\xfe\xc0\xaf"}'),
            ("utf-8", b"\xef\xbb\xbf\x00"),
            ("utf-8", b'{"user_id": "\\ud800", "amount": "1000"}'),
        )
    )
    headers = _bearer(t) | {"Content-Type": f"application/json; charset={charset}"}
    return Attack(http("POST", "/v1/sessions", headers, data))


def nul(t: Targets) -> Attack:
    session_id = t.rng.choice(t.session_ids)
    where = t.rng.randrange(4)
    if where == 0:
        return Attack(http("GET", f"/v1/sessions/{session_id}%00", _bearer(t)))
    if where == 1:
        return Attack(http("GET", f"/callbacks/qpay/{session_id}/{t.tokens[session_id]}?qpay_payment_id=1%00"))
    if where == 2:
        body = json.dumps({**CART, "user_id": "u\x00"}).encode()
        return Attack(http("POST", "/v1/sessions", _bearer(t), body))
    return Attack(b"GET /v1/se\x00ssions HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", raw=True)


def deep_json(t: Targets) -> Attack:
    opening, closing = t.rng.choice((("[", "]"), ('{"a":', "}")))
    depth = t.rng.randrange(100, DEEP // len(opening))
    body = (opening * depth + "1" + closing * depth * t.rng.randrange(2)).encode()
    session_id = t.rng.choice(t.session_ids)
    # An object without a payment id is a callback like another; a list is none.
    hook = f"/callbacks/qpay/{session_id}/{t.tokens[session_id]}"
    path = t.rng.choice(("/v1/sessions", hook)) if opening == "[" else "/v1/sessions"
    return Attack(http("POST", path, _bearer(t), body))


def odd_numbers(t: Targets) -> Attack:
    odd = t.rng.choice(
        ("NaN", "1e400", "-0", "-1", "0", "1e-400", "Infinity", "9" * 400, "0x10", "1_000", "true", "null")
    )
    text = json.dumps({**CART, "amount": "AMOUNT"}).replace('"AMOUNT"', odd)
    return Attack(http("POST", "/v1/sessions", _bearer(t), text.encode()))


def wrong_types(t: Targets) -> Attack:
    odd: Any = t.rng.choice((None, {}, [[]], True, "x" * LONG, {"$ne": 1}, -1))
    name = t.rng.choice(("user_id", "amount", "items", "discount"))
    broken = {**CART, "amount": "999", name: odd}
    return Attack(http("POST", "/v1/sessions", _bearer(t), json.dumps(broken).encode()))


def wrong_content_type(t: Targets) -> Attack:
    kind = t.rng.choice(
        ("text/xml", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "\xff", "a" * 999)
    )
    headers = _bearer(t) | {"Content-Type": kind}
    return Attack(
        http("POST", "/v1/sessions", headers, b"<?xml version='1.0'?><!DOCTYPE a SYSTEM 'file:///etc/passwd'>")
    )


def repeated_query(t: Targets) -> Attack:
    session_id = t.rng.choice(t.session_ids)
    times = t.rng.randrange(2, 50)
    query = "&".join(f"qpay_payment_id={t.rng.getrandbits(32)}x{n}" for n in range(times))
    return Attack(http("GET", f"/callbacks/qpay/{session_id}/{t.tokens[session_id]}?{query}"))


def repeated_names(t: Targets) -> Attack:
    body = json.dumps({**CART, "amount": "999"})[:-1] + ', "amount": "1000", "amount": "1"}'
    return Attack(http("POST", "/v1/sessions", _bearer(t), body.encode()))


def idempotency(t: Targets) -> Attack:
    headers = _bearer(t) | {"Idempotency-Key": t.rng.choice(("", "x" * 256, "\xff", "' OR 1=1 --", "a" * 4000))}
    return Attack(http("POST", "/v1/sessions", headers, json.dumps({**CART, "amount": "999"}).encode()))


# --- heads, lengths, connections -------------------------------------------------------------------------------------


def huge_header(t: Targets) -> Attack:
    size = t.rng.choice((20_000, 70_000, 200_000))
    return Attack(http("GET", "/v1/nowhere", {"X-Long": "a" * size}), raw=True)


def many_headers(t: Targets) -> Attack:
    return Attack(http("GET", "/v1/nowhere", {f"X-{n}": "a" for n in range(t.rng.choice((200, 2000)))}), raw=True)


def long_address(t: Targets) -> Attack:
    return Attack(http("GET", "/v1/sessions/" + "a" * t.rng.choice((300, 9_000, 70_000)), _bearer(t)), raw=True)


def bad_length(t: Targets) -> Attack:
    said = t.rng.choice(
        ("-1", "abc", "0x10", "1e3", "99999999999999999999", "+5", "5, 6", "", "5\r\nContent-Length: 6")
    )
    data = f"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: {said}\r\n\r\nhello"
    return Attack(data.encode(), raw=True)


def huge_body(t: Targets) -> Attack:
    size = t.rng.choice((70_000, 10_000_000, 100_000_000))
    head = http("POST", "/v1/sessions", _bearer(t) | {"Content-Length": str(size)})
    return Attack(head + b"[" * 1000, raw=True)


def bad_chunks(t: Targets) -> Attack:
    chunk = t.rng.choice(
        (b"-5\r\nhello\r\n", b"zz\r\n", b"ffffffffffffffffff\r\nx", b"5\r\nhel\r\n0\r\n\r\n", b"5;" + b"a" * 20_000)
    )
    head = b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return Attack(head + chunk, raw=True)


def two_lengths(t: Targets) -> Attack:
    smuggled = _hook(t, t.any_id(), t.token())
    coding = t.rng.choice(("chunked", "gzip, chunked", "chunked, identity", "xchunked", " chunked"))
    head = http("POST", "/v1/sessions", {"Content-Length": str(len(smuggled) + 5), "Transfer-Encoding": coding})
    return Attack(head + b"0\r\n\r\n" + smuggled, raw=True)


def pipelined(t: Targets) -> Attack:
    count = t.rng.randrange(2, 9)
    return Attack(b"".join(_hook(t, t.any_id(), t.token()) for _ in range(count)), answers=count)


def no_http(t: Targets) -> Attack:
    data = t.rng.choice(
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + t.rng.randbytes(64) + b"\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"*1\r\n$4\r\nPING\r\n\r\n",
            t.rng.randbytes(200) + b"\r\n\r\n",
            b"GET /v1/sessions\r\n\r\n",
        )
    )
    return Attack(data, raw=True)


def gone_in_head(t: Targets) -> Attack:
    whole = http("GET", f"/v1/sessions/{t.any_id()}", _bearer(t))
    return Attack(whole[: t.rng.randrange(1, len(whole) - 1)], answers=0)


def gone_in_body(t: Targets) -> Attack:
    whole = http("POST", "/v1/sessions", _bearer(t), json.dumps(CART).encode())
    start = whole.index(b"\r\n\r\n") + 4
    return Attack(whole[: t.rng.randrange(start, len(whole) - 1)], answers=0)


def gone_before_answer(t: Targets) -> Attack:
    return Attack(_hook(t, t.any_id(), t.token()), answers=0)


# --- what is put into parameters -------------------------------------------------------------------------------------


def injected(kind: str) -> Callable[[Targets], Attack]:
    """One kind of text in every parameter of every operation, in turn."""
    texts = INJECTIONS[kind]

    def attack(t: Targets) -> Attack:
        return _injected(t, t.place(kind), t.rng.choice(texts))

    return attack


READ_EMPTY: Final = frozenset({("/v1/sessions", "user_id"), ("/v1/orders", "session_id")})
"""Filters that take any text, and find nothing."""


def _injected(t: Targets, place: Place, text: str) -> Attack:
    headers, query, body = _bearer(t), "", _body_of(place)
    path = place.path
    encoded = text if "%" in text else quote(text, safe="")
    if place.kind == "path":
        path = path.replace(f"{{{place.name}}}", encoded)
    elif place.kind == "query":
        query = f"?{place.name}={encoded}"
        if path == "/v1/sessions" and place.name != "user_id":
            query += "&user_id=nobody"
    elif place.kind == "header":
        headers |= {place.name: text.replace("\r\n", " ")}
    else:
        value: Any = json.loads(text) if text.startswith("{") and text.endswith("}") and '"$' in text else text
        body = json.dumps({**json.loads(body or b"{}"), place.name: value}).encode()
    if path.startswith("/callbacks/qpay/{session_id}/{token}"):
        session_id = t.rng.choice(t.session_ids)
        path = path.replace("{session_id}", session_id).replace("{token}", t.tokens[session_id])
    refused = (place.path, place.name) not in READ_EMPTY
    return Attack(http(place.method, _filled(path, "nobody") + query, headers, body), refused=refused)


def _filled(path: str, with_: str) -> str:
    for name in ("session_id", "token", "pay_token", "order_id", "payment_id"):
        path = path.replace(f"{{{name}}}", with_)
    return path


def _body_of(place: Place) -> bytes | None:
    """A body that is refused whatever else is in it: its sums do not agree, or nobody is named."""
    if place.method != "POST":
        return None
    return json.dumps({**CART, "amount": "999"} if place.path == "/v1/sessions" else {}).encode()


# --- the old shop's routes -------------------------------------------------------------------------------------------


def old_token(t: Targets) -> Attack:
    """A JWT that is not one of ours, or is no longer."""
    alg, secret, claims = t.rng.choice(
        (
            ("none", "", {"id": "u1"}),
            ("HS256", "wrong", {"id": "u1"}),
            ("HS256", "", {"id": "u1"}),
            ("HS512", t.jwt_secret, {"id": "u1"}),
            ("HS256", t.jwt_secret, {"id": "u1", "exp": int(time.time()) - 3600}),
            ("HS256", t.jwt_secret, {}),
            ("RS256", t.jwt_secret, {"id": "u1"}),
        )
    )
    headers = {"Authorization": f"Bearer {_jwt(alg, secret, claims)}", "Content-Type": "application/json"}
    return Attack(_old(t, headers))


def old_foreign(t: Targets) -> Attack:
    """A good token of somebody else, for a session that exists."""
    headers = {
        "Authorization": f"Bearer {_jwt('HS256', t.jwt_secret, {'id': 'stranger'})}",
        "Content-Type": "application/json",
    }
    session_id = t.rng.choice(t.session_ids)
    at = t.rng.choice(OLD_PUBLIC)
    if t.rng.random() < 0.3:
        return Attack(http("POST", f"{at}/cancel", headers, json.dumps({"sessionId": session_id}).encode()))
    return Attack(http("GET", f"{at}/{t.rng.choice(('status', 'ebarimt'))}?sessionId={session_id}", headers))


def old_internal(t: Targets) -> Attack:
    """The gateway's door, from a network that is not trusted with a header that claims it is."""
    headers = {"x-internal-request": "true", "X-Forwarded-For": "10.0.0.1", "Content-Type": "application/json"}
    body = {"sessionId": "mine", "sessionData": {"userId": "u1", "cart": [], "sellers": [], "totalAmount": 1}}
    return Attack(http("POST", f"{t.rng.choice(OLD_INTERNAL)}/seed-session", headers, json.dumps(body).encode()))


def old_webhook(t: Targets) -> Attack:
    mine, other = t.two()
    token = t.rng.choice((t.token(), "", t.tokens[mine], t.tokens[other][:-1]))
    at = t.rng.choice((*OLD_PUBLIC, *OLD_INTERNAL))
    body = json.dumps({"invoiceId": "x", "status": "PAID", "payload": {"payment_id": "forged"}}).encode()
    headers = {"Content-Type": "application/json"}
    return Attack(http("POST", f"{at}/webhook?sessionId={other}&token={token}", headers, body))


def old_injected(t: Targets) -> Attack:
    kind = t.rng.choice(list(INJECTIONS))
    text = quote(t.rng.choice(INJECTIONS[kind]), safe="%")
    headers = {
        "Authorization": f"Bearer {_jwt('HS256', t.jwt_secret, {'id': text})}",
        "Content-Type": "application/json",
    }
    at = t.rng.choice(OLD_PUBLIC)
    if t.rng.random() < 0.5:
        return Attack(http("GET", f"{at}/ebarimt?sessionId={text}", headers))
    return Attack(http("POST", f"{at}/webhook?sessionId={text}&token={text}", headers, b"{}"))


def _old(t: Targets, headers: Mapping[str, str]) -> bytes:
    at, session_id = t.rng.choice(OLD_PUBLIC), t.rng.choice(t.session_ids)
    action = t.rng.randrange(3)
    if action == 0:
        return http("GET", f"{at}/status?sessionId={session_id}", headers)
    if action == 1:
        return http("POST", f"{at}/cancel", headers, json.dumps({"sessionId": session_id}).encode())
    return http(
        "POST", f"{at}/seed-session", headers, json.dumps({"cart": [], "sellers": [], "totalAmount": 1}).encode()
    )


def _jwt(alg: str, secret: str, claims: Mapping[str, Any]) -> str:
    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    said = f"{part(json.dumps({'alg': alg, 'typ': 'JWT'}).encode())}.{part(json.dumps(claims).encode())}"
    signature = hmac.new(secret.encode(), said.encode(), sha256).digest() if alg != "none" else b""
    return f"{said}.{part(signature)}"


KINDS: Final[Mapping[str, Callable[[Targets], Attack]]] = {
    "token: forged": forged_token,
    "token: another session's": others_token,
    "token: for another door": swapped_token,
    "token: truncated": cut_token,
    "token: changed or longer": changed_token,
    "API key: wrong": wrong_key,
    "API key: none": no_key,
    "method: not allowed here": wrong_method,
    "method: HEAD as a callback": head_as_callback,
    "method: none at all": no_method,
    "encoding: of the address": bad_encoding,
    "encoding: of the body": bad_charset,
    "NUL": nul,
    "JSON: deep": deep_json,
    "JSON: odd numbers": odd_numbers,
    "JSON: wrong types": wrong_types,
    "JSON: repeated names": repeated_names,
    "body: not what it says": wrong_content_type,
    "body: huge": huge_body,
    "query: repeated keys": repeated_query,
    "Idempotency-Key: not one": idempotency,
    "head: a huge header": huge_header,
    "head: many headers": many_headers,
    "head: a long address": long_address,
    "length: not one": bad_length,
    "length: bad chunks": bad_chunks,
    "length: two of them": two_lengths,
    "pipelined": pipelined,
    "no HTTP": no_http,
    "client: gone in the head": gone_in_head,
    "client: gone in the body": gone_in_body,
    "client: gone before the answer": gone_before_answer,
    **{f"injected: {kind}": injected(kind) for kind in INJECTIONS},
    "old routes: forged or expired JWT": old_token,
    "old routes: another user's session": old_foreign,
    "old routes: the gateway's door": old_internal,
    "old routes: webhook with a wrong token": old_webhook,
    "old routes: injected": old_injected,
}
"""Every kind is sent equally often."""
