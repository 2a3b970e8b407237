"""The bytes that QPay's sandbox was seen to answer, proven by the ETags it sent with them."""

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from tulbur.simulator.http import dumps, etag, loads

pytestmark = pytest.mark.anyio

BOTH_REQUIRED = (
    '{"object_type":{"type":"REQUIRED","message":"Required!"},"object_id":{"type":"REQUIRED","message":"Required!"}}'
)
# (body, ETag in the sandbox's answer)
SEEN = [
    (
        '{"error":"AUTHENTICATION_FAILED","message":"Нэвтрэх нэр, нууц үг буруу"}',
        'W/"5d-ZT2Tg3G60rCRFgw5os/8A6L9ghI"',
    ),
    ('{"error":"NO_CREDENTIALS","message":"NO_CREDENTIALS"}', 'W/"35-frMBA9lZAoJZ16qEw7S6Ci+DxSY"'),
    ("{}", 'W/"2-vyGp6PvFo4RvsFtPoIWeCReyIC8"'),
    (
        '{"error":"INVOICE_ALREADY_CANCELED","message":"Нэхэмжлэл цуцлагдсан байна"}',
        'W/"63-64bUtqs4qNsE5V7duCQqumutYk0"',
    ),
    ('{"error":"PAYMENT_SETTLED","message":"PAYMENT_SETTLED"}', 'W/"37-yNWhHn52UIDiIHlZcX1GX3m8/FI"'),
    (
        f'{{"error":{BOTH_REQUIRED},"message":{BOTH_REQUIRED}}}',
        'W/"f3-MQxsEP891xjhPHTwpgx1tSMzmbg"',
    ),
    ('{"error":"SYSTEM_BUSY","message":"SYSTEM_BUSY"}', 'W/"2f-bUWoV4SZOfyLwTuXixxyPCn/dO4"'),
    (
        '{"error":"PAYMENT_NOT_PAID","message":"Төлбөр төлөлт хийгдээгүй байна"}',
        'W/"62-E+8ZNrW0wnHXbhjfx6P8/SVS9HM"',
    ),
    ('{"error":"SYSTEM_BUSY"}', 'W/"17-8tlByIdLJ7AgxmSq+SP97bzFBA4"'),
]


def exactly(response: httpx2.Response, status: int, number: int) -> None:
    body, tag = SEEN[number]
    assert response.status_code == status
    assert response.content == body.encode()
    assert response.headers["etag"] == tag
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.headers["x-powered-by"] == "Express"


@pytest.mark.parametrize(("body", "tag"), SEEN)
async def test_our_etag_is_the_one_qpay_sent(body: str, tag: str) -> None:
    assert etag(body.encode()) == tag
    assert dumps(loads(body.encode())) == body.encode()


async def test_wrong_password(anonymous: httpx2.AsyncClient) -> None:
    exactly(await anonymous.post("/v2/auth/token", auth=("TEST_MERCHANT", "wrong")), 401, 0)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "auth/refresh"),
        ("POST", "invoice"),
        ("GET", "invoice/x"),
        ("DELETE", "invoice/x"),
        ("GET", "payment/x"),
        ("POST", "payment/check"),
        ("POST", "payment/list"),
        ("DELETE", "payment/cancel/x"),
        ("DELETE", "payment/refund/x"),
        ("POST", "ebarimt_v3/create"),
        ("POST", "ebarimt/create"),
        ("DELETE", "ebarimt_v3/x"),
        ("GET", "ebarimt/x"),
        ("GET", "subscription/x"),
        ("DELETE", "subscription/x"),
    ],
)
async def test_no_credentials(anonymous: httpx2.AsyncClient, method: str, path: str) -> None:
    exactly(await anonymous.request(method, f"/v2/{path}", headers={"Authorization": "Bearer x"}), 401, 1)


