"""People decide about money over HTTP: reviews, refunds, whose a payment is, and when somebody is done with it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.web.api_world import Api

from tulbur.core.rules import Rules
from tulbur.core.session import Reason
from tulbur.core.settling import SeenPayment
from tulbur.errors import ProviderRefused, ProviderUnavailable

pytestmark = pytest.mark.anyio

CARD = "card1"
BANK = "bank1"
LISTED = {
    *("id", "disposition", "session_id", "hinted_session_id", "invoice_id", "amount", "currency", "status", "method"),
    *("wallet", "seen_at", "paid_at", "ordered", "refund_due", "refunded", "held", "closed_at", "reference", "note"),
    "closed_by",
}


async def paid(api: Api, payment_id: str = BANK, tugrik: int = 50_000, method: str = "P2P") -> dict[str, Any]:
    session = await api.open()
    api.qpay.pay(session["invoice"]["id"], payment_id, tugrik, method)
    await api.call_back(session["id"], f"?qpay_payment_id={payment_id}")
    return dict((await api.get(f"/v1/sessions/{session['id']}")).json())


async def late(api: Api, payment_id: str = BANK) -> dict[str, Any]:
    """Money that came after the deadline, where the shop wants to look at it first."""
    api.parts.payments.desk = replace(api.parts.payments.desk, rules=Rules(review_late=True))
    session = await api.open()
    api.clock.advance(1801)
    await api.parts.payments.check(session["id"])
    api.qpay.pay(session["invoice"]["id"], payment_id)
    await api.call_back(session["id"], f"?qpay_payment_id={payment_id}")
    return dict((await api.get(f"/v1/sessions/{session['id']}")).json())


async def lost(api: Api, payment_id: str = "lost1", tugrik: int = 50_000) -> str:
    """Money on an invoice that is none of ours, of which a callback told."""
    seen = SeenPayment(id=payment_id, amount=tugrik * 100, currency="MNT", status="PAID", invoice_id="pos-7")
    api.qpay.paid.setdefault("pos-7", []).append(seen)
    await api.call_back("nobody", f"?qpay_payment_id={payment_id}")
    return payment_id


async def acted(api: Api, path: str, status: int = 200, key: str = "refunds", **body: Any) -> dict[str, Any]:
    answer = await api.post(path, key=key, json=body)
    assert answer.status_code == status, answer.text
    if status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
    return dict(answer.json())


async def worklist(api: Api, query: str = "") -> list[dict[str, Any]]:
    answer = await api.get(f"/v1/payments{query}")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


# --- review


async def test_late_money_is_held_and_accepted_by_the_keys_name(api: Api) -> None:
    session = await late(api)
    assert (session["status"], session["held"], session["exceptions"]) == ("EXPIRED", "50000.00", ["late"])
    (listed,) = await worklist(api, "?disposition=held")
    assert set(listed) == LISTED
    assert (listed["id"], listed["session_id"], listed["held"]) == (BANK, session["id"], "50000.00")
    after = await acted(api, f"/v1/sessions/{session['id']}/review", decision="accept", note="утсаар ярьсан")
    assert (after["status"], len(after["orders"]), after["held"]) == ("PAID", 2, "0.00")
    told = [e for e in await api.store.inner.history(session["id"], 200) if e.type == "session.reviewed"]
    assert [e.data["by"] for e in told] == ["refunds"]
    again = await acted(api, f"/v1/sessions/{session['id']}/review", 409, decision="accept")
    assert again["code"] == "conflict"
    assert await worklist(api) == []


async def test_declined_money_is_due_back_until_a_reference_closes_it(api: Api) -> None:
    session = await late(api)
    after = await acted(api, f"/v1/sessions/{session['id']}/review", decision="refund")
    assert (after["status"], after["refund_due"], after["orders"]) == ("EXPIRED", "50000.00", [])
    (refund,) = after["payments"][0]["refunds"]
    assert (refund["way"], refund["state"], refund["by"], refund["reference"]) == ("person", "decided", "refunds", None)
    (listed,) = await worklist(api)
    assert listed["disposition"] == "refund_due"
    closed = await acted(api, f"/v1/payments/{BANK}/close", reference="KHAN-17", note="")
    assert (closed["refunded"], closed["reference"], closed["closed_by"]) == ("50000.00", "KHAN-17", "refunds")
    assert await worklist(api) == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"decision": "ACCEPT"},
        {"decision": "accept", "note": 5},
        {"decision": "accept", "note": "x" * 1001},
        {"decision": "accept", "note": "a\x00b"},
        {"decision": "accept", "note": "\x1b[31mred"},
        {"decision": "accept", "by": "somebody else"},
    ],
)
async def test_a_review_that_says_nothing_sensible_is_refused(api: Api, body: dict[str, Any]) -> None:
    session = await late(api)
    assert (await acted(api, f"/v1/sessions/{session['id']}/review", 422, **body))["code"] == "invalid"
    assert (await api.stored(session["id"])).orders == ()


async def test_what_cannot_be_decided_is_told_with_a_sentence(api: Api) -> None:
    session = await api.open()
    path = f"/v1/sessions/{session['id']}/review"
    assert "nothing to make orders of" in (await acted(api, path, 409, decision="accept"))["detail"]
    assert "cancel the session first" in (await acted(api, path, 409, decision="refund"))["detail"]
    assert (await acted(api, "/v1/sessions/nobody/review", 404, decision="accept"))["code"] == "not_found"


async def test_accepting_races_with_the_look_that_would_expire_it(api: Api) -> None:
    session = await api.open()
    api.qpay.pay(session["invoice"]["id"], BANK, 20_000)
    await api.call_back(session["id"], f"?qpay_payment_id={BANK}")
    api.clock.advance(1801)
    path = f"/v1/sessions/{session['id']}"
    done = await asyncio.gather(
        api.post(f"{path}/review", key="refunds", json={"decision": "accept"}),
        api.post(f"{path}/cancel"),
        api.post(f"{path}/check"),
        api.post(f"{path}/review", key="admin", json={"decision": "accept"}),
        api.post(f"{path}/review", key="refunds", json={"decision": "refund"}),
    )
    assert all(answer.status_code in (200, 409, 502) for answer in done), [a.text for a in done]
    stored = await api.stored(session["id"])
    (payment,) = stored.payments
    assert payment.ordered + payment.refund_due + payment.refunded + payment.held == payment.amount
    assert len(stored.orders) == (2 if stored.status == "PAID" else 0)
    reviews = [e for e in await api.store.inner.history(session["id"], 200) if e.type == "session.reviewed"]
    assert sum(e.data["decision"] == "accept" for e in reviews) <= 1


# --- refunds


async def test_a_card_goes_back_through_qpay_and_the_session_tells(api: Api) -> None:
    session = await paid(api, CARD, method="CARD")
    after = await acted(api, f"/v1/sessions/{session['id']}/refunds", 201, payment_id=CARD, note="wrong size")
    (payment,) = after["payments"]
    assert (after["status"], payment["status"], payment["refunded"]) == ("PAID", "REFUNDED", "50000.00")
    (refund,) = payment["refunds"]
    assert set(refund) == {"amount", "way", "state", "by", "requested_at", "reference", "note"}
    assert (refund["way"], refund["state"], refund["by"]) == ("qpay", "done", "refunds")
    assert 'tulbur_checks_total{reason="operator"} 1.0' in (await api.get("/metrics")).text


async def test_two_keys_at_once_send_a_card_back_once(api: Api) -> None:
    session = await paid(api, CARD, method="CARD")
    path = f"/v1/sessions/{session['id']}/refunds"
    keys = ["refunds", "admin"] * 4
    done = await asyncio.gather(*(api.post(path, key=key, json={"payment_id": CARD}) for key in keys))
    assert sorted(answer.status_code for answer in done) == [201] + [409] * 7
    assert api.qpay.refunds == [CARD]


async def test_the_same_key_and_body_give_the_same_refund(api: Api) -> None:
    session = await paid(api, CARD, method="CARD")
    path, said = f"/v1/sessions/{session['id']}/refunds", {"Idempotency-Key": "back-1"}
    api.qpay.fault = None
    first = await api.post(path, key="refunds", json={"payment_id": CARD}, headers=said)
    again = await api.post(path, key="refunds", json={"payment_id": CARD, "note": ""}, headers=said)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert api.qpay.refunds == [CARD]
    other = await api.post(path, key="refunds", json={"payment_id": CARD, "note": "else"}, headers=said)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    stranger = await api.post(path, key="admin", json={"payment_id": CARD}, headers=said)
    assert stranger.status_code == 409


async def test_a_lost_answer_is_told_and_never_sent_twice(api: Api) -> None:
    session = await paid(api, CARD, method="CARD")
    path, said = f"/v1/sessions/{session['id']}/refunds", {"Idempotency-Key": "back-1"}
    answered = api.qpay.refund_payment

    async def lost_answer(payment_id: str, note: str) -> Any:
        await answered(payment_id, note)
        raise ProviderUnavailable

    api.qpay.refund_payment = lost_answer  # type: ignore[method-assign]
    first = await api.post(path, key="refunds", json={"payment_id": CARD}, headers=said)
    assert (first.status_code, first.json()["code"]) == (502, "provider_unavailable")
    assert first.json()["session_id"] == session["id"]
    assert "being looked at" in first.json()["detail"]
    again = await api.post(path, key="refunds", json={"payment_id": CARD}, headers=said)
    assert again.status_code == 201
    assert again.json()["payments"][0]["refunds"][0]["state"] == "requested"
    without = await acted(api, path, 409, payment_id=CARD)
    assert "wait for what became of it" in without["detail"]
    by_hand = await acted(api, path, 409, payment_id=CARD, reference="KHAN-1")
    assert "QPay was asked" in by_hand["detail"]
    assert api.qpay.refunds == [CARD]


async def test_what_qpay_gave_back_before_is_no_task_for_a_person(api: Api) -> None:
    session = await paid(api, CARD, method="CARD")
    await api.qpay.refund_payment(CARD, "")

    async def refused(payment_id: str, note: str) -> Any:
        raise ProviderRefused("PAYMENT_ALREADY_REFUNDED")

    api.qpay.refund_payment = refused  # type: ignore[method-assign]
    after = await acted(api, f"/v1/sessions/{session['id']}/refunds", 201, payment_id=CARD)
    assert after["payments"][0]["refunds"][0]["state"] == "done"
    assert await worklist(api) == []


async def test_what_qpay_refuses_is_a_persons_task(api: Api) -> None:
    session = await paid(api, CARD, method="CARD")

    async def refused(payment_id: str, note: str) -> Any:
        raise ProviderRefused("PAYMENT_TOO_OLD")

    api.qpay.refund_payment = refused  # type: ignore[method-assign]
    path = f"/v1/sessions/{session['id']}/refunds"
    problem = await acted(api, path, 502, payment_id=CARD)
    assert (problem["code"], problem["key"], problem["session_id"]) == (
        "provider_refused",
        "PAYMENT_TOO_OLD",
        session["id"],
    )
    after = await acted(api, path, 201, payment_id=CARD, reference="KHAN-1")
    assert after["refunded"] == "50000.00"


async def test_parts_of_a_bank_payment_and_never_more_than_there_is(api: Api) -> None:
    session = await paid(api)
    path = f"/v1/sessions/{session['id']}/refunds"
    for amount in ("50000.01", "0", "-1", "1e9", "x", 10**20):
        assert (await acted(api, path, 422, payment_id=BANK, amount=amount))["code"] == "invalid"
    after = await acted(api, path, 201, payment_id=BANK, amount="20000", reference="K-1")
    again = await acted(api, path, 201, payment_id=BANK, amount="20000", reference="K-1")
    assert after == again
    problem = await acted(api, path, 422, payment_id=BANK, amount="30000.01", reference="K-2")
    assert "30000.00" in problem["detail"]
    after = await acted(api, path, 201, payment_id=BANK, amount="30000", reference="K-2")
    assert (after["refunded"], after["status"], len(after["orders"])) == ("50000.00", "PAID", 2)
    assert (await acted(api, path, 409, payment_id=BANK, amount="1", reference="K-3"))["code"] == "conflict"
    assert (await acted(api, path, 404, payment_id="nobody"))["code"] == "not_found"


async def test_one_person_is_at_it_and_another_is_told_who(api: Api) -> None:
    session = await paid(api)
    path = f"/v1/sessions/{session['id']}/refunds"
    await acted(api, path, 201, payment_id=BANK)
    told = await acted(api, path, 409, key="admin", payment_id=BANK, reference="K-1")
    assert "being paid back by refunds" in told["detail"]
    await acted(api, path, 201, payment_id=BANK, reference="K-1")


@pytest.mark.parametrize("reference", ["", "  ", "x" * 256, "a\nb", "a\x00", "\x1b[2J", "\u202e1", 7, None])
async def test_a_reference_is_one_readable_line(api: Api, reference: Any) -> None:
    await paid(api)
    problem = await acted(api, f"/v1/payments/{BANK}/close", 422, reference=reference)
    assert problem["code"] == "invalid"


async def test_a_refund_and_a_late_callback_at_once(api: Api) -> None:
    session = await paid(api, CARD, 50_000, "CARD")
    api.qpay.pay(session["invoice"]["id"], "second")
    path = f"/v1/sessions/{session['id']}/refunds"
    await asyncio.gather(
        api.post(path, key="refunds", json={"payment_id": CARD}),
        api.call_back(session["id"], "?qpay_payment_id=second"),
        api.call_back(session["id"], f"?qpay_payment_id={CARD}"),
    )
    await api.parts.payments.check(session["id"])
    stored = await api.stored(session["id"])
    assert len(stored.orders) == 2
    for p in stored.payments:
        assert p.ordered + p.refund_due + p.refunded + p.held == p.amount
    assert stored.sum("ordered") <= stored.amount


async def test_of_money_paid_twice_either_may_go_back(api: Api) -> None:
    session = await paid(api)
    api.qpay.pay(session["invoice"]["id"], "second")
    await api.call_back(session["id"], "?qpay_payment_id=second")
    before = (await api.get(f"/v1/sessions/{session['id']}")).json()
    assert (before["exceptions"], before["refund_due"]) == (["paid_twice"], "50000.00")
    after = await acted(
        api, f"/v1/sessions/{session['id']}/refunds", 201, payment_id=BANK, amount="50000", reference="K-1"
    )
    assert (after["refund_due"], after["refunded"], after["exceptions"]) == ("0.00", "50000.00", [])
    assert {p["id"]: p["ordered"] for p in after["payments"]} == {BANK: "0.00", "second": "50000.00"}
    assert await worklist(api) == [], "nobody is asked to give the other one back as well"


# --- whose it is, and who is done with it


async def test_a_lost_payment_is_listed_and_assigned(api: Api) -> None:
    session = await api.open()
    payment_id = await lost(api)
    (listed,) = await worklist(api, "?disposition=unmatched")
    assert (listed["id"], listed["session_id"], listed["hinted_session_id"]) == (payment_id, None, "nobody")
    assert listed["amount"] is None
    after = await acted(api, f"/v1/payments/{payment_id}/assign", session_id=session["id"])
    assert (after["status"], len(after["orders"])) == ("PAID", 2)
    assert after["payments"][0]["assigned_by"] == "refunds"
    assert await acted(api, f"/v1/payments/{payment_id}/assign", session_id=session["id"]) == after
    assert await worklist(api) == []
    assert 'tulbur_checks_total{reason="operator"} 1.0' in (await api.get("/metrics")).text


async def test_an_assigned_payment_that_is_refunded_later_is_seen(api: Api) -> None:
    session = await api.open()
    payment_id = await lost(api)
    await acted(api, f"/v1/payments/{payment_id}/assign", session_id=session["id"])
    await api.qpay.refund_payment(payment_id, "")
    await api.parts.payments.check(session["id"], Reason.OPERATOR)
    after = (await api.get(f"/v1/sessions/{session['id']}")).json()
    assert (after["refunded"], after["exceptions"], after["status"]) == ("50000.00", ["refunded"], "PAID")


async def test_one_payment_goes_to_one_of_two_sessions(api: Api) -> None:
    first, second = await api.open(), await api.open()
    payment_id = await lost(api)
    done = await asyncio.gather(
        *(
            api.post(f"/v1/payments/{payment_id}/assign", key="refunds", json={"session_id": s["id"]})
            for s in (first, second) * 3
        )
    )
    codes = [answer.status_code for answer in done]
    assert set(codes) <= {200, 409}
    holders = {answer.json()["id"] for answer in done if answer.status_code == 200}
    assert len(holders) == 1
    orders = [(await api.stored(s["id"])).orders for s in (first, second)]
    assert sorted(len(made) for made in orders) == [0, 2]


async def test_money_on_another_sessions_invoice_is_that_sessions(api: Api) -> None:
    maker, other = await api.open(), await api.open()
    api.qpay.pay(maker["invoice"]["id"], BANK)
    problem = await acted(api, f"/v1/payments/{BANK}/assign", 409, session_id=other["id"])
    assert maker["id"] in problem["detail"]
    assert (await api.stored(other["id"])).payments == ()
    assert (await api.post(f"/v1/sessions/{maker['id']}/check")).json()["status"] == "PAID"


async def test_what_nobody_knows_cannot_be_assigned_or_closed(api: Api) -> None:
    session = await api.open()
    assert (await acted(api, "/v1/payments/none/assign", 404, session_id=session["id"]))["code"] == "not_found"
    payment_id = await lost(api)
    assert (await acted(api, f"/v1/payments/{payment_id}/assign", 404, session_id="nobody"))["code"] == "not_found"
    assert (await acted(api, "/v1/payments/none/close", 404, reference="K"))["code"] == "not_found"
    api.qpay_down()
    problem = await acted(api, f"/v1/payments/{payment_id}/assign", 502, session_id=session["id"])
    assert problem["code"] == "provider_unavailable"


async def test_a_payment_without_a_session_is_closed_once(api: Api) -> None:
    session = await api.open()
    payment_id = await lost(api)
    path = f"/v1/payments/{payment_id}/close"
    closed = await acted(api, path, reference=" POS-7 ", note="кассын борлуулалт")
    assert set(closed) == LISTED
    assert (closed["reference"], closed["closed_by"], closed["disposition"]) == ("POS-7", "refunds", None)
    assert await acted(api, path, reference="POS-7") == closed
    assert (await acted(api, path, 409, reference="POS-8"))["code"] == "conflict"
    assert await worklist(api) == []
    problem = await acted(api, f"/v1/payments/{payment_id}/assign", 409, session_id=session["id"])
    assert "closed" in problem["detail"]
    assert (await api.stored(session["id"])).orders == ()


async def test_money_that_may_still_become_an_order_is_not_closed(api: Api) -> None:
    session = await api.open()
    api.qpay.pay(session["invoice"]["id"], BANK, 20_000)
    await api.call_back(session["id"], f"?qpay_payment_id={BANK}")
    told = (await acted(api, f"/v1/payments/{BANK}/close", 409, reference="K-1"))["detail"]
    assert session["id"] in told
    assert "cancel it first" in told
    other = await late(api, "late1")
    told = (await acted(api, "/v1/payments/late1/close", 409, reference="K-1"))["detail"]
    assert f"review session {other['id']}" in told


async def test_only_what_is_due_is_closed(api: Api) -> None:
    session = await paid(api)
    told = (await acted(api, f"/v1/payments/{BANK}/close", 409, reference="K-1"))["detail"]
    assert told == "Nothing of this payment is due back."
    more = await paid(api, "more", 60_000)
    assert (await acted(api, "/v1/payments/more/close", reference="K-2"))["refunded"] == "10000.00"
    assert (await acted(api, "/v1/payments/more/close", reference="K-2"))["refunded"] == "10000.00"
    await acted(api, "/v1/payments/more/close", 409, reference="K-3")
    await acted(api, f"/v1/sessions/{more['id']}/refunds", 409, payment_id="more", reference="K-3")
    for one in (session, more):
        after = (await api.get(f"/v1/sessions/{one['id']}")).json()
        assert sum(float(p["ordered"]) for p in after["payments"]) == 50_000, "its orders are still paid for"


# --- the list, and who may


async def test_the_list_goes_through_all_kinds_page_by_page(api: Api) -> None:
    for number in range(3):
        await lost(api, f"lost{number}")
    await paid(api, "over1", 60_000)
    await late(api, "late1")
    seen, cursor = [], ""
    for _ in range(10):
        answer = (await api.get(f"/v1/payments?limit=2{cursor}")).json()
        seen += [(item["disposition"], item["id"]) for item in answer["items"]]
        assert len(answer["items"]) <= 2
        if answer["next_cursor"] is None:
            break
        cursor = f"&cursor={answer['next_cursor']}"
    kinds = ["unmatched"] * 3 + ["held", "refund_due"]
    assert seen == list(zip(kinds, ["lost0", "lost1", "lost2", "late1", "over1"], strict=True))
    assert [i["id"] for i in await worklist(api, "?disposition=refund_due")] == ["over1"]
    held = (await api.get("/v1/payments?limit=1")).json()["next_cursor"]
    assert (await api.get(f"/v1/payments?disposition=held&cursor={held}")).status_code == 422


@pytest.mark.parametrize(
    "query", ["disposition=all", "disposition=held&disposition=held", "limit=0", "limit=201", "cursor=x"]
)
async def test_a_list_asked_for_wrongly_is_refused(api: Api, query: str) -> None:
    answer = await api.get(f"/v1/payments?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


async def test_only_the_scope_refund_moves_money(api: Api) -> None:
    session = await late(api)
    actions = [
        (f"/v1/sessions/{session['id']}/review", {"decision": "accept"}),
        (f"/v1/sessions/{session['id']}/refunds", {"payment_id": BANK}),
        (f"/v1/payments/{BANK}/assign", {"session_id": session["id"]}),
        (f"/v1/payments/{BANK}/close", {"reference": "K"}),
    ]
    before = await api.stored(session["id"])
    for path, body in actions:
        for key in ("writer", "reader", "all"):
            assert (await acted(api, path, 403, key=key, **body))["code"] == "forbidden"
        assert (await api.post(path, key=None, json=body)).status_code == 401
    assert (await api.get("/v1/payments", key="refunds")).status_code == 403
    assert await api.stored(session["id"]) == before


async def test_the_counts_tell_what_has_no_session(api: Api) -> None:
    await lost(api)
    assert (await api.get("/v1/stats")).json()["unmatched"] == 1
    assert "tulbur_unmatched_payments 1.0" in (await api.get("/metrics")).text
