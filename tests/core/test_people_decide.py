"""Money that a person decides about: late money held, short money accepted, money given back by QPay or by hand."""

from dataclasses import replace
from typing import Any

import pytest
from tests.core.stories import Story, answer, dated, seen, started

from proving.laws import check_session, public_news
from tulbur.core import refunding, reviewing, settling, steps
from tulbur.core.refund import RefundState, RefundWay
from tulbur.core.retention import blanked
from tulbur.core.rules import Rules
from tulbur.core.session import ExceptionName, Look, Payment, Reason, Session, Status
from tulbur.core.settling import Evidence, SeenPayment
from tulbur.errors import Conflict, IdempotencyMismatch, Invalid, NotFound

REVIEW = Rules(review_late=True)
LATE = 3600


def card(id_: str, amount: float, status: str = "PAID", **more: Any) -> SeenPayment:
    return replace(seen(id_, amount, status), method="CARD", **more)


def requested(story: Story, id_: str = "p", amount: int | None = None, by: str = "bold") -> Story:
    story.step(lambda s: refunding.refund_requested(s, id_, amount, by=by, note="", now=story.now))
    return story


def closed(story: Story, id_: str = "p", amount: int | None = None, by: str = "bold", ref: str = "R1") -> Story:
    story.step(lambda s: refunding.refund_closed(s, id_, amount, by=by, reference=ref, note="", now=story.now))
    return story


def looked(story: Story, *payments: SeenPayment) -> Story:
    """The worker's look, answered in full."""
    story.now = max(story.now, story.session.next_check_at or 0)
    story.asked(Reason.OPERATOR)
    return story.answered(*payments)


def accepted(story: Story) -> Story:
    story.step(lambda s: reviewing.accepted(s, by="bold", note="regular", now=story.now))
    return story


def declined(story: Story) -> Story:
    story.step(lambda s: reviewing.declined(s, by="bold", note="", now=story.now))
    return story


def under_review(story: Story, *payments: SeenPayment) -> Story:
    story.step(lambda s: settling.after_answer(s, answer(*payments), story.now, REVIEW))
    return story


def money(session: Session, id_: str = "p") -> dict[str, float]:
    p = session.payment(id_)
    assert p is not None
    parts = {part: getattr(p, part) / 100 for part in ("ordered", "refund_due", "refunded", "held")}
    return {part: amount for part, amount in parts.items() if amount}


# --- late money that is held


def test_late_money_is_held_and_named_until_it_is_accepted() -> None:
    story = under_review(started().expired().at(LATE), seen("p", 100))
    assert (story.session.status, money(story.session)) == (Status.EXPIRED, {"held": 100})
    assert story.session.exceptions == {ExceptionName.LATE}
    accepted(story)
    assert (story.session.status, money(story.session)) == (Status.PAID, {"ordered": 100})
    assert "order.created" in story.events


def test_money_after_cancelling_is_held_and_may_be_given_back() -> None:
    story = under_review(started().cancelled(), seen("p", 100))
    assert story.session.exceptions == {ExceptionName.AFTER_CANCEL}
    declined(story)
    assert (story.session.status, money(story.session)) == (Status.CANCELLED, {"refund_due": 100})
    assert story.events[-1] == "refund.due"
    story.answered(seen("p", 100))
    assert story.session.status is Status.CANCELLED, "what was declined makes no orders, whatever the rules are now"


def test_what_was_declined_and_is_given_back_in_part_pays_for_nothing_with_the_rest() -> None:
    story = under_review(started().expired().at(LATE), seen("p", 100))
    closed(declined(story), amount=40_00)
    assert money(story.session) == {"refund_due": 60, "refunded": 40}
    under_review(story, seen("p", 100), seen("q", 40))
    assert (story.session.status, money(story.session, "q")) == (Status.EXPIRED, {"held": 40})
    story.answered(seen("p", 100), seen("q", 40))
    assert story.session.status is Status.EXPIRED
    closed(story, ref="R2")
    assert money(story.session) == {"refunded": 100}


