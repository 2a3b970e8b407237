"""Tokens of the old shop: which are believed, and every way to make one up."""

from __future__ import annotations

from typing import Any

import pytest
from joserfc import jws, jwt
from joserfc.jwk import OctKey
from tests.web.seed_world import (
    CHECKOUT,
    CLAIMS,
    NOW,
    OTHER_SECRET,
    SECRET,
    SEED,
    Shop,
    ask,
    assert_unauthorized,
    bearer,
    key_of,
    part,
    rsa_key,
    swapped,
    token,
    unsigned,
)
from tests.web.seed_world import shop as make_shop

pytestmark = pytest.mark.anyio


# --- HS256 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "user"),
    [
        ({"id": "u1", "exp": NOW + 1}, "u1"),
        ({"id": "u1"}, "u1"),
        ({"id": "u1", "sub": "u2"}, "u1"),
        ({"sub": "u2"}, "u2"),
        ({"id": "", "sub": "u2"}, "u2"),
        ({"id": None, "sub": "u2"}, "u2"),
        ({"id": 42}, "42"),
        ({"id": "u1", "nbf": NOW, "iat": NOW + 3}, "u1"),
        ({"id": "u1", "exp": NOW + 0.5, "nbf": NOW + 4}, "u1"),
    ],
)
async def test_the_user_is_the_claim_id_else_sub(shop: Shop, claims: dict[str, Any], user: str) -> None:
    answer = await shop.outside.post(SEED, json=CHECKOUT, headers={"Authorization": f"bearer {token(claims)}"})
    assert answer.status_code == 200, answer.text
    assert (await shop.stored(answer.json()["sessionId"])).user_id == user


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"id": None},
        {"id": ""},
        {"id": True},
        {"id": 1.5},
        {"id": ["u1"]},
        {"id": {"$ne": None}},
        {"id": "x" * 101},
        {"id": "u\x001"},
        {"id": ["u1"], "sub": "u1"},
        {"name": "u1"},
        {"id": "u1", "exp": NOW},
        {"id": "u1", "exp": NOW - 1},
        {"id": "u1", "exp": 0},
        {"id": "u1", "exp": -1},
        {"id": "u1", "exp": None},
        {"id": "u1", "exp": "tomorrow"},
        {"id": "u1", "exp": str(NOW + 900)},
        {"id": "u1", "exp": True},
        {"id": "u1", "exp": float("nan")},
        {"id": "u1", "exp": [NOW + 900]},
        {"id": "u1", "nbf": NOW + 60},
        {"id": "u1", "nbf": "now"},
        {"id": "u1", "nbf": float("inf")},
    ],
)
async def test_claims_that_do_not_hold_now_are_refused(shop: Shop, claims: dict[str, Any]) -> None:
    assert_unauthorized(await ask(shop, token(claims)))


async def test_a_token_ends_with_its_time(shop: Shop) -> None:
    given = token({"id": "u1", "exp": NOW + 10})
    assert (await ask(shop, given)).status_code == 200
    shop.api.clock.advance(10)
    assert_unauthorized(await ask(shop, given))


MADE_UP = {
    "none": unsigned({"alg": "none"}),
    "None": unsigned({"alg": "None", "typ": "JWT"}),
    "none signed": unsigned({"alg": "none"}, signature="AAAA"),
    "no alg": unsigned({"typ": "JWT"}, signature="AAAA"),
    "another secret": token(CLAIMS, key=key_of(OTHER_SECRET)),
    "no secret": jwt.encode({"alg": "HS256"}, CLAIMS, OctKey.import_key(b"x" * 32)),
    "HS384": jwt.encode({"alg": "HS384"}, CLAIMS, key_of(SECRET), algorithms=["HS384"]),
    "HS512": jwt.encode({"alg": "HS512"}, CLAIMS, key_of(SECRET), algorithms=["HS512"]),
    "RS256": jwt.encode({"alg": "RS256"}, CLAIMS, rsa_key(), algorithms=["RS256"]),
    "other claims": swapped(token(), CLAIMS | {"id": "u2"}),
    "no signature": token().rpartition(".")[0] + ".",
    "half a signature": token()[:-20],
    "its own key": token(CLAIMS, key=key_of(OTHER_SECRET), header={"jwk": key_of(OTHER_SECRET).as_dict()}),
    "a key elsewhere": token(CLAIMS, key=key_of(OTHER_SECRET), header={"jku": "http://127.0.0.1:1/jwks"}),
    "a kid": token(CLAIMS, key=key_of(OTHER_SECRET), header={"kid": "../../dev/null"}),
    "critical": unsigned({"alg": "HS256", "crit": ["x"]}, signature="AAAA"),
    "detached": unsigned({"alg": "HS256", "b64": False, "crit": ["b64"]}, signature="AAAA"),
    "header no object": unsigned(["HS256"], signature="AAAA"),
    "header a text": unsigned("HS256", signature="AAAA"),
    "header null": unsigned(None, signature="AAAA"),
    "alg no text": unsigned({"alg": ["HS256"]}, signature="AAAA"),
    "alg an object": unsigned({"alg": {}}, signature="AAAA"),
    "deep header": unsigned(b"[" * 3000, signature="AAAA"),
    "header no UTF-8": unsigned(b"\xff", signature="AAAA"),
    "claims no object": jwt.encode({"alg": "HS256"}, {}, key_of(SECRET)).replace(part({}), part([])),
    "two parts": "a.b",
    "four parts": f"{token()}.x",
    "five parts": "a.b.c.d.e",
    "nothing between": "..",
    "too long": unsigned({"alg": "HS256"}, {"id": "x" * 9000}, "AAAA"),
    "padding": token() + "=",
    "space": token().replace(".", ". "),
}


