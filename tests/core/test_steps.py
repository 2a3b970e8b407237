from dataclasses import replace

import pytest
from tests.core.stories import NOON, Story, answer, made, opened, seen, started

from tulbur.core import settling, steps
from tulbur.core.schedule import DAY, MOST_HINTS
from tulbur.core.session import MOVES, SECOND, Event, ExceptionName, HintState, InvoiceState, Reason, Session, Status
from tulbur.core.settling import Evidence
from tulbur.core.steps import GIVE_UP_SECONDS


def states(session: Session) -> list[InvoiceState]:
    return [attempt.state for attempt in session.attempts]


# --- invoices --------------------------------------------------------------------------------------------------------


def test_a_checkout_opens_with_an_attempt_a_deadline_and_an_event() -> None:
    session = opened()
    assert states(session) == [InvoiceState.CREATING]
    assert session.next_check_at == session.expires_at
    assert [(event.type, event.data) for event in session.news] == [
        ("session.opened", {"amount": "100.00", "currency": "MNT"})
    ]
    assert session.payable is None


def test_an_invoice_that_was_made_is_shown() -> None:
    session = started().session
    assert session.payable == session.attempts[0]
    assert steps.with_invoice(session, 1, made(1), NOON) is session
    assert steps.with_invoice(session, 1, made(2), NOON) is session, "an attempt keeps its first invoice"


def test_a_lost_answer_leaves_the_attempt_unknown_until_it_wakes_up() -> None:
    story = Story()
    story.step(lambda s: steps.invoice_unknown(s, 1, NOON))
    assert (states(story.session), story.session.payable) == ([InvoiceState.UNKNOWN], None)
    assert steps.invoice_unknown(story.session, 1, NOON) is story.session
    assert story.invoiced().session.payable is not None


def test_a_refused_invoice_is_nothing_to_pay_and_stays_so() -> None:
    story = Story()
    story.step(lambda s: steps.invoice_refused(s, 1, "INVOICE_CODE_INVALID", NOON))
    assert states(story.session) == [InvoiceState.CANCELLED]
    assert steps.invoice_refused(story.session, 1, "X", NOON) is story.session
    assert story.invoiced().session.payable is None


def test_the_next_attempt_gives_up_the_one_before() -> None:
    story = Story().invoiced(2)
    assert states(story.session) == [InvoiceState.UNKNOWN, InvoiceState.OPEN]
    assert steps.superseded(story.session) == ()


def test_an_attempt_that_wakes_up_late_is_superseded() -> None:
    story = Story().invoiced(2).invoiced(1)
    assert story.session.payable.number == 2
    assert [a.number for a in steps.superseded(story.session)] == [1]
    story.step(lambda s: steps.invoice_cancelled(s, 1, NOON))
    assert steps.superseded(story.session) == ()
    assert [a.number for a in story.session.asked_about] == [1, 2], "a cancelled invoice is asked about too"


def test_an_invoice_whose_qr_nobody_saw_does_not_supersede_the_one_that_is_shown() -> None:
    story = Story().invoiced(1).invoiced(2, qr=False)
    assert story.session.payable.number == 1
    assert [a.number for a in steps.superseded(story.session)] == [2]


def test_an_invoice_known_by_its_id_alone_is_shown_once_its_qr_is_known() -> None:
    story = Story().learned(Evidence(adopted=((1, "inv1"),)))
    assert (states(story.session), story.session.payable) == ([InvoiceState.OPEN], None)
    assert steps.with_invoice(story.session, 1, made(1, qr=False), NOON) is story.session
    assert story.invoiced().session.payable.number == 1


def test_money_on_an_adopted_invoice_counts_in_the_same_look() -> None:
    story = Story().learned(answer(seen("p", 100), adopted=((1, "inv1"),)))
    assert story.session.status is Status.PAID


def test_an_expired_session_keeps_its_invoice_open_and_a_paid_one_none() -> None:
    story = started().expired()
    assert steps.superseded(story.session) == ()
    assert story.session.payable is None
    paid = Story().invoiced(1).invoiced(2).answered(seen("p", 100))
    assert [a.number for a in steps.superseded(paid.session)] == [2]


def test_a_second_invoice_that_was_paid_too_is_not_to_be_cancelled() -> None:
    story = Story().invoiced(1).invoiced(2).answered(seen("p", 100)).answered(seen("q", 100), invoice="inv2")
    assert states(story.session) == [InvoiceState.PAID, InvoiceState.PAID]
    assert steps.superseded(story.session) == ()