def test_what_was_asked_back_and_is_paid_back_in_part_is_still_to_go_back() -> None:
    story = started().cancelled().answered(seen("p", 60))
    closed(requested(story), amount=20_00)
    story.answered(seen("p", 60), seen("q", 60))
    assert (story.session.status, money(story.session)) == (Status.CANCELLED, {"refund_due": 40, "refunded": 20})
    assert closed(story, by="tuya", ref="R2").session.payments[0].refunded == 60_00


def test_money_in_time_that_was_seen_late_is_not_late() -> None:
    story = under_review(started().expired().at(LATE), seen("p", 100, paid_at=dated(5)))
    assert story.session.status is Status.PAID


def test_late_money_before_the_look_at_the_deadline_waits_through_it() -> None:
    story = under_review(started().at(LATE), seen("p", 100))
    assert (story.session.status, money(story.session)) == (Status.PENDING, {"held": 100})
    story.step(lambda s: steps.expired(s, story.now, REVIEW))
    assert (story.session.status, money(story.session)) == (Status.EXPIRED, {"held": 100})
    check_session(story.session)


def test_half_in_time_and_half_late_are_accepted_together() -> None:
    story = started().answered(seen("p", 40, paid_at=dated(5)))
    story.step(lambda s: steps.expired(s, s.expires_at, REVIEW))
    assert money(story.session) == {"refund_due": 40}
    under_review(story.at(LATE), seen("p", 40, paid_at=dated(5)), seen("q", 60))
    assert (story.session.status, money(story.session, "q")) == (Status.EXPIRED, {"held": 60})
    accepted(story)
    assert (money(story.session), money(story.session, "q")) == ({"ordered": 40}, {"ordered": 60})


def test_money_for_a_cart_that_is_gone_waits_for_a_person() -> None:
    story = started().expired()
    story.step(lambda s: blanked(s, story.now))
    story.at(LATE).answered(seen("p", 100))
    assert (story.session.status, money(story.session)) == (Status.EXPIRED, {"held": 100})
    assert ExceptionName.LATE in story.session.exceptions
    with pytest.raises(Conflict, match="blanked"):
        accepted(story)
    assert money(declined(story).session) == {"refund_due": 100}


# --- a person's word


def test_short_money_is_accepted_and_the_shortfall_is_told() -> None:
    story = started().answered(seen("p", 60))
    before = len(story.session.news)
    after = reviewing.accepted(story.session, by="bold", note="regular", now=story.now)
    told = next(event.data for event in after.news[before:] if event.type == "session.reviewed")
    assert told == {"decision": "accept", "by": "bold", "note": "regular", "shortfall": "40.00"}
    accepted(story)
    assert (story.session.status, money(story.session), story.session.exceptions) == (
        Status.PAID,
        {"ordered": 60},
        set(),
    )
    story.answered(seen("p", 60), seen("q", 50))
    assert money(story.session, "q") == {"ordered": 40, "refund_due": 10}, "the rest fills what is missing"


@pytest.mark.parametrize(
    ("story", "why"),
    [
        (started, "nothing to make orders of"),
        (lambda: started().answered(seen("p", 100)), "has its orders"),
        (lambda: started().answered(seen("p", 100, currency="USD")), "nothing to make orders of"),
        (lambda: started().answered(seen("p", 60, "PARTIAL")), "nothing to make orders of"),
    ],
)
def test_what_cannot_be_accepted(story: Any, why: str) -> None:
    with pytest.raises(Conflict, match=why):
        accepted(story())


@pytest.mark.parametrize(
    ("story", "why"),
    [
        (lambda: started().answered(seen("p", 60)), "can still pay"),
        (lambda: started().expired(), "no money"),
        (lambda: declined(under_review(started().cancelled(), seen("p", 100))), "no money"),
    ],
)
def test_what_cannot_be_declined(story: Any, why: str) -> None:
    with pytest.raises(Conflict, match=why):
        declined(story())