@pytest.mark.parametrize("name", MADE_UP)
async def test_a_made_up_token_is_refused(shop: Shop, name: str) -> None:
    assert_unauthorized(await ask(shop, MADE_UP[name]))
    assert_unauthorized(await ask(shop, Cookie=f"access_token={MADE_UP[name]}"))


async def test_signed_claims_that_are_no_object_are_refused(shop: Shop) -> None:
    for payload in (b"[]", b"null", b'"u1"', b"{", b"[" * 4000, b"\xff"):
        assert_unauthorized(await ask(shop, jws.serialize_compact({"alg": "HS256"}, payload, key_of(SECRET))))


# --- where it is -----------------------------------------------------------------------------------------------------


async def test_the_cookie_serves_as_well_as_the_header(shop: Shop) -> None:
    assert (await ask(shop, Cookie=f"theme=dark; access_token={token()}; x=y")).status_code == 200
    assert (await ask(shop, token(), Cookie="access_token=nonsense")).status_code == 200
    assert_unauthorized(await ask(shop, "nonsense", Cookie=f"access_token={token()}"))
    assert (await ask(shop, Authorization="Basic dTpw", Cookie=f"access_token={token()}")).status_code == 200
    assert_unauthorized(await ask(shop, Cookie=f"seller-access-token={token()}"))
    assert_unauthorized(await ask(shop))
    assert_unauthorized(await ask(shop, Authorization=f"Token {token()}"))
    assert_unauthorized(await shop.outside.get(f"/payments/qpay/status?sessionId=none&access_token={token()}"))


async def test_another_site_cannot_use_the_cookie(shop: Shop) -> None:
    cross = {"Sec-Fetch-Site": "cross-site"}
    assert_unauthorized(await ask(shop, Cookie=f"access_token={token()}", **cross))
    assert (await ask(shop, token(), **cross)).status_code == 200


async def test_two_headers_are_none(shop: Shop) -> None:
    headers = [("Authorization", f"Bearer {token()}"), ("Authorization", f"Bearer {token()}")]
    assert_unauthorized(await shop.outside.get("/payments/qpay/status?sessionId=none", headers=headers))


async def test_an_api_key_is_no_user(shop: Shop) -> None:
    assert_unauthorized(await ask(shop, "key-of-the-operator"))


async def test_without_any_key_every_token_is_refused() -> None:
    async with make_shop(jwt_secret="") as shop:
        assert_unauthorized(await ask(shop, token()))
        assert_unauthorized(await ask(shop, token(key=OctKey.import_key(b"\x00" * 32))))


async def test_a_short_secret_of_the_shops_is_its_own_affair() -> None:
    async with make_shop(jwt_secret="abc") as shop:
        assert (await ask(shop, token(key=key_of("abc")))).status_code == 200
        assert_unauthorized(await ask(shop, token()))


@pytest.mark.parametrize("path", ["/payments/qpay/status?sessionId=x", "/payments/qpay/ebarimt?sessionId=x"])
async def test_reading_takes_a_token(shop: Shop, path: str) -> None:
    assert_unauthorized(await shop.outside.get(path))
    assert_unauthorized(await shop.inside.get(path, headers={"x-internal-request": "true"}))


async def test_cancelling_takes_a_token(shop: Shop) -> None:
    opened = await shop.opened()
    body = {"sessionId": opened["sessionId"]}
    assert_unauthorized(await shop.outside.post("/payments/qpay/cancel", json=body))
    assert_unauthorized(
        await shop.inside.post("/payments/qpay/cancel", json=body, headers={"x-internal-request": "true"})
    )
    assert (await shop.outside.post("/payments/qpay/cancel", json=body, headers=bearer())).status_code == 200
