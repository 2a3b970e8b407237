"""What `tulbur why` tells of each story: the verdict first, what to do, then what happened and because of whom."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.core.test_moving import ORDERED, old
from tests.payments.test_cleaning import CANARIES, DAY, at_rest, cleaned, opened
from tests.payments.world import World, request

import tulbur.core
from proving.world import START
from tulbur.commands.events import print_page
from tulbur.commands.showing import print_sessions
from tulbur.commands.why import lines
from tulbur.core.moving import OldStatus, imported, taken_over
from tulbur.core.session import SECOND, Reason, Session
from tulbur.core.telling import _LINES, local
from tulbur.errors import NotFound
from tulbur.payments.explaining import Story, explain
from tulbur.payments.refunding import assign, close, refund, review
from tulbur.ports import InvoiceRequest
from tulbur.web.why import story_shape

pytestmark = pytest.mark.anyio
one_store = pytest.mark.parametrize("w", [pytest.param("memory", marks=pytest.mark.store("memory"))], indirect=True)


async def why(w: World, id_: str) -> list[str]:
    story = await explain(w.payments.desk, id_)
    text = lines(story)
    told = story_shape(story).model_dump_json()
    assert not [canary for canary in (*CANARIES, "Canary-tea", "Canary-operator") if canary in told + "\n".join(text)]
    assert json.loads(told)["verdict"] == text[0]
    return text


def history(text: list[str]) -> list[tuple[str, str]]:
    """Source and sentence of each line of the history."""
    found = [re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  (.{14}) (.*)", line) for line in text]
    return [(match[1].strip(), match[2]) for match in found if match]


async def paid(w: World) -> tuple[Session, str]:
    session = await opened(w)
    payment_id = await w.pay(session)
    await w.payments.callback(session.id, payment_id)
    return await at_rest(w, session.id), payment_id


def test_a_person_reads_the_time_of_ulaanbaatar() -> None:
    assert local(START) == "2026-09-21 22:13:20"


def test_every_event_has_a_sentence() -> None:
    folder = Path(str(tulbur.core.__file__)).parent
    source = "".join(path.read_text() for path in folder.glob("*.py"))
    made = set(re.findall(r'with_news\(\s*"([a-z_.]+)"', source))
    assert made
    assert made == set(_LINES)


@one_store
async def test_paid_in_time(w: World) -> None:
    session, payment_id = await paid(w)
    text = await why(w, session.id)
    assert text[0] == f"PAID at {local(session.paid_at or 0)}, 2 orders"
    assert not [line for line in text if line.startswith("  do:")]
    invoice_id = session.attempts[0].id
    assert history(text) == [
        ("shop", "opened over 50000.00 MNT"),
        ("QPay", f"QPay made invoice {invoice_id} (attempt 1)"),
        ("callback", f"a callback names payment {payment_id}; its word decides nothing"),
        ("callback", "QPay is asked, because of a callback"),
        ("QPay", f"QPay shows payment {payment_id}: 50000.00 MNT PAID"),
        ("tulbur", f"order {session.orders[0].id} for shop s1: 30000.00"),
        ("tulbur", f"order {session.orders[1].id} for shop s2: 20000.00"),
        ("tulbur", "PAID, with 2 orders in the same commit"),
    ]
    assert f"payment        {payment_id}  50000.00 MNT PAID: 50000.00 ordered" in text


@one_store
async def test_a_late_callback(w: World) -> None:
    session = await at_rest(w, (await opened(w)).id)
    assert (await why(w, session.id))[0] == f"EXPIRED: the payer had until {local(session.expires_at)}; nothing came"
    payment_id = await w.pay(session)
    await w.payments.callback(session.id, payment_id)
    text = await why(w, session.id)
    assert text[0].startswith("PAID at ")
    assert text[0].endswith(" (late), 2 orders")
    assert ("deadline", "EXPIRED: the deadline passed, and QPay shows no full payment") in history(text)
    assert ("tulbur", "named late") in history(text)


@one_store
async def test_a_lost_callback_found_by_the_worker(w: World) -> None:
    session = await opened(w)
    payment_id = await w.pay(session)
    text = history(await why(w, (await at_rest(w, session.id)).id))
    assert [source for source, _ in text[2:4]] == ["deadline", "QPay"]
    assert text[2][1] == "QPay is asked, once before it ends"
    assert payment_id in text[3][1]


@one_store
async def test_qpay_was_silent(w: World) -> None:
    session = await opened(w)
    await w.faults(reply={"payment_check": {"status": 503}, "payment_get": {"status": 503}})
    await w.payments.callback(session.id, "p-1")
    text = await why(w, session.id)
    assert text[0] == f"PENDING: the payer has until {local(session.expires_at)}; nothing came"
    assert ("QPay", "QPay does not answer; it will be asked again") in history(text)
    assert any(line.startswith("named          p-1") and line.endswith("waiting") for line in text)
    assert any(line.startswith("next look      ") and line.endswith("because of callback") for line in text)


@one_store
async def test_paid_twice(w: World) -> None:
    session, _ = await paid(w)
    second = await w.pay(session)
    await w.payments.callback(session.id, second)
    text = await why(w, session.id)
    assert text[0].endswith("2 orders; 50000.00 MNT due back")
    assert text[1] == f"  do: tulbur sessions refund {session.id} {second}"
    assert "exception      paid_twice: one payment covers the amount and there is another, which is due back" in text


@one_store
async def test_short(w: World) -> None:
    session = await opened(w)
    await w.payments.callback(session.id, await w.pay(session, "20000"))
    assert "underpaid: 20000.00 MNT of 50000.00 came; 20000.00 MNT held" in (await why(w, session.id))[0]
    await at_rest(w, session.id)
    text = await why(w, session.id)
    assert text[0].startswith("waits for a person: EXPIRED: the payer had until ")
    assert text[0].endswith("underpaid: 20000.00 MNT of 50000.00 came; 20000.00 MNT due back")
    assert text[1:3] == [
        f"  do: tulbur sessions review {session.id} accept  (make the orders all the same)",
        f"  do: tulbur sessions review {session.id} refund  (the money goes back)",
    ]
    await review(w.payments.desk, session.id, "accept", note="Canary-operator", by="Сараа")
    text = await why(w, session.id)
    assert ("Сараа", "decided: accept, 30000.00 short") in history(text)
    assert not [line for line in text if line.startswith("  do:")]


@one_store
async def test_unmatched_then_given_to_a_session(w: World) -> None:
    session = await w.open()
    strange = await w.qpay.create_invoice(
        InvoiceRequest(
            sender_invoice_no="STRANGE1",
            receiver_code="terminal",
            description="of nobody here",
            amount=session.amount,
            callback_url="http://127.0.0.1:9/x",
        )
    )
    payment_id = await w.pay_invoice(strange.id)
    await w.payments.keep_unmatched("gone", payment_id)
    text = await why(w, payment_id)
    assert text[0].startswith("waits for a person: a payment without a session, only its id is known; QPay is asked")
    assert text[1] == f"  do: tulbur payments assign {payment_id} SESSION"
    assert "named for      session gone, which is not stored here" in text
    await assign(w.payments.desk, payment_id, session.id, by="Сараа")
    text = await why(w, payment_id)
    assert text[0].startswith("PAID at ")
    assert ("Сараа", f"payment {payment_id} was given to this session") in history(text)
    await w.payments.keep_unmatched("gone", "p-9")
    await close(w.payments.desk, "p-9", reference="R-1", by="Сараа")
    assert (await why(w, "p-9"))[0].startswith("a payment without a session, closed by a person at ")


@one_store
async def test_imported_and_taken_over(w: World) -> None:
    theirs = imported(old(OldStatus.PROCESSED, orders=ORDERED), w.clock())
    await w.store.add(theirs)
    text = await why(w, theirs.id)
    assert text[0].startswith("still the old shop's: imported, not taken over")
    assert text[1] == "  do: tulbur import --take-over, once the old shop is stopped"
    await w.payments.desk.step(theirs.id, lambda s: taken_over(s, w.clock(), look_at=w.clock() + DAY * SECOND))
    text = await why(w, theirs.id)
    assert text[0].startswith("PAID at ")
    assert ("import", "the old shop says PROCESSED") in history(text)
    assert ("import", "taken over: it is ours from here on") in history(text)
    (line,) = [line for line in text if line.startswith("old shop")]
    assert "said PROCESSED, read from its database; its orders: " in line
    assert all(order in line for order in ORDERED.values())


@one_store
async def test_refunded_by_hand(w: World) -> None:
    session, payment_id = await paid(w)
    await refund(w.payments.desk, session.id, payment_id, note="Canary-operator", by="Сараа")
    text = await why(w, session.id)
    assert text[1].startswith(f"  do: tulbur sessions refund {session.id} {payment_id} --reference R")
    await refund(w.payments.desk, session.id, payment_id, reference="BANK-7", by="Сараа")
    text = await why(w, session.id)
    assert text[0].endswith("2 orders; 50000.00 MNT given back")
    assert text[1] == ""
    assert ("Сараа", f"refund of 50000.00 for payment {payment_id} requested as a person's task") in history(text)
    assert ("Сараа", f"50000.00 of payment {payment_id} was given back, reference BANK-7") in history(text)


@one_store
async def test_blanked_and_paid_a_year_later(w: World) -> None:
    session = await at_rest(w, (await opened(w)).id)
    w.clock.advance(91 * DAY)
    # Its invoice stays payable, as when QPay refuses to cancel it.
    await w.faults(reply={"invoice_cancel": {"status": 400, "body": {"error": "X", "message": "no"}}})
    assert (await cleaned(w)).left_open == 1
    text = await why(w, session.id)
    assert text[0].endswith(f"nothing came; its cart was blanked at {local(w.clock())}")
    assert history(text)[-1] == ("cleanup", "cart and personal data taken out; every key and amount stays")
    await w.payments.callback(session.id, await w.pay(session))
    text = await why(w, session.id)
    assert text[0].startswith("waits for a person: EXPIRED")
    assert text[1] == f"  do: tulbur sessions review {session.id} refund  (the money goes back)"
    assert text[2] == "", "there is no cart to make orders of"


@one_store
async def test_a_long_history_says_that_it_is_cut(w: World) -> None:
    session = await w.open()
    for n in range(220):
        await w.payments.desk.step(session.id, lambda s, n=n: s.with_news("later.thing", w.clock(), n=n))
    text = await why(w, session.id)
    assert text[-1] == "… and more: only the first 200 are told"
    assert history(text)[-1] == ("tulbur", "later.thing")


@one_store
async def test_an_event_the_shop_was_not_told_is_shown(w: World) -> None:
    session = await w.open()
    await w.store.publish(200)
    (first, *_) = await w.store.claim_events("w", 200, 60)
    await w.store.events_failed("w", [first.event.id], retry_at=None)
    text = await why(w, session.id)
    assert f"parked event   {first.no} session.opened: the shop was not told, 1 failed attempt" in text


@one_store
async def test_how_far_the_shop_was_told(w: World) -> None:
    session = await w.open()
    await w.store.publish(200)
    w.clock.advance(10)
    (first,) = await w.store.claim_events("w", 200, 60)
    await w.store.events_failed("w", [first.event.id], retry_at=w.clock() + 300 * SECOND)
    text = await why(w, session.id)
    again = f"since {local(START)}, 1 failed attempt, next not before {local(START + 310 * SECOND)}"
    assert f"waiting event  1 session.opened: {again}" in text
    assert f"waiting event  2 session.invoiced: since {local(START)}, 0 failed attempts" in text
    w.clock.advance(300)
    await w.store.claim_events("w", 200, 60)
    await w.store.events_done("w", [first.event.id])
    text = await why(w, session.id)
    assert f"told           1 session.opened at {local(START + 310 * SECOND)}, after 1 failed attempt" in text


@one_store
async def test_who_wanted_to_know_and_who_gave_it_up(w: World) -> None:
    session = await opened(w)
    await w.payments.check(session.id, Reason.OPERATOR, by="Сараа")
    await w.payments.cancel(session.id, by="the payer")
    text = history(await why(w, session.id))
    assert ("Сараа", "QPay is asked, because somebody wants to know") in text
    assert ("the payer", "CANCELLED: given up") in text


@one_store
async def test_who_wanted_to_know_what_became_of_a_refund(w: World) -> None:
    session = await opened(w)
    await w.payments.callback(session.id, await w.pay(session, method="CARD"))
    session = await at_rest(w, session.id)
    await refund(w.payments.desk, session.id, session.payments[0].id, by="Сараа")
    assert ("Сараа", "QPay is asked, because somebody wants to know") in history(await why(w, session.id))


async def test_every_id_leads_to_its_story(w: World) -> None:
    session, payment_id = await paid(w)
    events = await w.store.history(session.id, 200)
    ids = {
        session.id: "session",
        payment_id: "payment",
        str(session.attempts[0].id): "invoice",
        session.attempts[0].sender_invoice_no: "invoice number",
        session.orders[1].id: "order",
        events[-1].id: "event",
    }
    for id_, kind in ids.items():
        story = await explain(w.payments.desk, id_)
        assert (story.kind, story.session, len(story.history)) == (kind, session, len(events))
    with pytest.raises(NotFound, match="nothing stored here"):
        await explain(w.payments.desk, "no-such-id")
    await w.payments.check(session.id, Reason.OPERATOR)


@one_store
async def test_what_somebody_else_chose_tells_no_story_of_its_own(w: World) -> None:
    """The old shop let a browser name its session, and a cart its shops: neither writes a line, or a command."""
    id_, shop_id = "$(date)\n  do: tulbur", "s1\x1b[2J\n2026-09-21 22:13:20  Bold           decided: accept"
    (first, second) = request().items
    short = await w.open()
    await w.payments.callback(short.id, await w.pay(short, "20000"))
    story = Story(id=id_, kind="session", session=replace(await at_rest(w, short.id), id=id_))
    assert [line for line in lines(story) if line.startswith("  do: ")] == [
        "  do: tulbur sessions review '$(date)�  do: tulbur' accept  (make the orders all the same)",
        "  do: tulbur sessions review '$(date)�  do: tulbur' refund  (the money goes back)",
    ]
    session = await w.open(items=(replace(first, shop_id=shop_id), second))
    await w.payments.callback(session.id, await w.pay(session))
    text = await why(w, session.id)
    assert all(line.isprintable() for line in text)
    assert not [told for source, told in history(text) if source == "Bold"]


def test_a_list_shows_whatever_stands_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"id": "[/x]", "status": "PAID", "exceptions": [], "amount": "1.00", "user_id": "a\x1b[2Jb", "created_at": ""}
    print_sessions({"items": [row], "next_cursor": None})
    event = {"no": 1, "at": "", "type": "session.paid", "session_id": "[/x]", "id": "evt_1", "attempts": 0}
    print_page({"items": [event], "next_cursor": None})
    told = capsys.readouterr().out
    assert told.count("[/x]") == 2
    assert "a�[2Jb" in told
