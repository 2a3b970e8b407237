"""Every statement that runs often is answered by an index: as MongoDB's profiler saw it run, on 200,000 sessions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from pymongo import MongoClient, UpdateOne
from tests.stores.mongo_world import raw, started

from testbed.plugin import TestServers
from tulbur.core import codec
from tulbur.core.session import SECOND, ExceptionName, Status
from tulbur.errors import SessionExists
from tulbur.ports import Disposition, PaymentQuery, SessionQuery, Store, StoredToken, Unmatched
from tulbur.stores import mongo_migrate
from tulbur.stores.contracts.samples import LONG, NOW, answered, called_back, session, with_qr
from tulbur.stores.mongo_link import database_name
from tulbur.stores.mongo_schema import EVENTS, INVOICES, ORDERS, PAYMENTS, SESSIONS, SWEEPS
from tulbur.stores.rows import Change, EventState, session_row

pytestmark = [pytest.mark.anyio, pytest.mark.store("mongodb")]

MANY = 200_000
PAGE = 50
LATER = NOW + 10**12


def _text(prefix: str) -> dict[str, Any]:
    return {"$concat": [prefix, {"$toString": "$n"}]}


def _every(n: int, value: Any, otherwise: Any) -> dict[str, Any]:
    return {"$cond": [{"$eq": [{"$mod": ["$n", n]}, 0]}, value, otherwise]}


def _sessions() -> dict[str, Any]:
    new = session("s-0", scope="a", idempotency_key="k")
    row: dict[str, Any] = session_row(Change(None, new, "c-0"))
    row.pop("id")
    at = {"$add": [NOW, {"$toLong": "$n"}]}
    statuses = [status.value for status in Status]
    return {name: {"$literal": value} for name, value in row.items()} | {
        "_id": _text("s-"),
        "version": {"$toLong": 1},
        "status": {"$arrayElemAt": [statuses, {"$mod": ["$n", 4]}]},
        "exceptions": _every(200, ["late"], []),
        "user_id": {"$concat": ["u-", {"$toString": {"$mod": ["$n", 5000]}}]},
        "idempotency_key": _text("k-"),
        "unsettled": {"$toLong": 0},
        "created_at": at,
        "updated_at": at,
        "next_check_at": _every(4, at, None),
        "lease_until": {"$toLong": 0},
        "document": {"$literal": codec.encode(new)},
    }


def _events() -> dict[str, Any]:
    waiting, ended = int(EventState.UNNUMBERED), int(EventState.DELIVERED)
    return {
        "_id": _text("evt-"),
        "session_id": _text("s-"),
        "seq": {"$toLong": 1},
        "type": "session.opened",
        "at": {"$add": [NOW, {"$toLong": "$n"}]},
        "state": {"$toLong": _every(100, waiting, _every(7, int(EventState.PARKED), ended))},
        "no": _every(100, None, {"$toLong": {"$add": ["$n", 1]}}),
        "lease_owner": None,
        "lease_until": {"$toLong": 0},
        "commit_id": _text("c-"),
        "data": "{}",
    }


def _filled(url: str) -> None:
    """Let the server make all of it by itself, then the indexes at once."""
    lone = _every(20, None, _text("s-"))
    at = {"$add": [NOW, {"$toLong": "$n"}]}
    made = {
        SESSIONS: _sessions(),
        EVENTS: _events(),
        INVOICES: {
            "_id": {"session_id": _text("s-"), "number": {"$toLong": 1}},
            "session_id": _text("s-"),
            "number": {"$toLong": 1},
            "provider": "qpay",
            "invoice_id": _every(10, None, _text("inv-")),
            "sender_invoice_no": _text("TB-"),
        },
        PAYMENTS: {
            "_id": {"provider": "qpay", "payment_id": _text("pay-")},
            "provider": "qpay",
            "payment_id": _text("pay-"),
            "session_id": lone,
            "hinted_session_id": "",
            "invoice_id": _text("inv-"),
            "amount": {"$toLong": 5},
            "currency": "MNT",
            "status": "PAID",
            "seen_at": {"$add": [NOW, {"$toLong": "$n"}]},
            "method": "",
            "wallet": "",
            "paid_at": None,
            "due_at": _every(40, None, _every(20, at, None)),
            "closed_at": _every(40, at, None),
            "refund_due": {"$toLong": _every(5, 5, 0)},
            "held": {"$toLong": _every(7, 5, 0)},
            **{name: {"$toLong": 0} for name in ("ordered", "refunded", "tries")},
            "raw": "",
        },
        ORDERS: {
            "_id": _text("ord-"),
            "session_id": _text("s-"),
            "shop_id": "tea",
            **{name: {"$toLong": 1} for name in ("total", "discount", "shipping_amount", "created_at")},
            "currency": "MNT",
            "items": {"$literal": b"[]"},
        },
        SWEEPS: {
            "_id": _text("sweep-"),
            **dict.fromkeys(("started_at", "ended_at", "window_start", "window_end"), at),
            "reason": "daily",
            "complete": {"$toLong": _every(2, 0, 1)},
            "report": "{}",
        },
    }
    client: MongoClient[Any]
    with MongoClient(url) as client:
        database = client.get_database(database_name(url))
        numbers = [{"$documents": [{}]}, {"$project": {"n": {"$range": [0, MANY]}}}, {"$unwind": "$n"}]
        for name, fields in made.items():
            database.aggregate([*numbers, {"$replaceWith": fields}, {"$out": name}])
        mongo_migrate.up(url)
        # The oldest ones are read and written whole, so each needs a document of its own.
        own = [
            UpdateOne({"_id": f"s-{n}"}, {"$set": {"document": codec.encode(session(f"s-{n}"))}}) for n in range(400)
        ]
        database[SESSIONS].bulk_write(own)
        assert database[SESSIONS].estimated_document_count() == MANY
        database.command("profile", 2)


@pytest.fixture
def url(servers: TestServers) -> Iterator[str]:
    made = servers.url("mongodb")
    _filled(made)
    yield made
    servers.drop("mongodb", made)


async def _taken_key(store: Store) -> None:
    with pytest.raises(SessionExists):
        await store.add(session("x", scope="a", idempotency_key="k-9"))


async def _lost(store: Store) -> None:
    old = session("s-1").committed()
    await store.commit(called_back(old).committed(), called_back(called_back(old).committed(), "pay-more"))


async def _opened_and_paid(store: Store) -> None:
    new = session("new", scope="a", idempotency_key="new")
    await store.add(new)
    before = new.committed()
    after = with_qr(before)
    await store.commit(before, after)
    before = after.committed()
    await store.commit(before, answered(before, "pay-new", "pay-1000"))


async def _published(store: Store) -> None:
    assert await store.publish(PAGE) == PAGE
    claimed = await store.claim_events("w", PAGE, LONG)
    assert len(claimed) == PAGE
    await store.events_done("w", [one.event.id for one in claimed])


def _find(**query: Any) -> Callable[[Store], Awaitable[object]]:
    return lambda store: store.find(SessionQuery(limit=PAGE, **query))


def _listed(disposition: Disposition, cursor: tuple[int, str] | None = None) -> Callable[[Store], Awaitable[object]]:
    return lambda store: store.payments(PaymentQuery(disposition=disposition, cursor=cursor, limit=PAGE))


LONE = Unmatched(payment_id="pay-20", seen_at=NOW, due_at=NOW + 20)
CURSOR = (NOW + MANY // 2, f"s-{MANY // 2}")

# What is run, and how many keys and documents each of its statements may look at.
WORK: dict[str, tuple[Callable[[Store], Awaitable[object]], int]] = {
    "get": (lambda s: s.get("s-77"), 2),
    "by_invoice": (lambda s: s.by_invoice("inv-77"), 2),
    "by_sender": (lambda s: s.by_sender("TB-s-77"), 2),
    "by_payment": (lambda s: s.by_payment("pay-77"), 2),
    "order": (lambda s: s.order("ord-77"), 2),
    "owner of an invoice number": (lambda s: s.owner_of("TB-s-77"), 2),
    "owner of nothing": (lambda s: s.owner_of("evt-x"), 2),
    "history": (lambda s: s.history("s-77", 200), 4),
    "deliveries": (lambda s: s.deliveries("s-77", 200), 4),
    "unmatched": (lambda s: s.unmatched(PAGE), 2 * PAGE),
    "unmatched_payment": (lambda s: s.unmatched_payment("pay-20"), 2),
    "unmatched_due": (lambda s: s.unmatched_due(LATER, PAGE), 2 * PAGE),
    "unmatched_looked": (lambda s: s.unmatched_looked(replace(LONE, due_at=LATER), LONE.due_at), 2),
    "close_unmatched": (lambda s: s.close_unmatched("pay-60", now=LATER, note={}), 2),
    "payments unmatched": (_listed(Disposition.UNMATCHED), 2 * PAGE),
    "payments unmatched, next page": (_listed(Disposition.UNMATCHED, CURSOR), 2 * PAGE),
    "payments held, next page": (_listed(Disposition.HELD, CURSOR), 2 * PAGE),
    "payments due back, next page": (_listed(Disposition.REFUND_DUE, CURSOR), 2 * PAGE),
    "events_failed": (lambda s: s.events_failed("w", ["evt-100", "evt-1"], retry_at=None), 4),
    "parked": (lambda s: s.parked(1000, PAGE), 2 * PAGE),
    "replay": (lambda s: s.replay_events(0, since=LATER, before=LATER + 1, limit=PAGE), 2 * PAGE),
    "replay the first": (lambda s: s.replay_events(0, since=NOW, before=LATER, limit=PAGE), 2 * PAGE),
    "replay what is parked": (
        lambda s: s.replay_events(0, since=NOW, before=LATER, limit=PAGE, parked_only=True),
        2 * PAGE,
    ),
    "sweeps": (lambda s: s.sweeps(PAGE, (NOW + MANY // 2, f"sweep-{MANY // 2}")), 2 * PAGE),
    "swept_until": (lambda s: s.swept_until(), 2),
    "blankable": (lambda s: s.blankable(finished_before=NOW + 400, late_before=NOW + 300, limit=PAGE), 4 * PAGE),
    "late_invoices": (lambda s: s.late_invoices(late_before=NOW + 300, limit=PAGE), 4 * PAGE),
    "find": (_find(), 2 * PAGE),
    "find the next page": (_find(cursor=CURSOR), 2 * PAGE),
    "find by status": (_find(status=Status.PAID, created_after=NOW), 2 * PAGE),
    "find by status, next page": (_find(status=Status.PAID, cursor=CURSOR), 2 * PAGE),
    "find by user": (_find(user_id="u-7", cursor=CURSOR), 2 * PAGE),
    "find by exception": (_find(exception=ExceptionName.LATE), 2 * PAGE),
    "find by an exception nobody has": (_find(exception=ExceptionName.OVERPAID), 2),
    "claim_due": (lambda s: s.claim_due(LATER, "w", PAGE, LONG), 2 * PAGE),
    "publish, claim, done": (_published, 4 * PAGE),
    "events": (lambda s: s.events(1000, PAGE), 2 * PAGE),
    "blank": (
        lambda s: s.blank(finished_before=NOW + 400, late_before=NOW + 300, now=LATER, limit=PAGE),
        4 * PAGE,
    ),
    "a key that is taken": (_taken_key, 4),
    "a race that is lost": (_lost, 8),
    "a session that is opened and paid": (_opened_and_paid, 12),
    "record_unmatched": (
        lambda s: s.record_unmatched(Unmatched(payment_id="pay-2000", seen_at=NOW, due_at=NOW)),
        4,
    ),
    "lease": (lambda s: s.lease("token", "a", 1), 2),
    "token": (lambda s: s.token_put("SHOP", StoredToken("a", "r", NOW)), 2),
    "tally": (lambda s: s.tally(NOW, {"cache": 1, "database": 2}), 6),
}


async def ran(url: str, work: Callable[[Store], Awaitable[object]]) -> list[dict[str, Any]]:
    """What the profiler noted of each statement on our collections."""
    async with started(url, seconds=30) as store, raw(url) as database:
        await database.command("profile", 0)
        await database.drop_collection("system.profile")
        await database.command("profile", 2)
        await work(store)
        await database.command("profile", 0)
        return [one async for one in database["system.profile"].find({"ns": {"$regex": r"\.tulbur_"}})]


def told(one: dict[str, Any]) -> str:
    names = ("ns", "op", "planSummary", "keysExamined", "docsExamined", "hasSortStage", "command")
    return str({name: one.get(name) for name in names})


def faults(noted: list[dict[str, Any]], most: int) -> list[str]:
    """The statements that looked at more than they may, or put their page in order by themselves."""
    looked = [max(one.get("keysExamined", 0), one.get("docsExamined", 0)) for one in noted]
    return [
        told(one)
        for one, many in zip(noted, looked, strict=True)
        if many > most or one.get("hasSortStage") or "COLLSCAN" in one.get("planSummary", "")
    ]


def faults_in_counting(noted: list[dict[str, Any]]) -> list[str]:
    """The counts that read whole collections, or more sessions than the few with exceptions."""
    return [
        told(one)
        for one in noted
        if "COLLSCAN" in one.get("planSummary", "")
        or (one["ns"].endswith(SESSIONS) and one.get("docsExamined", 0) > MANY // 100)
    ]


# One test, because what it needs takes long to make, and tests of one file may run in several processes.
async def test_indexes_answer_everything_that_runs_often(url: str) -> None:
    found: dict[str, list[str]] = {}
    for name, (work, most) in WORK.items():
        noted = await ran(url, work)
        assert noted, f"{name}: the profiler saw nothing"
        found[name] = faults(noted, most)
    counted = await ran(url, lambda store: store.stats(NOW + SECOND))
    assert len(counted) > 8
    found["stats"] = faults_in_counting(counted)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