def test_an_invoice_of_a_cancelled_session_that_wakes_up_is_to_be_cancelled() -> None:
    story = Story().cancelled().invoiced()
    assert [a.number for a in steps.superseded(story.session)] == [1]
    assert story.session.payable is None


# --- hints -----------------------------------------------------------------------------------------------------------


def test_a_hint_is_kept_once() -> None:
    story = started().hinted("p1")
    assert steps.hinted(story.session, "p1", NOON + 1) is story.session
    assert [h.payment_id for h in story.session.hints] == ["p1"]


def test_a_callback_that_names_nothing_is_kept_until_the_session_is_paid() -> None:
    story = started().hinted("")
    assert story.session.hints[0].state is HintState.WAITING
    story.at(3).asked().answered(seen("p1", 60))
    assert story.session.hints[0].state is HintState.WAITING
    story.answered(seen("p1", 60), seen("p2", 40))
    assert story.session.hints[0].state is HintState.CONFIRMED
    assert steps.hinted(story.session, "", story.now) is story.session


@pytest.mark.parametrize(
    ("status", "known"),
    [("NEW", False), ("FAILED", False), ("PARTIAL", False), ("PAID", True), ("REFUNDED", True), ("ODD", False)],
)
def test_what_a_callback_can_tell_nothing_new_about(status: str, known: bool) -> None:
    story = started().answered(seen("p1", 60, status))
    assert steps.knows(story.session, "p1") is known
    assert (steps.hinted(story.session, "p1", NOON) is story.session) is known


@pytest.mark.parametrize("status", ["FAILED", "PARTIAL", "PAID", "REFUNDED"])
def test_a_hint_is_confirmed_by_what_qpay_shows(status: str) -> None:
    story = started().hinted("p1").answered(seen("p1", 60, status))
    assert story.session.hints[0].state is HintState.CONFIRMED
    assert [look.reason for look in story.session.looks] == [Reason.DEADLINE]


@pytest.mark.parametrize("status", ["NEW", "ODD"])
def test_a_payment_that_is_not_through_yet_keeps_its_hint_waiting(status: str) -> None:
    story = started().hinted("p1").answered(seen("p1", 60, status))
    assert story.session.hints[0].state is HintState.WAITING


@pytest.mark.parametrize("evidence", [Evidence(foreign=frozenset({"p1"})), Evidence(taken=frozenset({"p1"}))])
def test_a_hint_of_anothers_payment_is_foreign_and_no_news_when_named_again(evidence: Evidence) -> None:
    story = started().hinted("p1").learned(evidence)
    assert story.session.hints[0].state is HintState.FOREIGN
    assert steps.hinted(story.session, "p1", NOON) is story.session
    assert (ExceptionName.CONTESTED in story.session.exceptions) == bool(evidence.taken)


def test_an_unconfirmed_hint_named_again_starts_a_new_ladder() -> None:
    story = started().hinted("p1")
    for _ in range(5):
        story.now = next(look.at for look in story.session.looks if look.reason is Reason.CALLBACK)
        story.asked().answered()
    assert story.session.exceptions == {ExceptionName.UNCONFIRMED}
    story.hinted("p1")
    assert [h.state for h in story.session.hints] == [HintState.WAITING]
    story.answered(seen("p1", 100))
    assert (story.session.status, story.session.exceptions) == (Status.PAID, frozenset())


def test_a_hint_given_up_is_confirmed_by_money_that_comes_after_all() -> None:
    story = started().hinted("p1")
    for _ in range(5):
        story.now = next(look.at for look in story.session.looks if look.reason is Reason.CALLBACK)
        story.asked().answered()
    story.answered(seen("p1", 100))
    assert story.session.hints[0].state is HintState.CONFIRMED
    assert story.session.exceptions == frozenset()


def test_hints_are_bounded() -> None:
    story = started()
    for number in range(MOST_HINTS):
        assert not steps.hints_full(story.session, f"p{number}")
        story.session = steps.hinted(story.session, f"p{number}", NOON)
    assert steps.hints_full(story.session, "one more")
    assert not steps.hints_full(story.session, "p0")


# --- ends ------------------------------------------------------------------------------------------------------------


def test_a_session_expires_at_its_deadline_and_not_before() -> None:
    session = started().session
    assert steps.expired(session, session.expires_at - 1) is session
    assert steps.expired(session, session.expires_at).status is Status.EXPIRED