def test_a_payment_nobody_had_is_given_to_a_session_and_counts() -> None:
    story = started()
    theirs = replace(seen("p", 100), invoice_id="theirs")
    story.step(lambda s: reviewing.assigned(s, theirs, by="bold", note="", now=story.now, rules=Rules()))
    assert (story.session.status, money(story.session)) == (Status.PAID, {"ordered": 100})
    story.learned(Evidence(looked_up=(replace(theirs, status="REFUNDED"),)))
    assert money(story.session) == {"refunded": 100}, "it is followed like any other"
    with pytest.raises(Conflict, match="already"):
        reviewing.assigned(story.session, theirs, by="bold", note="", now=story.now, rules=Rules())


# --- refunds


def test_a_card_payment_goes_back_through_qpay() -> None:
    story = requested(started().answered(card("p", 100), card("q", 100)), "q")
    (q,) = (p for p in story.session.payments if p.id == "q")
    assert q.refund is not None
    assert (q.refund.way, q.refund.state, money(story.session, "q")) == (
        RefundWay.QPAY,
        RefundState.REQUESTED,
        {"refund_due": 100},
    )
    assert [look.reason for look in story.session.looks] == [Reason.OPERATOR]
    looked(story, card("p", 100), card("q", 100, "REFUNDED"))
    assert (money(story.session, "q"), story.session.looks) == ({"refunded": 100}, ())
    assert story.events[-3:] == ["payment.seen", "refund.done", "session.exception"]
    assert story.session.exceptions == {ExceptionName.REFUNDED}


def test_a_refund_qpay_never_shows_is_unconfirmed_and_may_be_sent_again() -> None:
    story = requested(started().answered(card("p", 150)), amount=150_00)
    for _ in range(8):
        if story.session.next_check_at is None:
            break
        looked(story, card("p", 150))
    assert ExceptionName.REFUND_UNCONFIRMED in story.session.exceptions
    assert story.session.looks == ()
    requested(story, amount=150_00)
    assert (
        ExceptionName.REFUND_UNCONFIRMED
        not in settling.after_answer(story.session, answer(card("p", 150)), story.now).exceptions
    )
    looked(story, card("p", 150, "REFUNDED"))
    assert ExceptionName.REFUND_UNCONFIRMED not in story.session.exceptions
    assert story.events.count("refund.done") == 1


def test_silence_uses_nothing_of_the_ladder_up() -> None:
    story = requested(started().answered(card("p", 100)))
    for _ in range(20):
        story.now = max(story.now, story.session.next_check_at or 0)
        story.asked(Reason.OPERATOR)
        story.step(lambda s: steps.unanswered(s, Reason.OPERATOR, story.now))
    assert [look.rung for look in story.session.looks] == [0]


def test_a_bank_payment_is_a_task_that_is_closed_with_a_reference() -> None:
    story = requested(started().answered(seen("p", 100), seen("q", 100)), "q")
    assert story.session.looks == ()
    closed(story, "q")
    assert (money(story.session, "q"), story.session.exceptions) == ({"refunded": 100}, set())
    assert story.events[-2:] == ["refund.requested", "refund.done"]
    again = story.session
    assert closed(story, "q").session is again, "the same reference again changes nothing"


def test_what_qpay_refuses_is_a_persons_task() -> None:
    story = requested(started().answered(card("p", 100)))
    story.step(lambda s: refunding.refund_refused(s, "p", "PAYMENT_SETTLED", story.now))
    refund = _refund(story)
    assert (refund.way, refund.state, story.session.looks) == (RefundWay.PERSON, RefundState.REQUESTED, ())
    assert money(closed(story).session) == {"refunded": 100}


def test_one_person_at_a_time_pays_back() -> None:
    story = requested(started().answered(seen("p", 100)))
    with pytest.raises(Conflict, match="being paid back by bold"):
        requested(story, by="sarnai")
    with pytest.raises(Conflict, match="being paid back by bold"):
        closed(story, by="sarnai")
    story.at(refunding.YOUNG_SECONDS + 1)
    assert money(closed(story, by="sarnai").session) == {"refunded": 100}


