"""QPay's callbacks over HTTP: right and wrong tokens, every way to name a payment, and what SUCCESS promises."""

from __future__ import annotations

import json

import httpx2
import pytest
from tests.web.api_world import Api, assert_problem

from tulbur.core.session import Status

pytestmark = pytest.mark.anyio

ID = "493622150113497"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


def assert_success(answer: httpx2.Response) -> None:
    assert (answer.status_code, answer.text) == (200, "SUCCESS")
    assert answer.headers["content-type"].split(";")[0] == "text/plain"


def outcomes(api: Api) -> dict[str, float]:
    found = {}
    for line in api.parts.telemetry.exposition().decode().splitlines():
        if line.startswith("tulbur_callbacks_total{"):
            name, _, count = line.partition("} ")
            found[name.partition('outcome="')[2].rstrip('"')] = float(count)
    return found


async def test_a_paid_session_is_ordered_by_its_callback(api: Api) -> None:
    session = await api.open()
    api.qpay.pay(session["invoice"]["id"])
    assert_success(await api.call_back(session["id"], f"?qpay_payment_id={ID}"))
    stored = await api.stored(session["id"])
    assert (stored.status, len(stored.orders)) == (Status.PAID, 2)
    for _ in range(3):
        assert_success(await api.call_back(session["id"], f"?qpay_payment_id={ID}"))
    assert (await api.stored(session["id"])) == stored
    assert outcomes(api) == {"paid": 1, "repeated": 3}


async def test_a_callback_before_the_payment_shows_is_kept(api: Api) -> None:
    session = await api.open()
    assert_success(await api.call_back(session["id"], f"?qpay_payment_id={ID}"))
    stored = await api.stored(session["id"])
    assert [hint.payment_id for hint in stored.hints] == [ID]
    assert stored.status is Status.PENDING
    assert outcomes(api) == {"waiting": 1}


async def test_the_whole_address_is_short_enough_for_qpay(api: Api) -> None:
    session = await api.open()
    assert len(api.qpay.invoices[0].callback_url) + len(f"?qpay_payment_id={'9' * 64}") < 255
    assert session["id"] in api.qpay.invoices[0].callback_url


# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_wrong_token_is_answered_before_any_look(api: Api, method: str) -> None:
    known, other = (await api.open())["id"], (await api.open())["id"]
    right = api.callback_path(known)
    forged = [
        right[:-1] + ("A" if right[-1] != "A" else "B"),
        right + "A",
        right[:-1],
        f"/callbacks/qpay/{known}/{right.rpartition('/')[2].swapcase()}",
        api.callback_path(other).replace(other, known),
        api.callback_path("unknown").replace("unknown", known),
        api.parts.links.checkout_url(known).replace("https://pay.shop.mn/pay", "/callbacks/qpay"),
        f"/callbacks/qpay/{known}/%00",
        f"/callbacks/qpay/{known}/%ff%fe",
        f"/callbacks/qpay/{'x' * 4000}/{'y' * 3000}",
        "/callbacks/qpay/unknown/" + "A" * 27,
    ]
    api.store.calls.clear()
    api.cache.calls.clear()
    answers = [await api.call(method, f"{path}?qpay_payment_id={ID}", key=None, content=b"{") for path in forged]
    for answer in answers:
        assert assert_problem(answer, 404, "not_found") == answers[0].json()
    assert api.store.calls == api.cache.calls == []
    assert outcomes(api) == {"forged": len(forged)}


