"""Tokens checked with the shop's public keys: fetched when needed, kept for a while, and never taken for a secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from tests.web.seed_world import (
    CLAIMS,
    NOW,
    SECRET,
    Service,
    Shop,
    ask,
    assert_unauthorized,
    jwks,
    part,
    rsa_key,
    service,
    swapped,
    token,
    unsigned,
)
from tests.web.seed_world import shop as make_shop

pytestmark = pytest.mark.anyio

KEY, NEXT_KEY, SMALL_KEY = rsa_key("k1"), rsa_key("k2"), rsa_key("small", 1024)


# --- RS256 -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def published() -> AsyncIterator[Service]:
    async with service(jwks(KEY)) as made:
        yield made


@pytest.fixture
async def rsa_shop(published: Service) -> AsyncIterator[Shop]:
    async with make_shop(jwt_secret="", jwks_url=published.url) as made:
        yield made


def signed(key: Any = KEY, *, kid: str | None = "k1", **claims: Any) -> str:
    header = {"alg": "RS256"} | ({"kid": kid} if kid else {})
    return token(CLAIMS | claims, key=key, header=header)


async def test_keys_are_fetched_once_and_kept(rsa_shop: Shop, published: Service) -> None:
    for _ in range(3):
        assert (await ask(rsa_shop, signed())).status_code == 200
    assert (await ask(rsa_shop, signed(kid=None))).status_code == 200
    assert len(published.asked) == 1


@pytest.mark.parametrize(
    "made",
    [
        signed(NEXT_KEY),
        signed(exp=NOW - 1),
        unsigned({"alg": "none", "kid": "k1"}),
        swapped(signed(), CLAIMS | {"id": "u2"}),
        token(),
        token(key=OctKey.import_key(json.dumps(KEY.as_dict(private=False)).encode()), header={"kid": "k1"}),
        token(key=OctKey.import_key(str(KEY.as_dict(private=False)["n"]).encode()), header={"kid": "k1"}),
        jwt.encode({"alg": "RS512", "kid": "k1"}, CLAIMS, KEY, algorithms=["RS512"]),
        jwt.encode({"alg": "PS256", "kid": "k1"}, CLAIMS, KEY, algorithms=["PS256"]),
    ],
)
async def test_what_the_public_key_did_not_sign_is_refused(rsa_shop: Shop, made: str) -> None:
    assert_unauthorized(await ask(rsa_shop, made))


async def test_the_public_key_as_a_secret_signs_nothing(rsa_shop: Shop) -> None:
    """The oldest confusion of all: HS256 over the PEM that everybody may read."""
    head, pem = f"{part({'alg': 'HS256', 'kid': 'k1'})}.{part(CLAIMS)}", KEY.as_pem(private=False)
    for secret in (pem, pem.strip(), KEY.as_der(private=False)):
        made = f"{head}.{part(hmac.digest(secret, head.encode(), hashlib.sha256))}"
        assert_unauthorized(await ask(rsa_shop, made))


async def test_a_new_key_is_found_at_most_once_a_minute(rsa_shop: Shop, published: Service) -> None:
    assert (await ask(rsa_shop, signed())).status_code == 200
    rsa_shop.api.clock.advance(1)
    for number in range(5):
        assert_unauthorized(await ask(rsa_shop, signed(NEXT_KEY, kid=f"made-up-{number}")))
    assert len(published.asked) == 1
    published.answer = jwks(KEY, NEXT_KEY)
    rsa_shop.api.clock.advance(60)
    assert (await ask(rsa_shop, signed(NEXT_KEY, kid="k2"))).status_code == 200
    assert_unauthorized(await ask(rsa_shop, signed(NEXT_KEY, kid="made-up")))
    assert_unauthorized(await ask(rsa_shop, signed(NEXT_KEY, kid=None)))
    assert len(published.asked) == 2


async def test_a_withdrawn_key_goes(rsa_shop: Shop, published: Service) -> None:
    assert (await ask(rsa_shop, signed())).status_code == 200
    published.answer = jwks(NEXT_KEY)
    rsa_shop.api.clock.advance(600)
    assert_unauthorized(await ask(rsa_shop, signed()))


async def test_keys_outlive_a_silence_for_a_day(rsa_shop: Shop, published: Service) -> None:
    far = signed(exp=NOW + 10**6)
    assert (await ask(rsa_shop, far)).status_code == 200
    published.status = 500
    rsa_shop.api.clock.advance(86_399)
    assert (await ask(rsa_shop, far)).status_code == 200
    rsa_shop.api.clock.advance(2)
    answer = await ask(rsa_shop, far)
    assert (answer.status_code, answer.json()["ok"]) == (503, False)
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"keys": {}}, b"", b"<html>", b"{" * 5000, b'{"keys": "' + b"x" * 300_000 + b'"}']
)
async def test_without_keys_nobody_is_believed_or_sent_away(rsa_shop: Shop, published: Service, answer: Any) -> None:
    published.answer = answer
    assert (await ask(rsa_shop, signed())).status_code == 503
    assert (await ask(rsa_shop, signed())).status_code == 503
    assert len(published.asked) == 1
    published.answer = jwks(KEY)
    rsa_shop.api.clock.advance(5)
    assert (await ask(rsa_shop, signed())).status_code == 200


async def test_keys_elsewhere_are_not_followed(rsa_shop: Shop, published: Service) -> None:
    published.status, published.headers = 302, {"Location": published.url}
    assert (await ask(rsa_shop, signed())).status_code == 503
    assert len(published.asked) == 1


async def test_only_keys_that_may_check_signatures_count(rsa_shop: Shop, published: Service) -> None:
    secret = {"kty": "oct", "k": base64.urlsafe_b64encode(SECRET.encode()).decode(), "kid": "k1"}
    others = [
        secret,
        *jwks(KEY, use="enc")["keys"],
        *jwks(KEY, alg="RS512")["keys"],
        {"kty": "RSA", "kid": "k1"},
        {"kty": "RSA", "kid": "k1", "n": "!", "e": "AQAB"},
        None,
        "k1",
    ]
    published.answer = {"keys": others}
    assert_unauthorized(await ask(rsa_shop, signed()))
    assert_unauthorized(await ask(rsa_shop, token(header={"kid": "k1"})))
    published.answer = jwks(SMALL_KEY, use="sig")
    rsa_shop.api.clock.advance(61)
    assert_unauthorized(await ask(rsa_shop, signed(SMALL_KEY, kid="small")))
    published.answer = jwks(KEY, use="sig", alg="RS256", x5t="abc")
    rsa_shop.api.clock.advance(61)
    assert (await ask(rsa_shop, signed())).status_code == 200
