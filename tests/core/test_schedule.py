from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.stories import NOON, Story, answer, opened, seen, started

from tulbur.core import settling, steps
from tulbur.core.schedule import (
    BUDGETS,
    BUSY_SECONDS,
    DAY,
    LADDER_SECONDS,
    LONGEST_WAIT_SECONDS,
    PAYER_PAUSE_SECONDS,
    asked_today,
    due_reason,
    may_ask,
    postponed,
    renewal,
)
from tulbur.core.session import SECOND, Asks, ExceptionName, HintState, Look, Reason, Session, Status

MIDNIGHT = renewal(NOON)


def spent(reason: Reason, *, at: int = NOON) -> Session:
    """A session whose budget for one class of question is used up on the day of `at`."""
    asks = Asks(day=at // DAY, counts={reason: BUDGETS[reason]}, last_at=at - 3600 * SECOND)
    return replace(started().session, asks=asks)


def looks(story: Story, *, last: int = 100) -> Iterator[Reason]:
    """What a worker does: wait for the next look, claim it, or put it off. Each round is one look that came due."""
    for _ in range(last):
        if story.session.next_check_at is None:
            return
        story.now = max(story.now, story.session.next_check_at)
        reason = due_reason(story.session, story.now)
        assert reason is not None
        before = story.session
        story.asked(reason)
        if story.session is not before:
            yield reason
        else:
            story.step(lambda s: steps.refused(s, story.now))
            assert due_reason(story.session, story.now) is not reason, "a look that was put off waits"
    pytest.fail("the looks never end")


# --- the ladder ------------------------------------------------------------------------------------------------------


def test_a_hint_qpay_never_confirms_is_unconfirmed_after_the_whole_ladder() -> None:
    story = Story(opened(expires_at=NOON + 30 * DAY)).invoiced().hinted("p1").asked(new_hint=True)
    story.answered()
    (hint,) = story.session.hints
    assert hint.state is HintState.WAITING, "the question the callback asked at once is not a rung"
    waits = []
    for reason in looks(story):
        if reason is Reason.DEADLINE:
            break
        waits.append(story.now)
        story.answered()
    steps_between = [(b - a) // SECOND for a, b in zip([NOON, *waits], waits, strict=False)]
    assert steps_between == list(LADDER_SECONDS)
    assert [h.state for h in story.session.hints] == [HintState.UNCONFIRMED]
    assert story.session.exceptions == {ExceptionName.UNCONFIRMED}
    assert story.events[-1] == "session.exception"


@given(st.lists(st.booleans(), max_size=40))
def test_only_answered_questions_use_up_the_ladder(answered: list[bool]) -> None:
    story = Story(opened(expires_at=NOON + 30 * DAY)).invoiced().hinted("p1")
    pattern = iter(answered)
    count = 0
    for reason in looks(story, last=400):
        if reason is Reason.DEADLINE:
            break
        if next(pattern, True):
            count += 1
            story.answered()
        elif len(answered) % 2:
            story.answered(complete=False)
    assert count == len(LADDER_SECONDS)
    assert [h.state for h in story.session.hints] == [HintState.UNCONFIRMED]


def test_one_look_answered_twice_climbs_one_rung() -> None:
    story = started().hinted("p1").at(3).asked()
    story.answered()
    (ladder,) = (look for look in story.session.looks if look.reason is Reason.CALLBACK)
    assert (ladder.rung, ladder.at) == (1, NOON + 13 * SECOND)
    before = story.session
    assert settling.after_answer(before, answer(), story.now) is before


def test_a_payers_question_that_is_answered_before_the_ladder_is_due_uses_no_rung() -> None:
    story = started().hinted("p1").at(1).asked(Reason.PAYER)
    story.answered()
    assert Look(Reason.CALLBACK, NOON + 3 * SECOND) in story.session.looks


def test_while_qpay_is_silent_looks_grow_rarer_to_a_limit_and_never_stop() -> None:
    story = Story(opened(expires_at=NOON + 30 * DAY)).invoiced().hinted("p1")
    times = []
    for _ in looks(story):
        times.append(story.now)
        if len(times) == 12:
            break
    waits = [(b - a) // SECOND for a, b in pairwise(times)]
    assert waits == sorted(waits)
    assert waits[0] == BUSY_SECONDS
    assert set(waits[5:]) == {LONGEST_WAIT_SECONDS}


def test_what_nobody_answered_just_before_qpay_came_back_is_asked_again_and_answered_within_ten_minutes() -> None:
    look = Look(Reason.DEADLINE, NOON, tries=10)
    assert postponed(look, NOON).at + BUSY_SECONDS * SECOND <= NOON + 600 * SECOND


def test_an_answer_that_confirms_every_hint_ends_the_ladder() -> None:
    story = started().hinted("p1").hinted("p2").at(3).asked().answered(seen("p1", 50), seen("p2", 50))
    assert story.session.looks == ()
    assert {h.state for h in story.session.hints} == {HintState.CONFIRMED}


def test_an_answer_that_confirms_one_hint_goes_on_for_the_other() -> None:
    story = started().hinted("p1").hinted("p2").at(3).asked().answered(seen("p1", 100))
    assert [h.state for h in story.session.hints] == [HintState.CONFIRMED, HintState.WAITING]
    assert [look.reason for look in story.session.looks] == [Reason.CALLBACK]


# --- the right to ask ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", Reason)
def test_each_class_has_its_budget_for_the_day(reason: Reason) -> None:
    story = started()
    asked = 0
    for second in range(0, 300 * 20, 20):
        before = story.session
        story.at(second).asked(reason)
        asked += story.session is not before
    assert asked == BUDGETS[reason]
    assert asked_today(story.session.asks, reason, story.now) == BUDGETS[reason]
    others = [other for other in Reason if other is not reason]
    assert all(may_ask(story.session, other, story.now + 20 * SECOND) for other in others)
    assert not may_ask(story.session, reason, MIDNIGHT - 1)
    assert may_ask(story.session, reason, MIDNIGHT)


@pytest.mark.parametrize("reason", Reason)
def test_the_first_look_for_a_new_payment_id_is_never_refused(reason: Reason) -> None:
    session = spent(reason)
    busy = replace(session, asks=replace(session.asks, busy_until=NOON + BUSY_SECONDS * SECOND, last_at=NOON))
    assert not may_ask(busy, reason, NOON)
    after = steps.asked(busy, reason, NOON, new_hint=True)
    assert after.asks.counts[reason] == BUDGETS[reason] + 1, "never refused, and counted all the same"


def test_the_payers_page_asks_once_in_ten_seconds() -> None:
    story = started().asked(Reason.PAYER)
    story.answered()
    almost = NOON + PAYER_PAUSE_SECONDS * SECOND - 1
    assert not may_ask(story.session, Reason.PAYER, almost)
    assert may_ask(story.session, Reason.PAYER, almost + 1)
    assert may_ask(story.session, Reason.CALLBACK, almost)


def test_one_question_is_under_way_at_a_time_and_its_answer_ends_that() -> None:
    story = started().asked(Reason.OPERATOR)
    assert not any(may_ask(story.session, reason, NOON + 1) for reason in Reason)
    assert may_ask(story.session, Reason.OPERATOR, NOON + BUSY_SECONDS * SECOND), "a question that died is given up"
    assert may_ask(story.answered().session, Reason.OPERATOR, NOON + 1)


def test_a_new_day_counts_from_nothing() -> None:
    after = steps.asked(spent(Reason.CALLBACK), Reason.CALLBACK, MIDNIGHT)
    assert after.asks.counts == {Reason.CALLBACK: 1}
    assert may_ask(after, Reason.CALLBACK, MIDNIGHT + BUSY_SECONDS * SECOND)


def test_a_refused_question_changes_nothing() -> None:
    session = spent(Reason.CALLBACK)
    assert steps.asked(session, Reason.CALLBACK, NOON) is session


# --- a look that is refused ------------------------------------------------------------------------------------------


def test_a_look_refused_for_its_budget_becomes_due_when_that_is_renewed() -> None:
    story = Story(replace(spent(Reason.CALLBACK), news=())).hinted("p1").at(3)
    story.step(lambda s: steps.refused(s, story.now))
    assert next(look.at for look in story.session.looks if look.reason is Reason.CALLBACK) == MIDNIGHT
    assert may_ask(story.session, Reason.CALLBACK, MIDNIGHT)


def test_a_look_refused_for_a_question_under_way_waits_for_its_end() -> None:
    story = started().hinted("p1").asked(new_hint=True).at(3)
    story.step(lambda s: steps.refused(s, story.now))
    assert story.session.next_check_at == NOON + BUSY_SECONDS * SECOND


def test_the_deadline_is_looked_at_though_callbacks_have_used_up_their_budget() -> None:
    session = replace(spent(Reason.CALLBACK), news=(), expires_at=NOON + SECOND)
    session = replace(session, looks=(Look(Reason.DEADLINE, session.expires_at),))
    story = Story(session).hinted("p1").at(3)
    story.step(lambda s: steps.refused(s, story.now))
    assert due_reason(story.session, story.now) is Reason.DEADLINE
    assert next(looks(story)) is Reason.DEADLINE
    assert story.answered().expired().session.status is Status.EXPIRED


def test_a_look_that_may_be_asked_by_now_is_not_put_off_until_tomorrow() -> None:
    story = started().hinted("p1").at(3)
    assert steps.refused(story.session, story.now) is story.session


def test_a_look_that_is_not_due_is_not_put_off() -> None:
    session = spent(Reason.DEADLINE)
    assert steps.refused(session, NOON) is session


def test_the_callbacks_look_goes_first() -> None:
    story = started().hinted("p1")
    assert due_reason(story.session, NOON) is None
    assert due_reason(story.session, story.session.expires_at) is Reason.CALLBACK


def test_three_days_of_silence_stay_within_the_budgets() -> None:
    story = started().hinted("p1")
    asked: dict[tuple[Reason, int], int] = {}
    for reason in looks(story, last=1000):
        if story.now > NOON + 3 * DAY:
            break
        asked[reason, story.now // DAY] = asked.get((reason, story.now // DAY), 0) + 1
    assert len(asked) >= 3
    assert all(count <= BUDGETS[reason] for (reason, _), count in asked.items())
    assert story.session.status is Status.PENDING, "silence is neither paid nor expired"