async def test_cancelling_once_and_again(
    client: httpx2.AsyncClient, invoice: Callable[..., Awaitable[dict[str, Any]]]
) -> None:
    made = await invoice()
    exactly(await client.delete(f"/v2/invoice/{made['invoice_id']}"), 200, 2)
    exactly(await client.delete(f"/v2/invoice/{made['invoice_id']}"), 400, 3)


@pytest.mark.parametrize("call", ["cancel", "refund"])
async def test_a_bank_payment_cannot_be_given_back(
    client: httpx2.AsyncClient,
    invoice: Callable[..., Awaitable[dict[str, Any]]],
    pay: Callable[..., Awaitable[str]],
    call: str,
) -> None:
    payment = await pay((await invoice())["invoice_id"])
    exactly(await client.request("DELETE", f"/v2/payment/{call}/{payment}", json={"note": "butsaalt"}), 400, 4)


async def test_a_list_of_nothing_in_particular(client: httpx2.AsyncClient) -> None:
    exactly(await client.post("/v2/payment/list", json={}), 400, 5)


async def test_a_list_with_a_big_page(client: httpx2.AsyncClient) -> None:
    body = {
        "object_type": "INVOICE",
        "object_id": "TEST_INVOICE",
        "offset": {"page_number": 1, "page_limit": 1000},
    }
    exactly(await client.post("/v2/payment/list", json=body), 500, 6)


async def test_a_receipt_for_an_unpaid_payment(
    client: httpx2.AsyncClient,
    invoice: Callable[..., Awaitable[dict[str, Any]]],
    pay: Callable[..., Awaitable[str]],
) -> None:
    payment = await pay((await invoice())["invoice_id"])
    await client.post(f"/_sim/payments/{payment}/fail")
    body = {"payment_id": payment, "ebarimt_receiver_type": "CITIZEN"}
    exactly(await client.post("/v2/ebarimt/create", json=body), 400, 7)


async def test_an_unpaid_check_has_no_paid_amount(
    client: httpx2.AsyncClient, invoice: Callable[..., Awaitable[dict[str, Any]]]
) -> None:
    body = {"object_type": "INVOICE", "object_id": (await invoice())["invoice_id"]}
    response = await client.post("/v2/payment/check", json=body)
    assert response.content == b'{"count":0,"rows":[]}'


async def test_the_token_body(anonymous: httpx2.AsyncClient) -> None:
    response = await anonymous.post("/v2/auth/token", auth=("TEST_MERCHANT", "123456"), json={})
    body = response.json()
    assert list(body) == [
        "token_type",
        "refresh_expires_in",
        "refresh_token",
        "access_token",
        "expires_in",
        "scope",
        "not-before-policy",
        "session_state",
    ]
    assert response.content == json.dumps(body, separators=(",", ":")).encode()
    assert body["token_type"] == "bearer"
    assert body["expires_in"] == body["refresh_expires_in"] == 1_790_000_000 + 86_400
    assert (body["scope"], body["not-before-policy"], body["session_state"]) == ("get_token", "0", "sandbox")
    # As long as the sandbox's own, whose merchant is 4 characters instead of a UUID.
    assert len(response.content) == 815 + 43


async def test_the_claim_exp_is_bogus_as_qpays_is(anonymous: httpx2.AsyncClient) -> None:
    body = (await anonymous.post("/v2/auth/token", auth=("TEST_MERCHANT", "123456"))).json()

    def claims(token: str) -> dict[str, Any]:
        middle = token.split(".")[1]
        decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
        return decoded

    access, refresh = claims(body["access_token"]), claims(body["refresh_token"])
    assert list(access) == ["client_id", "merchant_id", "v1_merchant_flag", "session_id", "iat", "exp"]
    assert access["exp"] == access["iat"] + body["expires_in"]
    assert list(refresh) == ["id", "session_secret", "extra", "iat", "exp"]
    assert refresh["exp"] == refresh["iat"] + body["expires_in"] + 14_400
    assert (access["v1_merchant_flag"], refresh["extra"]) == (False, {})
