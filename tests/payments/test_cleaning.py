"""Retention on every store: carts and people go, every key and tugrik stays, and is found a year later."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from tests.payments.world import World, request

from tulbur.core.custody import Custody
from tulbur.core.session import SECOND, ExceptionName, InvoiceState, Reason, Session, Status
from tulbur.errors import Conflict
from tulbur.payments import cleaning
from tulbur.payments.cleaning import Cleaned, Keep, clean, would_clean
from tulbur.payments.desk import Desk
from tulbur.payments.settling import Looked
from tulbur.ports import Unmatched
from tulbur.stores.memory import MemoryStore
from tulbur.stores.mongo import MongoStore
from tulbur.stores.sqlite import SqliteStore
from tulbur.worker import Cleaner

pytestmark = pytest.mark.anyio

DAY = 86_400
CANARIES = ("Canary-name", "Canary-street", "Canary-note", "Canary-text", "canary.example", "Canary-cup")


DAMAGE = text("UPDATE tulbur_sessions SET document = :document WHERE id = :id")
FORGET = text("UPDATE tulbur_sessions SET unsettled = 0 WHERE id = :id")


async def no_pause() -> None:
    await asyncio.sleep(0)


async def cleaned(w: World, keep: Keep | None = None) -> Cleaned:
    return await clean(w.payments.desk, keep or Keep(), pause=no_pause)


async def delivered(w: World) -> None:
    while await w.store.publish(200, deliver=False):
        pass


async def opened(w: World, **changes: Any) -> Session:
    (first, second) = request().items
    items = (replace(first, title="Canary-tea"), second)
    personal: dict[str, Any] = {
        "items": items,
        "shipping": {"name": "Canary-name", "street": "Canary-street"},
        "metadata": {"note": "Canary-note"},
        "description": "Canary-text",
        "return_url": "https://canary.example/back",
    }
    return await w.open(**(personal | changes))


async def paid(w: World, **changes: Any) -> tuple[Session, str]:
    session = await opened(w, **changes)
    payment_id = await w.pay(session)
    await w.payments.callback(session.id, payment_id)
    stored = await w.stored(session.id)
    assert stored.status is Status.PAID
    await delivered(w)
    return stored, payment_id


async def at_rest(w: World, session_id: str) -> Session:
    while (at := (await w.stored(session_id)).next_check_at) is not None:
        w.clock.now = max(w.clock.now, at) + 61 * SECOND
        await w.worker.once()
        await w.payments.stop()
    await delivered(w)
    return await w.stored(session_id)


async def expired(w: World, **changes: Any) -> Session:
    (first, second) = request().items
    items = (first, replace(second, title="Canary-cup"))
    session = await at_rest(w, (await opened(w, items=items, **changes)).id)
    assert session.status is Status.EXPIRED
    return session


async def test_what_is_paid_goes_after_thirty_days_and_its_orders_stay_whole(w: World) -> None:
    before, _ = await paid(w)
    w.clock.advance(30 * DAY - 60)
    assert (await cleaned(w)).paid == 0
    w.clock.advance(120)
    assert (await would_clean(w.payments.desk, Keep())).paid == 1
    assert await w.stored(before.id) == before, "a dry run changes nothing"
    report = await cleaned(w)
    assert (report.paid, report.late, report.more) == (1, 0, False)
    after = await w.stored(before.id)
    assert (after.items, after.shipping, after.metadata, after.description, after.return_url) == ((), {}, {}, "", None)
    assert after.orders == before.orders
    assert [item.title for order in after.orders for item in order.items] == ["Canary-tea", "Аяга"]
    assert await w.store.order(before.orders[0].id) == (before.id, before.orders[0])
    assert (await cleaned(w)).paid == 0, "once"


async def test_a_year_later_a_second_payment_a_refund_and_a_repeat_find_it(w: World) -> None:
    before, first = await paid(w)
    w.clock.advance(365 * DAY)
    assert (await cleaned(w)).paid == 1
    assert await w.payments.hear(before.id, first) == "repeated"
    found = await w.store.by_payment(first)
    assert found
    assert found.id == before.id
    second = await w.pay(before)
    await w.payments.callback(before.id, second)
    after = await at_rest(w, before.id)
    assert (after.sum("ordered"), after.sum("refund_due")) == (before.amount, before.amount)
    assert ExceptionName.PAID_TWICE in after.exceptions
    await w.refund(first)
    await w.payments.check(before.id, Reason.OPERATOR)
    after = await at_rest(w, before.id)
    assert (after.sum("refunded"), len(after.orders)) == (before.amount, 2)
    assert ExceptionName.REFUNDED in after.exceptions
    w.clock.advance(365 * DAY)
    assert (await cleaned(w)).paid == 0, "money is due back"


async def test_late_money_for_a_blanked_session_is_held_for_a_person(w: World) -> None:
    session = await expired(w)
    w.clock.advance(91 * DAY)
    # Paid at the last moment: QPay will not cancel, and the session is looked at instead of blanked.
    payment_id = await w.pay(session)
    report = await cleaned(w)
    assert (report.late, report.asked_again) == (0, 1)
    after = await at_rest(w, session.id)
    assert (after.status, [p.id for p in after.payments], len(after.orders)) == (Status.PAID, [payment_id], 2)


class DeliveredMeanwhile:
    """A store; once it was asked for late sessions with an open invoice, the shop hears of what it had not heard of."""

    def __init__(self, w: World) -> None:
        self._w = w

    def __getattr__(self, name: str) -> Any:
        return getattr(self._w.store, name)

    async def late_invoices(self, **asked: Any) -> list[Session]:
        found = await self._w.store.late_invoices(**asked)
        await delivered(self._w)
        return found


async def test_who_joins_the_late_ones_meanwhile_is_not_blanked_with_an_open_invoice(w: World) -> None:
    session = await opened(w)
    w.clock.advance(1801 + 61)
    await w.payments.look(await w.stored(session.id))
    stored = await w.stored(session.id)
    assert (stored.status, stored.attempts[0].state) == (Status.EXPIRED, InvoiceState.OPEN)
    w.clock.advance(91 * DAY)
    desk = replace(w.payments.desk, store=DeliveredMeanwhile(w))
    report = await clean(desk, Keep(), pause=no_pause)
    after = await w.stored(session.id)
    assert (report.late, report.cancelled) == (1, 1)
    assert (after.items, after.attempts[0].state) == ((), InvoiceState.CANCELLED)


async def test_open_invoices_are_cancelled_with_the_blanking(w: World) -> None:
    session = await expired(w)
    w.clock.advance(90 * DAY - 7200)
    assert (await cleaned(w)).late == 0
    w.clock.advance(7300)
    dry = await would_clean(w.payments.desk, Keep())
    assert (dry.late, dry.cancelled) == (1, 1)
    report = await cleaned(w)
    assert (report.late, report.cancelled, report.waits) == (1, 1, "")
    after = await w.stored(session.id)
    assert (after.items, [a.state for a in after.attempts]) == ((), [InvoiceState.CANCELLED])
    assert [invoice.cancelled for invoice in w.invoices()] == [True]


async def test_while_qpay_is_silent_late_sessions_wait_and_paid_ones_do_not(w: World) -> None:
    gone = await expired(w)
    done, _ = await paid(w)
    w.clock.advance(91 * DAY)
    await w.faults(reply={"invoice_cancel": {"status": 503}})
    report = await cleaned(w)
    assert (report.paid, report.late) == (1, 0)
    assert "cancelled at QPay" in report.waits
    assert (await w.stored(gone.id)).items
    await w.faults()
    w.clock.advance(3600)
    assert (await cleaned(w)).late == 1
    assert not (await w.stored(done.id)).items


async def test_money_and_the_old_shops_sessions_are_never_touched(w: World) -> None:
    short = await opened(w)
    await w.payments.callback(short.id, await w.pay(short, "20000"))
    short = await at_rest(w, short.id)
    assert short.sum("refund_due") == 2_000_000
    theirs = []
    for custody in (Custody.FOLLOWED, Custody.HANDED_OVER):
        session, _ = await paid(w)
        theirs.append(session.id)
        await w.payments.desk.step(session.id, lambda s, c=custody: replace(s, custody=c).with_news("x", w.clock()))
    kept = [await w.stored(id_) for id_ in (short.id, *theirs)]
    w.clock.advance(1000 * DAY)
    report = await cleaned(w)
    assert (report.paid, report.late) == (0, 0)
    assert [await w.stored(session.id) for session in kept] == kept


async def as_an_earlier_release_wrote(w: World, session_ids: list[str]) -> None:
    """Rows that say of themselves that nothing keeps them."""
    store = w.store
    for id_ in session_ids:
        if isinstance(store, MemoryStore):
            store.data.sessions[id_]["unsettled"] = 0
        elif isinstance(store, MongoStore):
            found = store._link._database()["tulbur_sessions"]  # type: ignore[attr-defined]
            await found.update_one({"_id": id_}, {"$set": {"unsettled": 0}})
        else:
            await store._write(lambda c, i=id_: c.execute(FORGET, {"id": i}) and None)  # type: ignore[attr-defined]


async def test_rows_that_are_not_to_be_blanked_hold_nobody_up(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tulbur.payments.cleaning.BATCH", 2)
    theirs = []
    for _ in range(3):
        session, _ = await paid(w)
        await w.payments.desk.step(session.id, lambda s: replace(s, custody=Custody.FOLLOWED).with_news("x", w.clock()))
        theirs.append(session.id)
    w.clock.advance(DAY)
    mine, _ = await paid(w)
    await as_an_earlier_release_wrote(w, theirs)
    w.clock.advance(60 * DAY)
    assert (await cleaned(w)).paid == 1
    assert not (await w.stored(mine.id)).items
    assert all([(await w.stored(id_)).items for id_ in theirs])
    assert (await would_clean(w.payments.desk, Keep())).paid == 0


async def test_two_cleanups_and_callbacks_at_once(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tulbur.payments.cleaning.BATCH", 2)
    sessions = [await paid(w) for _ in range(5)]
    late = await expired(w)
    w.clock.advance(200 * DAY)
    news = [(session, await w.pay(session)) for session, _ in sessions[:2]]
    one, two, *_ = await asyncio.gather(
        cleaned(w),
        cleaned(w),
        *(w.payments.callback(session.id, payment_id) for session, payment_id in news),
        *(w.payments.callback(session.id, payment_id) for session, payment_id in sessions),
    )
    for session, _ in news:
        after = await at_rest(w, session.id)
        assert (len(after.orders), after.sum("refund_due")) == (2, after.amount)
    assert one.paid + two.paid >= 3, "whom a callback reached first is not blanked"
    assert one.late + two.late == 1
    for session, _ in sessions:
        types = [event.type for event in await w.store.history(session.id, 200)]
        assert types.count("session.blanked") <= 1
        assert types.count("session.paid") == 1
    assert [event.type for event in await w.store.history(late.id, 200)].count("session.blanked") == 1


async def damage(w: World, session_id: str) -> None:
    """Write a document that this release cannot read, as a later one's or a disk's fault would be."""
    if isinstance(w.store, MemoryStore):
        w.store.data.sessions[session_id]["document"] = b"{}"
    elif isinstance(w.store, MongoStore):
        sessions = w.store._link._database()["tulbur_sessions"]  # type: ignore[attr-defined]
        await sessions.update_one({"_id": session_id}, {"$set": {"document": b"{}"}})
    else:
        spoilt = text("UPDATE tulbur_sessions SET document = :document WHERE id = :id")
        values = {"document": b"{}", "id": session_id}
        await w.store._write(lambda c: c.execute(spoilt, values))  # type: ignore[attr-defined]


async def test_sessions_that_cannot_be_read_keep_nobody_behind_them(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tulbur.payments.cleaning.BATCH", 2)
    lost = [(await paid(w))[0].id for _ in range(4)]
    gone = [(await expired(w)).id for _ in range(3)]
    behind, late = (await paid(w))[0], await expired(w)
    for session_id in (*lost, *gone):
        await damage(w, session_id)
    w.clock.advance(200 * DAY)
    report = await cleaned(w)
    assert (report.paid, report.late) == (1, 1)
    assert sorted(report.unreadable) == sorted([*lost, *gone])
    assert not (await w.stored(behind.id)).items
    assert not (await w.stored(late.id)).items
    again = await cleaned(w)
    assert (again.paid, again.late, sorted(again.unreadable)) == (0, 0, sorted([*lost, *gone]))


async def test_where_nobody_is_told_what_waits_to_be_told_keeps_nothing(w: World) -> None:
    session = await opened(w)
    await w.payments.callback(session.id, await w.pay(session))
    await w.store.publish(200)
    (first, *_) = await w.store.claim_events("w", 1, 60)
    await w.store.events_failed("w", [first.event.id], retry_at=None)
    w.clock.advance(40 * DAY)
    assert (await cleaned(w)).paid == 0, "the shop has still to be told"
    silent = Keep(telling=False)
    assert (await would_clean(w.payments.desk, silent)).paid == 1
    assert (await cleaned(w, silent)).paid == 1
    assert not (await w.stored(session.id)).items
    assert [one.event.type for one in await w.store.events(0, 1)] == ["session.opened"], "every event stays"
    assert (await w.store.claim_events("w", 1, 60))[0].no == 2, "and is told, should there be a shop again"


async def test_closed_payments_without_a_session_lose_the_raw_answer(w: World) -> None:
    facts = Unmatched(payment_id="p-1", seen_at=w.clock(), due_at=None, amount=100, status="PAID", raw="Canary-answer")
    await w.store.record_unmatched(facts)
    await w.store.record_unmatched(replace(facts, payment_id="p-2"))
    w.clock.advance(DAY)
    await w.store.close_unmatched("p-1", now=w.clock(), note={"by": "tuya", "reference": "R1"})
    w.clock.advance(30 * DAY - 60)
    assert (await cleaned(w)).answers == 0
    w.clock.advance(120)
    assert (await would_clean(w.payments.desk, Keep())).answers == 1
    assert (await cleaned(w)).answers == 1
    assert (await cleaned(w)).answers == 0
    kept = [await w.store.unmatched_payment(id_) for id_ in ("p-1", "p-2")]
    assert [one and (one.raw, one.amount) for one in kept] == [("", 100), ("Canary-answer", 100)]
    assert kept[0] is not None
    assert kept[0].note["reference"] == "R1"


async def test_who_is_past_their_time_with_nobody_looking_expires(w: World) -> None:
    session = await w.open()
    await w.payments.desk.step(session.id, lambda s: replace(s, looks=()).with_news("x", w.clock()))
    w.clock.advance(2 * DAY)
    dry = await would_clean(w.payments.desk, Keep())
    assert dry.stuck == [session.id]
    report = await cleaned(w)
    assert (report.expired, report.stuck) == (1, [])
    assert (await w.stored(session.id)).status is Status.EXPIRED


async def damaged(w: World, session_id: str) -> None:
    """A document that nobody can read: a disk's fault, or a later release's."""
    store = w.store
    if isinstance(store, MemoryStore):
        store.data.sessions[session_id]["document"] = b"{"
    elif isinstance(store, MongoStore):
        found = store._link._database()["tulbur_sessions"]  # type: ignore[attr-defined]
        await found.update_one({"_id": session_id}, {"$set": {"document": b"{"}})
    else:
        await store._write(lambda c: c.execute(DAMAGE, {"id": session_id, "document": b"{"}) and None)  # type: ignore[attr-defined]


async def test_a_session_that_nobody_can_read_keeps_nobody_elses_data(w: World) -> None:
    lost = await w.open()
    done, _ = await paid(w)
    await damaged(w, lost.id)
    w.clock.advance(40 * DAY)
    report = await cleaned(w)
    assert report.paid == 1
    assert not (await w.stored(done.id)).items
    assert "cannot be read" in report.waits, "and it is told"


async def test_a_look_that_fails_holds_no_cleaning_up(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = [await w.open() for _ in range(2)]
    for session in stuck:
        await w.payments.desk.step(session.id, lambda s: replace(s, looks=()).with_news("x", w.clock()))
    done, _ = await paid(w)
    w.clock.advance(40 * DAY)
    looked = cleaning.settle

    async def failing(desk: Desk, session_id: str, reason: Reason) -> Looked:
        if session_id == stuck[0].id:
            raise Conflict("its invoice is kept under another session")
        return await looked(desk, session_id, reason)

    monkeypatch.setattr(cleaning, "settle", failing)
    report = await cleaned(w)
    assert (report.paid, report.expired, report.stuck) == (1, 1, [stuck[0].id])
    assert not (await w.stored(done.id)).items


async def test_of_many_processes_one_cleans_within_the_hour(w: World) -> None:
    await paid(w)
    w.clock.advance(40 * DAY)
    first, second = (Cleaner(w.payments, Keep(), owner=f"w{n}") for n in range(2))
    report = await first.once()
    assert report
    assert report.paid == 1
    assert await second.once() is None
    w.clock.advance(3601)
    assert await second.once() is not None


async def rows_of(w: World) -> bytes:
    """Everything the database has, but for the rows of orders."""
    store = w.store
    if isinstance(store, MemoryStore):
        data = store.data
        return repr((data.sessions, data.payments, data.events, data.invoices, data.keys)).encode()
    if isinstance(store, MongoStore):
        database = store._link._database()  # type: ignore[attr-defined]
        names = [name for name in await database.list_collection_names() if name != "tulbur_orders"]
        found = [await database[name].find({}).to_list(None) for name in names]
        return repr(found).encode() + b"".join(
            bytes(one["document"]) for page in found for one in page if "document" in one
        )
    tables = ("sessions", "invoices", "payments", "events", "sweeps", "leases")

    def everything(connection: Any) -> bytes:
        found = [connection.exec_driver_sql(f"SELECT * FROM tulbur_{name}").all() for name in tables]
        return b"|".join(
            value if isinstance(value, bytes) else str(value).encode() for t in found for r in t for value in r
        )

    return await store._read(everything)  # type: ignore[attr-defined,no-any-return]


async def test_nobodys_data_is_left(w: World) -> None:
    done, _ = await paid(w, idempotency_key="key-1", scope="shop")
    gone = await expired(w)
    before = await rows_of(w)
    assert [canary for canary in CANARIES if canary.encode() not in before] == []
    w.clock.advance(200 * DAY)
    report = await cleaned(w)
    assert (report.paid, report.late) == (1, 1)
    after = await rows_of(w)
    assert [canary for canary in CANARIES if canary.encode() in after] == []
    assert done.id.encode() in after
    assert gone.id.encode() in after
    if isinstance(w.store, SqliteStore):
        path = w.store.path
        await w.store.stop()
        bare = b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
        assert [canary for canary in CANARIES if canary.encode() in bare] == [], "not in free pages either"
        await w.store.start()
