"""Orders, events and stats under /v1."""

from __future__ import annotations

from typing import Any

import pytest
from tests.web.api_world import Api, assert_problem
from tests.web.api_world import api as make_api

from tulbur.errors import StoreUnavailable

pytestmark = pytest.mark.anyio


async def paid(api: Api, **changes: Any) -> dict[str, Any]:
    session = await api.open(**changes)
    payment_id = api.qpay.pay(session["invoice"]["id"], payment_id=f"p{session['invoice']['id']}")
    assert (await api.call_back(session["id"], f"?qpay_payment_id={payment_id}")).text == "SUCCESS"
    return dict((await api.get(f"/v1/sessions/{session['id']}")).json())


# --- orders ----------------------------------------------------------------------------------------------------------


async def test_an_order_is_found_by_its_id_and_by_its_session(api: Api) -> None:
    session = await paid(api)
    await paid(api)
    listed = (await api.get(f"/v1/orders?session_id={session['id']}")).json()
    assert listed["next_cursor"] is None
    assert listed["items"] == [order | {"session_id": session["id"]} for order in session["orders"]]
    order = listed["items"][1]
    assert (await api.get(f"/v1/orders/{order['id']}")).json() == order
    assert (order["shop_id"], order["total"], order["currency"]) == ("s2", "20000.00", "MNT")


async def test_what_is_not_ordered_has_no_orders(api: Api) -> None:
    session = await api.open()
    for session_id in (session["id"], "unknown"):
        answer = await api.get(f"/v1/orders?session_id={session_id}")
        assert answer.json() == {"items": [], "next_cursor": None}
    assert_problem(await api.get("/v1/orders/unknown"), 404, "not_found")


@pytest.mark.parametrize("query", ["", "?session_id=", "?session_id=%00", "?session_id=" + "x" * 101])
async def test_orders_are_asked_for_by_session(api: Api, query: str) -> None:
    problem = assert_problem(await api.get(f"/v1/orders{query}"), 422, "invalid")
    assert [error["field"] for error in problem["errors"]] == ["session_id"]


# --- events ----------------------------------------------------------------------------------------------------------


async def test_events_are_read_in_order_and_none_is_missed(api: Api) -> None:
    session = await paid(api)
    other = await api.open()
    everything = (await api.get("/v1/events")).json()
    assert everything["next_cursor"] is None
    items = everything["items"]
    assert all(set(item) == {"no", "id", "type", "session_id", "at", "data"} for item in items)
    assert [item["no"] for item in items] == list(range(1, len(items) + 1))
    types = [item["type"] for item in items if item["session_id"] == session["id"]]
    assert types[:2] == ["session.opened", "session.invoiced"]
    assert set(types[2:]) == {"payment.seen", "order.created", "session.paid"}
    assert items[-1]["session_id"] == other["id"]
    assert items[0]["data"]["amount"] == "50000.00"
    paged: list[Any] = []
    after = "0"
    for _ in range(20):
        page = (await api.get(f"/v1/events?after={after}&limit=2")).json()
        paged += page["items"]
        if page["next_cursor"] is None:
            break
        after = page["next_cursor"]
    assert paged == items
    assert (await api.get(f"/v1/events?limit={len(items)}")).json()["next_cursor"] is None
    assert (await api.get(f"/v1/events?after={items[-1]['no']}")).json()["items"] == []
    assert (await api.get("/v1/events?after=9223372036854775807")).json()["items"] == []


@pytest.mark.parametrize("delivering", [False, True])
async def test_reading_events_takes_none_away_from_the_shop(delivering: bool) -> None:
    api = make_api(delivering=delivering)
    await api.open()
    items = (await api.get("/v1/events")).json()["items"]
    assert items
    stats = (await api.get("/v1/stats")).json()
    assert stats["events_undelivered"] == (len(items) if delivering else 0)


@pytest.mark.parametrize(
    "query", ["after=-1", "after=x", "after=", "after=9223372036854775808", "limit=0", "limit=201"]
)
async def test_an_after_that_makes_no_sense(api: Api, query: str) -> None:
    problem = assert_problem(await api.get(f"/v1/events?{query}"), 422, "invalid")
    assert [error["field"] for error in problem["errors"]] == [query.partition("=")[0]]


# --- stats -----------------------------------------------------------------------------------------------------------


async def test_an_empty_shop_has_counts_too(api: Api) -> None:
    assert (await api.get("/v1/stats")).json() == {
        "sessions": 0,
        "by_status": {"PENDING": 0, "PAID": 0, "EXPIRED": 0, "CANCELLED": 0},
        "by_exception": {},
        "created_24h": 0,
        "orders": 0,
        "refund_due": {"count": 0, "amount": "0.00"},
        "held": {"count": 0, "amount": "0.00"},
        "unmatched": 0,
        "loads": {"cache": 0, "database": 0, "adopted": 0},
        "fallback_rate": None,
        "checks_due": 0,
        "events_undelivered": 0,
        "events_parked": 0,
        "swept_until": None,
    }


async def test_counts_are_true_at_once(api: Api) -> None:
    session = await paid(api)
    await api.open()
    await api.cache.inner.drop(session["id"])
    await api.call_back(session["id"], "?qpay_payment_id=pinv1")
    stats = (await api.get("/v1/stats")).json()
    assert (stats["sessions"], stats["orders"], stats["created_24h"]) == (2, 2, 2)
    assert stats["by_status"] == {"PENDING": 1, "PAID": 1, "EXPIRED": 0, "CANCELLED": 0}
    assert stats["loads"] == {"cache": 1, "database": 1, "adopted": 0}
    assert stats["fallback_rate"] == 0.5


async def test_money_that_is_due_back_is_counted(api: Api) -> None:
    session = await api.open()
    api.qpay.pay(session["invoice"]["id"], tugrik=50_001)
    await api.call_back(session["id"])
    stats = (await api.get("/v1/stats")).json()
    assert stats["refund_due"] == {"count": 1, "amount": "1.00"}
    assert stats["by_exception"] == {"overpaid": 1}


async def test_without_a_shared_cache_the_rate_means_nothing() -> None:
    made = make_api(shared_cache_or_single=False)
    await paid(made)
    stats = (await made.get("/v1/stats")).json()
    assert stats["loads"]["cache"] == 1
    assert stats["fallback_rate"] is None


async def test_counts_that_could_not_be_stored_are_not_lost(api: Api) -> None:
    await paid(api)
    api.store.fault = StoreUnavailable()
    assert_problem(await api.get("/v1/stats"), 503, "store_unavailable")
    api.store.fault = None
    assert (await api.get("/v1/stats")).json()["loads"]["cache"] == 1