async def test_a_right_token_of_a_session_that_is_gone_is_kept(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    assert_success(await api.call_back("gone", f"?qpay_payment_id={ID}"))
    assert [kept.payment_id for kept in await api.store.inner.unmatched(10)] == [ID]
    assert "callback for a session that is not stored" in caplog.messages
    assert outcomes(api) == {"unmatched": 1}


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_another_method_is_no_callback(api: Api, method: str) -> None:
    session = await api.open()
    answer = await api.call_back(session["id"], f"?qpay_payment_id={ID}", method)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, POST"
    assert (await api.stored(session["id"])).hints == ()
    assert outcomes(api) == {}


# --- how a payment is named ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "?qpay_payment_id=", "?other=1", "?QPAY_PAYMENT_ID=1", "?payment_id=1"])
async def test_a_callback_that_names_no_payment_is_a_hint_all_the_same(api: Api, query: str) -> None:
    session = await api.open()
    assert_success(await api.call_back(session["id"], query))
    assert [hint.payment_id for hint in (await api.stored(session["id"])).hints] == [""]


@pytest.mark.parametrize(
    "query", [f"?qpay_payment_id={ID}&qpay_payment_id={ID}", f"?a=%00&qpay_payment_id={ID}&status=PAID"]
)
async def test_the_same_payment_named_twice_is_one(api: Api, query: str) -> None:
    session = await api.open()
    assert_success(await api.call_back(session["id"], query))
    assert [hint.payment_id for hint in (await api.stored(session["id"])).hints] == [ID]


@pytest.mark.parametrize(
    "value",
    ["%00", "1%00", "1%0a", "a%20b", "../1", "%D1%86", "%ff", "1'--", "x" * 65, f"{ID}&qpay_payment_id=2", "%ED%A0%80"],
)
async def test_what_cannot_be_an_id_changes_nothing(api: Api, value: str) -> None:
    session = await api.open()
    before = await api.stored(session["id"])
    assert_problem(await api.call_back(session["id"], f"?qpay_payment_id={value}"), 400, "bad_request")
    assert await api.stored(session["id"]) == before
    assert outcomes(api) == {"malformed": 1}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"qpay_payment_id": "%s"}' % ID.encode(), JSON),
        (b'{"payment_id": "%s", "payment_status": "PAID"}' % ID.encode(), JSON),
        (b'{"payment_id": %s}' % ID.encode(), JSON),
        (b'{"payment_id": "%s"}' % ID.encode(), {}),
        (b"qpay_payment_id=%s" % ID.encode(), FORM),
        (b"payment_id=%s&payment_id=%s" % (ID.encode(), ID.encode()), FORM),
    ],
)
async def test_a_post_may_name_the_payment_in_its_body(api: Api, body: bytes, headers: dict[str, str]) -> None:
    session = await api.open()
    assert_success(await api.call_back(session["id"], "", "POST", content=body, headers=headers))
    assert [hint.payment_id for hint in (await api.stored(session["id"])).hints] == [ID]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", JSON),
        (b"", {}),
        (b"{}", JSON),
        (b'{"payment_id": null, "qpay_payment_id": ""}', JSON),
        (b"<xml/>", {"Content-Type": "application/xml"}),
        (b"\x00\xff", {"Content-Type": "application/octet-stream"}),
    ],
)
async def test_a_body_that_names_none_means_nothing(api: Api, body: bytes, headers: dict[str, str]) -> None:
    session = await api.open()
    answer = await api.call_back(session["id"], f"?qpay_payment_id={ID}", "POST", content=body, headers=headers)
    assert_success(answer)
    assert [hint.payment_id for hint in (await api.stored(session["id"])).hints] == [ID]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", JSON, 400),
        (b"[]", JSON, 400),
        (b"\xff", JSON, 400),
        (b"[" * 60_000, JSON, 400),
        (b'{"payment_id": "1", "payment_id": "1"}', JSON, 400),
        (b'{"payment_id": ["1"]}', JSON, 400),
        (b'{"payment_id": true}', JSON, 400),
        (b'{"payment_id": 1.5}', JSON, 400),
        (b'{"payment_id": "\\ud800"}', JSON, 400),
        (b'{"payment_id": "2"}', JSON, 400),
        (b'{"payment_id": "%s", "qpay_payment_id": "2"}' % ID.encode(), JSON, 400),
        (b"payment_id=2", FORM, 400),
        (b"payment_id=%00", FORM, 400),
        (b"payment_id=%ff", FORM, 400),
        (b"&".join([b"a=1"] * 101), FORM, 400),
        (b'{"x": "' + b"x" * 65_536 + b'"}', JSON, 413),
    ],
)
async def test_a_body_that_cannot_be_right_changes_nothing(
    api: Api, body: bytes, headers: dict[str, str], status: int
) -> None:
    session = await api.open()
    before = await api.stored(session["id"])
    answer = await api.call_back(session["id"], f"?qpay_payment_id={ID}", "POST", content=body, headers=headers)
    assert_problem(answer, status, "too_large" if status == 413 else "bad_request")
    assert await api.stored(session["id"]) == before


async def test_a_body_proves_nothing(api: Api) -> None:
    session = await api.open()
    claims = {"payment_id": ID, "payment_status": "PAID", "amount": 50_000, "invoice_id": session["invoice"]["id"]}
    assert_success(await api.call_back(session["id"], "", "POST", content=json.dumps(claims), headers=JSON))
    assert (await api.stored(session["id"])).status is Status.PENDING


# --- SUCCESS is a promise --------------------------------------------------------------------------------------------


async def test_without_the_database_there_is_no_success(api: Api) -> None:
    session = await api.open()
    api.database_down()
    answer = await api.call_back(session["id"], f"?qpay_payment_id={ID}")
    assert_problem(answer, 503, "store_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert "SUCCESS" not in answer.text
    assert outcomes(api) == {"failed": 1}


async def test_whatever_breaks_there_is_no_success(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    session = await api.open()
    api.store.fault = RuntimeError("hunter2")
    answer = await api.call_back(session["id"], f"?qpay_payment_id={ID}")
    assert_problem(answer, 503, "store_unavailable")
    assert "SUCCESS" not in answer.text
    assert "hunter2" not in answer.text
    assert "a callback failed" in caplog.messages


async def test_a_callback_that_the_cache_can_answer_needs_no_database(api: Api) -> None:
    session = await api.open()
    api.qpay.pay(session["invoice"]["id"])
    await api.call_back(session["id"], f"?qpay_payment_id={ID}")
    api.database_down()
    assert_success(await api.call_back(session["id"], f"?qpay_payment_id={ID}"))


async def test_without_qpay_the_hint_is_kept(api: Api) -> None:
    session = await api.open()
    api.qpay_down()
    assert_success(await api.call_back(session["id"], f"?qpay_payment_id={ID}"))
    assert [hint.payment_id for hint in (await api.stored(session["id"])).hints] == [ID]
