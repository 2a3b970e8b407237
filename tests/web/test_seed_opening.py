"""The old shop's seed-session: its shapes, who may open what, and the same id again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.web.seed_world import (
    CHECKOUT,
    GATEWAY,
    INTERNAL_SEED,
    INTERNAL_SEEDS,
    SEEDS,
    UUID,
    Shop,
    assert_refused,
    bearer,
)
from tests.web.seed_world import shop as make_shop

from tulbur.core.session import SECOND, Status
from tulbur.errors import ProviderUnavailable
from tulbur.telemetry import ACCESS_LOG

pytestmark = pytest.mark.anyio


# --- the shapes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SEEDS)
async def test_a_browser_opens_a_checkout(shop: Shop, path: str) -> None:
    answer = await shop.seed(path)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {"success", "sessionId", "ttlSec", "invoice"}
    assert (body["success"], body["ttlSec"]) == (True, 600)
    assert set(body["invoice"]) == {"invoiceId", "qrText", "qrImage", "shortUrl", "deeplinks"}
    assert body["invoice"]["invoiceId"] == "inv1"
    assert body["invoice"]["qrImage"] == "iVBORw0"
    assert set(body["invoice"]["deeplinks"][0]) == {"name", "description", "logo", "link"}
    stored = await shop.stored(body["sessionId"])
    assert (stored.user_id, stored.amount) == ("u1", 5_000_000)
    assert [(i.product_id, i.shop_id, i.unit_price) for i in stored.items] == [
        ("p1", "s1", 1_500_000),
        ("p2", "s2", 2_000_000),
    ]
    assert stored.items[1].options == {"өнгө": "цэнхэр"}
    assert stored.metadata["sellers"] == CHECKOUT["sellers"]
    assert stored.shipping == {"shippingAddressId": "a1"}


@pytest.mark.parametrize("path", INTERNAL_SEEDS)
async def test_the_gateway_opens_one_for_its_user(shop: Shop, path: str) -> None:
    answer = await shop.seed_inside(path, top={"sessionId": UUID, "ttlSec": 15}, userId="u7")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["sessionId"], answer.json()["ttlSec"]) == (UUID, 15)
    stored = await shop.stored(UUID)
    assert (stored.user_id, stored.cache_seconds) == ("u7", 15)
    assert stored.expires_at - stored.created_at == 15 * SECOND


async def test_qpay_is_given_our_ordinary_callback_address(shop: Shop) -> None:
    opened = await shop.opened(sessionId=UUID)
    [asked] = shop.api.qpay.invoices
    assert asked.callback_url == shop.api.parts.links.callback_url(UUID)
    assert asked.amount == 5_000_000
    assert opened["sessionId"] == UUID
    shop.api.qpay.pay("inv1")
    assert (await shop.api.call_back(UUID)).text == "SUCCESS"
    assert (await shop.stored(UUID)).status is Status.PAID


async def test_without_the_setting_there_are_no_such_routes() -> None:
    async with make_shop() as on:
        paths = [route.path for route in on.api.app.routes if "/payments/qpay/" in getattr(route, "path", "")]
    from tests.web.api_world import api as make_api  # noqa: PLC0415 - the application as everybody else has it

    off = make_api()
    async with off.http:
        for path in paths:
            for method in ("GET", "POST"):
                assert (await off.call(method, path, key=None, headers=bearer())).status_code == 404
    assert len(paths) == 19


async def test_the_user_is_the_tokens_never_the_bodys(shop: Shop) -> None:
    opened = await shop.opened(userId="somebody-else", ttlSec=1)
    stored = await shop.stored(opened["sessionId"])
    assert stored.user_id == "u1"
    assert opened["ttlSec"] == 600
    assert "userId" not in stored.metadata


async def test_what_else_the_shop_sends_is_kept_with_the_session(shop: Shop) -> None:
    opened = await shop.opened(note={"from": "web", "ratio": 0.5})
    assert (await shop.stored(opened["sessionId"])).metadata["note"] == {"from": "web", "ratio": 0.5}


# --- who -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SEEDS)
async def test_without_a_token_nothing_is_opened(shop: Shop, path: str) -> None:
    assert_refused(await shop.outside.post(path, json=CHECKOUT), 401)
    assert_refused(await shop.inside.post(path, json=CHECKOUT, headers=GATEWAY), 401)
    assert shop.api.qpay.invoices == []


FORGERIES: list[dict[str, str]] = [
    {},
    GATEWAY,
    GATEWAY | {"X-Forwarded-For": "10.1.2.3"},
    GATEWAY | {"X-Real-IP": "10.1.2.3"},
    GATEWAY | {"Forwarded": "for=10.1.2.3"},
    GATEWAY | {"Host": "10.1.2.3"},
    GATEWAY | bearer(),
]


@pytest.mark.parametrize("headers", FORGERIES)
@pytest.mark.parametrize("path", INTERNAL_SEEDS)
async def test_the_gateways_header_means_nothing_from_outside(shop: Shop, path: str, headers: dict[str, str]) -> None:
    body = {"sessionData": CHECKOUT | {"userId": "u1"}}
    assert_refused(await shop.outside.post(path, json=body, headers=headers), 401)
    assert shop.api.qpay.invoices == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-internal-request": "false"},
        {"x-internal-request": "True"},
        {"x-internal-request": "1"},
        GATEWAY | {"X-Forwarded-For": "203.0.113.9"},
        GATEWAY | {"X-Forwarded-For": "10.1.2.3"},
    ],
)
async def test_from_inside_it_takes_the_header_and_no_unknown_proxy(shop: Shop, headers: dict[str, str]) -> None:
    body = {"sessionData": CHECKOUT | {"userId": "u1"}}
    assert_refused(await shop.inside.post(INTERNAL_SEED, json=body, headers=headers), 401)


async def test_no_network_is_trusted_unless_it_is_named() -> None:
    async with make_shop(networks=()) as shop:
        assert_refused(await shop.seed_inside(), 401)


async def test_behind_a_listed_proxy_the_servers_word_counts() -> None:
    async with make_shop(trusted_proxies="10.0.0.1") as shop:
        body = {"sessionData": CHECKOUT | {"userId": "u1"}}
        forwarded = GATEWAY | {"X-Forwarded-For": "10.1.2.3"}
        assert (await shop.inside.post(INTERNAL_SEED, json=body, headers=forwarded)).status_code == 200
        assert_refused(await shop.outside.post(INTERNAL_SEED, json=body, headers=forwarded), 401)


async def test_prices_of_a_browser_are_refused_unless_verified_or_allowed() -> None:
    async with make_shop(unverified_prices=False) as shop:
        for path in SEEDS:
            assert_refused(await shop.seed(path), 400, "PRICE_URL")
        assert (await shop.seed_inside()).status_code == 200


# --- the same id again -----------------------------------------------------------------------------------------------


async def test_the_same_checkout_again_is_the_same_session(shop: Shop) -> None:
    first = await shop.opened(sessionId=UUID)
    again = await shop.opened(sessionId=UUID, cart=[dict(reversed(item.items())) for item in CHECKOUT["cart"]])
    assert again == first
    assert len(shop.api.qpay.invoices) == 1


async def test_many_at_once_open_one(shop: Shop) -> None:
    answers = await asyncio.gather(*(shop.seed(sessionId=UUID) for _ in range(8)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len(shop.api.qpay.invoices) == 1
    assert (await shop.opened(sessionId=UUID))["invoice"]["invoiceId"] == "inv1"


async def test_another_users_id_is_refused(shop: Shop) -> None:
    await shop.opened(sessionId=UUID)
    assert_refused(await shop.seed(sessionId=UUID, user="u2"), 403)
    assert_refused(await shop.seed_inside(top={"sessionId": UUID}, userId="u2"), 403)


@pytest.mark.parametrize(
    "change",
    [
        {"cart": CHECKOUT["cart"][:1], "totalAmount": 30000},
        {"shippingAddressId": "a2"},
        {"coupon": {"code": "X"}},
        {"sellers": []},
    ],
)
async def test_an_id_never_gets_another_content(shop: Shop, change: dict[str, Any]) -> None:
    await shop.opened(sessionId=UUID)
    before = await shop.stored(UUID)
    assert_refused(await shop.seed(sessionId=UUID, **change), 409)
    assert await shop.stored(UUID) == before


async def test_a_session_of_the_api_is_not_taken_over(shop: Shop) -> None:
    session = await shop.api.open(user_id="u1")
    assert_refused(await shop.seed(sessionId=session["id"]), 409)
    assert_refused(await shop.seed(sessionId=session["id"], user="u2"), 403)


async def test_a_paid_checkout_shows_no_invoice_to_pay_again(shop: Shop) -> None:
    await shop.opened(sessionId=UUID)
    shop.api.qpay.pay("inv1")
    await shop.hook(UUID)
    again = await shop.opened(sessionId=UUID)
    assert again["invoice"] == {"invoiceId": "inv1", "qrText": "", "qrImage": "", "shortUrl": "", "deeplinks": []}
    assert len(shop.api.qpay.invoices) == 1


@pytest.mark.parametrize(
    "session_id", ["../x", "a b", "a/b", "я", "x" * 65, "a\n", "%00", "a:b", " ", 7, ["x"], {"a": 1}, True]
)
async def test_an_unsafe_id_is_refused(shop: Shop, session_id: Any) -> None:
    assert_refused(await shop.seed(sessionId=session_id), 400, "sessionId")
    assert_refused(await shop.seed_inside(top={"sessionId": session_id}), 400, "sessionId")
    assert shop.api.qpay.invoices == []


async def test_an_empty_id_is_none(shop: Shop) -> None:
    assert len((await shop.opened(sessionId=""))["sessionId"]) == 32
    assert len((await shop.opened(sessionId=None))["sessionId"]) == 32


# --- QPay and the database -------------------------------------------------------------------------------------------


async def test_without_qpay_the_session_is_named_and_goes_on(shop: Shop) -> None:
    shop.api.qpay_down()
    answer = await shop.seed()
    assert answer.status_code == 502
    session_id = answer.json()["sessionId"]
    assert answer.json() == {"success": False, "error": "QPay service unavailable", "sessionId": session_id}
    shop.api.qpay.fault = None
    opened = await shop.opened(sessionId=session_id)
    assert (opened["sessionId"], opened["invoice"]["invoiceId"]) == (session_id, "inv1")


async def test_past_the_deadline_without_an_invoice_there_is_none_to_show(shop: Shop) -> None:
    shop.api.qpay.fault = ProviderUnavailable()
    session_id = (await shop.seed()).json()["sessionId"]
    shop.api.qpay.fault = None
    shop.api.clock.advance(700)
    answer = await shop.seed(sessionId=session_id)
    assert answer.status_code == 502, answer.text
    assert answer.json()["sessionId"] == session_id


async def test_without_the_database_nothing_is_promised(shop: Shop) -> None:
    shop.api.database_down()
    answer = await shop.seed()
    assert_refused(answer, 503)
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("path", [*SEEDS, *INTERNAL_SEEDS])
async def test_the_log_names_the_address_that_was_asked(
    shop: Shop, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", ACCESS_LOG)
    await shop.outside.post(f"{path}?sessionId={UUID}")
    [line] = [record for record in caplog.records if record.name == ACCESS_LOG]
    assert (vars(line)["route"], vars(line)["status"]) == (path, 401)
    assert UUID not in caplog.text
