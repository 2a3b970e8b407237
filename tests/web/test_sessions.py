"""Reading, listing, cancelling and checking sessions, with every answer that can be given."""

from __future__ import annotations

import itertools

import pytest
from tests.web.api_world import PAYMENT_FIELDS, SESSION_FIELDS, Api, assert_problem

from tulbur.core.session import Status
from tulbur.payments.explaining import explain
from tulbur.web.why import story_shape

pytestmark = pytest.mark.anyio


# --- reading ---------------------------------------------------------------------------------------------------------


async def test_an_unknown_session(api: Api) -> None:
    for method, path in (("GET", "s1"), ("GET", "s1/why"), ("POST", "s1/cancel"), ("POST", "s1/check")):
        assert_problem(await api.call(method, f"/v1/sessions/{path}"), 404, "not_found")


@pytest.mark.parametrize("session_id", ["%00", "a%00b", "%0a", "%ff", "x" * 101, "%2e%2e", "a%2fb", "%E2%80%AE", "a/b"])
async def test_a_weird_id_is_one_that_does_not_exist(api: Api, session_id: str) -> None:
    for method, end in (("GET", ""), ("GET", "/why"), ("POST", "/cancel"), ("POST", "/check")):
        assert_problem(await api.call(method, f"/v1/sessions/{session_id}{end}"), 404, "not_found")
    assert_problem(await api.get(f"/v1/orders/{session_id}"), 404, "not_found")


async def test_payments_and_orders_of_a_paid_session(api: Api) -> None:
    session = await api.open()
    payment_id = api.qpay.pay(session["invoice"]["id"])
    await api.call_back(session["id"], f"?qpay_payment_id={payment_id}")
    paid = (await api.get(f"/v1/sessions/{session['id']}")).json()
    assert set(paid) == SESSION_FIELDS
    assert (paid["status"], paid["received"], paid["paid_at"]) == ("PAID", "50000.00", "2026-09-21T14:13:20Z")
    assert set(paid["payments"][0]) == PAYMENT_FIELDS
    assert paid["payments"][0]["ordered"] == "50000.00"
    assert [(order["shop_id"], order["total"]) for order in paid["orders"]] == [("s1", "30000.00"), ("s2", "20000.00")]
    assert {"id", "shop_id", "total", "discount", "currency", "items", "created_at"} <= set(paid["orders"][0])


# --- why -------------------------------------------------------------------------------------------------------------


async def test_the_story_of_a_session_is_the_one_the_command_tells(api: Api) -> None:
    session = await api.open()
    payment_id = api.qpay.pay(session["invoice"]["id"])
    await api.call_back(session["id"], f"?qpay_payment_id={payment_id}")
    answer = await api.get(f"/v1/sessions/{session['id']}/why", key="reader")
    assert answer.status_code == 200
    told = answer.json()
    assert told == story_shape(await explain(api.parts.payments.desk, session["id"])).model_dump(mode="json")
    assert told["verdict"] == "PAID at 2026-09-21 22:13:20, 2 orders"
    assert (told["kind"], told["do"], told["history_cut"]) == ("session", [], False)
    assert [line["source"] for line in told["history"][:4]] == ["shop", "QPay", "callback", "callback"]
    assert told["session"]["payments"][0]["ordered"] == "50000.00"
    assert "Цай" not in answer.text


async def test_only_a_reader_is_told_and_only_by_a_sessions_own_id(api: Api) -> None:
    session = await api.open()
    path = f"/v1/sessions/{session['id']}/why"
    assert_problem(await api.get(path, key=None), 401, "unauthorized")
    assert_problem(await api.get(path, key="writer"), 403, "forbidden")
    assert_problem(await api.get(f"/v1/sessions/{session['invoice']['id']}/why"), 404, "not_found")
    api.database_down()
    assert_problem(await api.get(path), 503, "store_unavailable")


async def test_the_name_of_the_key_is_who_asked_and_who_cancelled(api: Api) -> None:
    session = await api.open()
    await api.post(f"/v1/sessions/{session['id']}/check", key="writer")
    await api.post(f"/v1/sessions/{session['id']}/cancel")
    history = (await api.get(f"/v1/sessions/{session['id']}/why")).json()["history"]
    named = {line["type"]: line["source"] for line in history if line["source"] in ("writer", "all")}
    assert named == {"check.asked": "writer", "session.cancelled": "all"}


# --- lists -----------------------------------------------------------------------------------------------------------