def test_while_qpay_is_at_it_nobody_pays_it_back_by_hand() -> None:
    story = requested(started().answered(card("p", 100)))
    for act in (requested, closed):
        with pytest.raises(Conflict, match="QPay was asked"):
            act(story)


def test_a_part_by_hand_and_then_the_rest() -> None:
    story = closed(started().answered(card("p", 100)), amount=30_00)
    assert money(story.session) == {"ordered": 70, "refunded": 30}
    with pytest.raises(Conflict, match="say how much"):
        requested(story)
    requested(story, amount=70_00)
    assert _refund(story).way is RefundWay.PERSON, "QPay gives back whole payments only"
    assert money(closed(story, ref="R2").session) == {"refunded": 100}
    with pytest.raises(Conflict, match="nothing of this payment"):
        requested(story)


def test_a_second_reference_for_the_same_excess_takes_nothing_from_the_orders() -> None:
    story = closed(started().answered(seen("p", 150)))
    assert money(story.session) == {"ordered": 100, "refunded": 50}
    for act in (requested, closed):
        with pytest.raises(Conflict, match="say how much"):
            act(story, by="sarnai", **({"ref": "R2"} if act is closed else {}))
    assert money(closed(story, amount=20_00, ref="R2").session) == {"ordered": 80, "refunded": 70}


@pytest.mark.parametrize("done", [False, True])
def test_of_money_paid_twice_one_goes_back_whoever_asks_for_which(done: bool) -> None:
    story = requested(started().answered(card("p", 100), card("q", 100)), "p")
    if done:
        looked(story, card("p", 100, "REFUNDED"), card("q", 100))
    for act in (requested, closed):
        with pytest.raises(Conflict, match="say how much"):
            act(story, "q", by="sarnai")
    with pytest.raises(Conflict):
        declined(story)
    assert money(requested(story, "q", amount=100_00, by="sarnai").session, "q"), "a person who says so may"


def test_what_was_asked_for_is_meant_when_it_is_sent_again() -> None:
    story = requested(started().answered(card("p", 150)), amount=150_00)
    while story.session.next_check_at is not None:
        looked(story, card("p", 150))
    requested(story)
    assert (_refund(story).way, _refund(story).amount) == (RefundWay.QPAY, 150_00), "not a task over what is due of it"


def test_money_that_is_to_go_back_pays_for_nothing() -> None:
    story = requested(started().answered(seen("p", 60)).expired())
    story.at(LATE).answered(seen("p", 60), seen("q", 40))
    assert story.session.status is Status.EXPIRED, "60 of the 100 are on their way back"
    story.answered(seen("p", 60), seen("q", 40), seen("r", 60))
    assert story.session.status is Status.PAID
    assert money(story.session) == {"refund_due": 60}


def test_due_money_counts_until_somebody_wants_it_back() -> None:
    story = started().answered(seen("p", 60)).expired()
    story.at(LATE).answered(seen("p", 60), seen("q", 40))
    assert story.session.status is Status.PAID


@pytest.mark.parametrize("amount", [0, -1, 100_01])
def test_more_than_there_is_does_not_go_back(amount: int) -> None:
    story = started().answered(seen("p", 100))
    for act in (requested, closed):
        with pytest.raises(Invalid):
            act(story, amount=amount)


def test_of_a_session_that_can_be_paid_nothing_goes_back() -> None:
    with pytest.raises(Conflict, match="can still pay"):
        requested(started().answered(seen("p", 60)))
    with pytest.raises(NotFound):
        requested(started().answered(seen("p", 100)), "other")


def test_a_refund_somebody_made_elsewhere_is_told() -> None:
    story = started().answered(seen("p", 100)).answered(seen("p", 100, "REFUNDED"))
    assert public_news(story.session) == []
    assert story.events.count("refund.done") == 1