@pytest.mark.parametrize("end", [Story.expired, Story.cancelled])
def test_a_session_ends_once(end: object) -> None:
    story = end(started())
    ended = story.session
    assert steps.expired(ended, story.now) is ended
    assert steps.cancelled(ended, story.now) is ended
    assert ended.next_check_at is None


@pytest.mark.parametrize("end", [Story.expired, Story.cancelled])
def test_a_paid_session_neither_expires_nor_is_cancelled(end: object) -> None:
    story = started().answered(seen("p", 100))
    paid = story.session
    assert end(story).session is paid


@pytest.mark.parametrize("end", [Story.expired, Story.cancelled])
def test_a_hint_outlives_the_end_of_its_session(end: object) -> None:
    story = end(started().hinted("p1"))
    assert [look.reason for look in story.session.looks] == [Reason.CALLBACK]


def test_no_other_move_is_possible() -> None:
    for before in Status:
        for after in Status:
            session = replace(opened(), status=before)
            if (before, after) in MOVES:
                assert session.moved(after).status is after
            else:
                with pytest.raises(AssertionError):
                    session.moved(after)
    assert not [after for before, after in MOVES if before is Status.PAID]


def test_events_name_what_they_tell() -> None:
    story = started()
    after = settling.after_answer(story.session, answer(seen("p", 150)), NOON)
    told = {event.type: event for event in after.news}
    assert told["payment.seen"].data == {
        "payment_id": "p",
        "invoice_id": "inv1",
        "amount": "150.00",
        "currency": "MNT",
        "status": "PAID",
    }
    assert told["order.created"].data["total"] == "100.00"
    assert told["refund.due"].data == {"payment_id": "p", "amount": "50.00", "currency": "MNT"}
    assert told["session.paid"].data == {"order_ids": [after.orders[0].id]}
    assert all(isinstance(event, Event) and event.id.startswith("evt_") for event in after.news)


# --- silence ---------------------------------------------------------------------------------------------------------


def test_silence_costs_nothing_of_the_budget_and_frees_the_next_question() -> None:
    session = steps.asked(started().session, Reason.PAYER, NOON + SECOND)
    after = steps.unanswered(session, Reason.PAYER, NOON + 2 * SECOND)
    assert after.asks.counts == {Reason.PAYER: 0}
    assert after.asks.busy_until == 0
    assert after.asks.last_at == session.asks.last_at, "the payer's pause is kept"
    assert after.news[-1].type == "check.unanswered"


def test_silence_of_yesterday_takes_nothing_from_today() -> None:
    session = steps.asked(started().session, Reason.PAYER, NOON + SECOND)
    after = steps.unanswered(session, Reason.PAYER, NOON + DAY)
    assert after.asks.counts == session.asks.counts


@pytest.mark.parametrize("early", [0, 1])
def test_a_session_is_given_up_a_week_past_its_deadline(early: int) -> None:
    session = started().session
    after = steps.given_up(session, session.expires_at + GIVE_UP_SECONDS * SECOND - early)
    if early:
        assert after is session
        return
    assert after.status is Status.EXPIRED
    assert after.exceptions == {ExceptionName.UNCONFIRMED}
    assert after.next_check_at is None


def test_a_hint_is_given_up_a_week_after_it_came_and_its_ladder_ends() -> None:
    session = steps.hinted(steps.cancelled(started().session, NOON), "pay-1", NOON)
    assert steps.given_up(session, NOON + GIVE_UP_SECONDS * SECOND - 1) is session
    after = steps.given_up(session, NOON + GIVE_UP_SECONDS * SECOND)
    assert after.exceptions == {ExceptionName.UNCONFIRMED}
    assert after.status is Status.CANCELLED
    assert after.next_check_at is None


def test_after_a_restore_no_event_has_the_id_of_another_one() -> None:
    """The shop takes an id for known that it has seen; a database put back tells another story from there on."""
    restored = started().session
    lost = Story(restored)
    lost.hinted("p1").asked(new_hint=True).answered(seen("p1", 60), complete=True)
    told = {event.id: (event.type, event.data) for event in lost.heard}
    again = Story(restored)
    again.answered(seen("p1", 100), complete=True)
    assert [event.type for event in again.heard][:2] == ["payment.seen", "order.created"]
    for event in again.heard:
        assert told.get(event.id, (event.type, event.data)) == (event.type, event.data)
    same = Story(restored)
    same.at(5).hinted("p1").asked(new_hint=True).answered(seen("p1", 60), complete=True)
    assert [event.id for event in same.heard] == list(told), "and the same story has the same ids"