async def test_sessions_are_listed_page_by_page(api: Api) -> None:
    opened = []
    for _ in range(5):
        opened.append((await api.open())["id"])
        api.clock.advance(1)
    seen: list[str] = []
    cursor, sizes = "", []
    for _ in range(10):
        page = (await api.get(f"/v1/sessions?limit=2{cursor}")).json()
        assert set(page) == {"items", "next_cursor"}
        sizes.append(len(page["items"]))
        seen += [session["id"] for session in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == opened[::-1]
    assert sizes == [2, 2, 1]
    assert (await api.get("/v1/sessions?limit=5")).json()["next_cursor"] is None


async def test_sessions_are_filtered(api: Api) -> None:
    one, two = await api.open(), await api.open(user_id="u2")
    api.clock.advance(10)
    three = await api.open(user_id="u2")
    await api.post(f"/v1/sessions/{two['id']}/cancel")
    api.qpay.pay(one["invoice"]["id"], tugrik=60_000)
    await api.call_back(one["id"])

    async def found(query: str) -> list[str]:
        answer = await api.get(f"/v1/sessions?{query}")
        assert answer.status_code == 200, answer.text
        return [session["id"] for session in answer.json()["items"]]

    assert await found("status=PAID") == [one["id"]]
    assert await found("exception=overpaid") == [one["id"]]
    assert await found("exception=late") == []
    assert await found("user_id=u2") == [three["id"], two["id"]]
    assert await found("user_id=u2&status=CANCELLED") == [two["id"]]
    assert await found("user_id=nobody") == []
    assert await found("created_after=2026-09-21T14:13:25Z") == [three["id"]]
    assert await found("created_after=2026-09-21T22:13:25%2B08:00") == [three["id"]]
    assert await found("created_after=2026-09-21T22:13:25+08:00") == [three["id"]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=paid", "status"),
        ("status=", "status"),
        ("exception=none", "exception"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("limit=1e2", "limit"),
        ("limit=99999999999999999999999999", "limit"),
        ("user_id=", "user_id"),
        ("user_id=a%00b", "user_id"),
        ("user_id=" + "u" * 101, "user_id"),
        ("created_after=yesterday", "created_after"),
        ("created_after=2026-02-30T00:00:00Z", "created_after"),
        ("created_after=2026-01-31", "created_after"),
        ("created_after=2026-01-31T08:00:00", "created_after"),
        ("created_after=1700000000", "created_after"),
        ("cursor=x", "cursor"),
        ("cursor=", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=MTIzNA", "cursor"),
        ("cursor=" + "x" * 301, "cursor"),
    ],
)
async def test_a_filter_that_makes_no_sense(api: Api, query: str, field: str) -> None:
    problem = assert_problem(await api.get(f"/v1/sessions?{query}"), 422, "invalid")
    assert [error["field"] for error in problem["errors"]] == [field]
    assert api.store.calls == []


@pytest.mark.parametrize(
    "path", ["sessions?limit=1&limit=2", "events?after=1&after=1", "orders?session_id=a&session_id=b"]
)
async def test_a_parameter_given_twice_has_no_meaning(api: Api, path: str) -> None:
    assert_problem(await api.get(f"/v1/{path}"), 422, "invalid")


# --- cancel and check ------------------------------------------------------------------------------------------------


async def test_a_session_is_cancelled_once(api: Api) -> None:
    session = await api.open()
    answer = await api.post(f"/v1/sessions/{session['id']}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "CANCELLED")
    assert answer.json()["cancelled_at"] == "2026-09-21T14:13:20Z"
    assert answer.json()["invoice"] == {"id": "inv1", "qr_text": "", "qr_image": "", "short_url": "", "links": []}
    api.clock.advance(60)
    assert (await api.post(f"/v1/sessions/{session['id']}/cancel")).json() == answer.json()


async def test_what_is_paid_cannot_be_cancelled(api: Api) -> None:
    session = await api.open()
    api.qpay.pay(session["invoice"]["id"])
    for _ in range(2):
        assert_problem(await api.post(f"/v1/sessions/{session['id']}/cancel"), 409, "already_paid")
    assert (await api.stored(session["id"])).status is Status.PAID


async def test_without_qpay_nothing_is_cancelled(api: Api) -> None:
    session = await api.open()
    api.qpay_down()
    problem = assert_problem(await api.post(f"/v1/sessions/{session['id']}/cancel"), 502, "provider_unavailable")
    assert problem["session_id"] == session["id"]
    assert (await api.stored(session["id"])).status is Status.PENDING


async def test_the_payer_asks_and_is_told(api: Api) -> None:
    session = await api.open()
    api.qpay.pay(session["invoice"]["id"])
    answer = await api.post(f"/v1/sessions/{session['id']}/check")
    assert (answer.status_code, answer.json()["status"]) == (200, "PAID")


async def test_asking_too_early_answers_what_is_stored(api: Api) -> None:
    session = await api.open()
    for seconds, questions in ((11, 1), (1, 1), (8, 1), (2, 2)):
        api.clock.advance(seconds)
        answer = await api.post(f"/v1/sessions/{session['id']}/check")
        assert (answer.status_code, answer.json()["status"], api.qpay.questions) == (200, "PENDING", questions)


async def test_without_qpay_a_question_is_not_answered(api: Api) -> None:
    session = await api.open()
    api.clock.advance(11)
    api.qpay_down()
    problem = assert_problem(await api.post(f"/v1/sessions/{session['id']}/check"), 502, "provider_unavailable")
    assert problem["session_id"] == session["id"]


async def test_the_body_of_cancel_and_check_means_nothing_but_has_its_limit(api: Api) -> None:
    session = await api.open()
    for path, body in itertools.product(("cancel", "check"), (b"{", b"x" * 65_537)):
        answer = await api.post(f"/v1/sessions/{session['id']}/{path}", content=body)
        assert answer.status_code == (200 if len(body) == 1 else 413)