def test_what_is_told_of_refunds_adds_up_to_what_went_back() -> None:
    story = closed(started().answered(card("p", 150)), amount=20_00)
    requested(story, amount=30_00, by="sarnai")
    after = settling.after_answer(story.session, answer(card("p", 150, "REFUNDED")), story.now)
    assert [event.data["amount"] for event in after.news if event.type == "refund.done"] == ["130.00"]
    assert [refund.amount for refund in after.payments[0].refunds] == [20_00, 130_00]


def _refund(story: Story, id_: str = "p") -> Any:
    p: Payment | None = story.session.payment(id_)
    assert p is not None
    assert p.refund is not None
    return p.refund


def test_a_look_for_a_refund_that_is_over_is_taken_away() -> None:
    story = requested(started().answered(card("p", 100)))
    story.learned(Evidence(looked_up=(card("p", 100, "REFUNDED", invoice_id="inv1"),)))
    looks: tuple[Look, ...] = story.session.looks
    assert looks == ()


def test_what_is_held_beside_an_open_refund_is_not_called_decided() -> None:
    story = started()
    story.now = LATE * 1_000_000 + story.now
    story.step(lambda s: steps.expired(s, story.now, REVIEW))
    under_review(story, seen("p", 100))
    requested(story, amount=4_000)
    assert story.session.sum("held")
    with pytest.raises(Conflict, match="close that refund first"):
        declined(story)


def test_what_is_still_due_back_keeps_its_name_when_the_other_payment_went_back_first() -> None:
    """Schedules, seed 301018: of two payments one was to go back; the other did, and no name was left for the money."""
    story = started()
    story.asked(Reason.CALLBACK)
    story.answered(seen("p", 100), seen("q", 100))
    assert story.session.exceptions == {ExceptionName.PAID_TWICE}
    declined(story)
    closed(requested(story, "p", amount=100_00), "p")
    assert money(story.session, "q")["refund_due"] == 100
    assert story.session.exceptions == {ExceptionName.PAID_TWICE}
    closed(requested(story, "q"), "q", ref="R2")
    assert not story.session.exceptions


def test_a_request_is_known_by_its_key_until_the_end() -> None:
    story = started().hinted("p").asked().answered(seen("p", 100))
    story.step(lambda s: refunding.refund_requested(s, "p", None, by="bold", note="", now=story.now, key="k:1"))
    before = story.session
    story.step(lambda s: refunding.refund_requested(s, "p", 1, by="dorj", note="", now=story.now, key="k:1"))
    assert story.session == before
    closed(story, amount=4_000)
    story.step(lambda s: refunding.refund_requested(s, "p", None, by="bold", note="", now=story.now, key="k:1"))
    assert [r.state for r in story.session.payments[0].refunds] == [RefundState.DONE]
    with pytest.raises(IdempotencyMismatch):
        refunding.refund_requested(story.session, "p", None, by="bold", note="", now=story.now, key="k:2")


def test_short_money_of_a_half_answered_look_is_named_when_its_session_is_cancelled() -> None:
    """Schedules, seed 400637: found by its id alone, it was due back after cancelling, and no exception told why."""
    story = started()
    story.asked(Reason.CALLBACK)
    half = replace(answer(seen("p", 50)), complete=False)
    story.step(lambda s: settling.after_answer(s, half, story.now))
    assert not story.session.exceptions, "the rest may be on an invoice that was not answered"
    story.step(lambda s: steps.cancelled(s, story.now))
    assert money(story.session) == {"refund_due": 50}
    assert story.session.exceptions == {ExceptionName.UNDERPAID}


def test_an_invoice_whose_money_went_back_by_hand_is_paid_and_not_to_be_cancelled() -> None:
    """Schedules, seed 1046: late money went back, other late money was accepted, and QPay was to cancel the first."""
    story = started().invoiced(2)
    story.now = LATE * 1_000_000 + story.now
    story.step(lambda s: steps.expired(s, story.now, REVIEW))
    under_review(story, seen("p", 100))
    declined(story)
    closed(story)
    story.step(
        lambda s: settling.after_answer(s, answer(seen("q", 100, invoice_id="inv2"), invoice="inv2"), story.now, REVIEW)
    )
    accepted(story)
    assert steps.superseded(story.session) == ()
