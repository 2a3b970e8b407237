"""Sessions given back to the old shop, and taken back: no order while they are away, no money lost, nothing twice."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.stories import NOON, Story, answer, opened, seen
from tests.core.test_machine import EVIDENCE, IDS
from tests.core.test_moving import LATER, ORDERED, old, taken

from tulbur.core import settling, steps
from tulbur.core.custody import Custody
from tulbur.core.handing_over import Stays, handed_over, stays, taken_back
from tulbur.core.moving import imported
from tulbur.core.orders import Item
from tulbur.core.session import SECOND, ExceptionName, HintState, InvoiceState, Reason, Session, Status
from tulbur.core.settling import Evidence
from tulbur.core.steps import GIVE_UP_SECONDS

ITEMS = tuple(
    Item(shop_id=shop, product_id=f"p-{shop}", title="Tea", quantity=1, unit_price=50_00) for shop in ("a", "b")
)


def away() -> Story:
    """A checkout whose invoice is shown, handed over a minute after noon."""
    story = Story(opened(items=ITEMS)).invoiced().at(60)
    story.events = []
    story.step(lambda s: handed_over(s, story.now))
    return story


def back(story: Story, **options: Any) -> Story:
    story.step(lambda s: taken_back(s, story.now, **{"look_at": story.now + SECOND, **options}))
    return story


def test_handing_over_takes_looks_and_cache_away_and_happens_once() -> None:
    story = away()
    session = story.session
    assert (session.custody, session.status) == (Custody.HANDED_OVER, Status.PENDING)
    assert (session.looks, session.cache_seconds, session.payable is None) == ((), 0, False)
    assert story.events == [], "the shop is told nothing"
    assert handed_over(session, story.now) is session


def received(story: Story) -> None:
    story.answered(seen("pay1", 40))


def given_back(story: Story) -> None:
    story.answered(seen("pay1", 100, "REFUNDED"))


def unconfirmed(story: Story) -> None:
    story.step(lambda s: steps.with_exceptions(s, frozenset({ExceptionName.UNCONFIRMED}), story.now))


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (received, Stays.MONEY),
        (given_back, Stays.MONEY),
        (unconfirmed, Stays.NAMED),
        (lambda story: story.answered(seen("pay1", 100)), Stays.CLOSED),
        (lambda story: story.cancelled(), Stays.CLOSED),
        (lambda story: story.at(1800), Stays.OVER),
        (lambda story: story.hinted("pay1"), Stays.ANNOUNCED),
        (lambda story: story.hinted(""), Stays.ANNOUNCED),
        (lambda story: story.asked(), Stays.ASKED),
        (lambda story: story.asked().answered(), None),
        (lambda story: story.invoiced(2), None),
    ],
)
def test_only_what_nobody_has_begun_to_pay_is_handed_over(
    happens: Callable[[Story], object], why: Stays | None
) -> None:
    story = Story(opened(items=ITEMS)).invoiced()
    happens(story)
    assert stays(story.session, story.now) is why
    assert (handed_over(story.session, story.now) is story.session) == (why is not None)


def test_without_an_invoice_that_can_be_paid_it_stays() -> None:
    story = Story(opened(items=ITEMS))
    assert stays(story.session, story.now) is Stays.CREATING
    story.step(lambda s: steps.invoice_unknown(s, 1, story.now))
    assert stays(story.session, story.now) is Stays.NO_INVOICE
    story.invoiced(2)
    assert stays(story.session, story.now) is None, "nobody ever saw the first one's QR"


def test_what_came_from_the_old_shop_can_go_back_to_it() -> None:
    followed = imported(old(), NOON).committed()
    assert stays(followed, NOON) is Stays.THEIRS
    assert handed_over(followed, NOON) is followed
    ours = taken(old(), NOON).committed()
    assert stays(handed_over(ours, NOON), NOON) is Stays.BEFORE
    half = taken(old(orders={"a": "old-a"}), NOON).committed()
    assert stays(half, NOON) is Stays.HALF


def test_its_money_is_held_and_named_and_makes_its_orders_once_it_is_back() -> None:
    story = away().hinted("pay1").asked().answered(seen("pay1", 100))
    session = story.session
    assert (session.status, session.orders, session.sum("held")) == (Status.PENDING, (), 100_00)
    assert session.exceptions == {ExceptionName.HANDED_OVER}
    assert story.events == ["payment.seen", "session.exception"]
    back(story)
    assert (story.session.exceptions, story.session.sum("held")) == (frozenset(), 100_00)
    assert story.session.next_check_at == story.now + SECOND
    again = story.session
    assert taken_back(again, story.now, look_at=story.now) is again
    story.asked(Reason.SWEEP).answered(seen("pay1", 100))
    assert (story.session.status, story.session.sum("ordered")) == (Status.PAID, 100_00)
    assert story.events[2:] == ["order.created", "order.created", "session.paid"]


def test_too_little_money_is_called_so_once_it_is_back() -> None:
    story = back(away().answered(seen("pay1", 40)))
    story.answered(seen("pay1", 40))
    assert story.session.exceptions == {ExceptionName.UNDERPAID}
    assert [look.reason for look in story.session.looks] == [Reason.DEADLINE], "it was looked at"


def test_one_that_nobody_paid_expires_once_it_is_back() -> None:
    story = away().at(3600)
    story.step(lambda s: steps.expired(s, story.now))
    assert story.session.status is Status.PENDING, "it is not ours to end"
    back(story).answered()
    story.step(lambda s: steps.expired(s, story.now))
    assert (story.session.status, story.session.looks) == (Status.EXPIRED, ())


def test_what_was_announced_meanwhile_is_looked_up_once_it_is_back() -> None:
    story = away().hinted("pay1").at(86_400)
    back(story)
    looks = {look.reason: look.at for look in story.session.looks}
    assert looks == dict.fromkeys((Reason.DEADLINE, Reason.SWEEP, Reason.CALLBACK), story.now + SECOND)
    assert [(h.state, h.seen_at) for h in story.session.hints] == [(HintState.WAITING, story.now)]


def test_the_orders_the_old_shop_made_count_and_are_not_announced() -> None:
    story = away().answered(seen("pay1", 100))
    back(story, orders=ORDERED, made_at=story.now)
    session = story.session
    assert (session.status, session.sum("ordered"), session.exceptions) == (Status.PAID, 100_00, frozenset())
    assert [order.shop_id for order in session.orders] == ["a", "b"]
    assert session.metadata["old_order_ids"] == ORDERED
    assert session.attempts[0].state is InvoiceState.PAID
    assert story.events == ["payment.seen", "session.exception"]
    story.answered(seen("pay1", 100), seen("pay2", 100))
    assert (story.session.sum("ordered"), story.session.sum("refund_due")) == (100_00, 100_00)


def test_orders_without_a_shop_are_all_of_them() -> None:
    assert back(away(), orders={"": "o1,o2"}).session.status is Status.PAID


def test_half_an_order_of_the_old_shop_s_is_completed() -> None:
    story = back(away().hinted("pay1"), orders={"a": "old-a"})
    assert story.session.status is Status.PENDING
    before = story.session
    after = settling.after_answer(before, answer(seen("pay1", 100)), story.now)
    told = [event.data["shop_id"] for event in after.news if event.type == "order.created"]
    assert (told, [order.shop_id for order in after.orders]) == (["b"], ["a", "b"])


def test_a_week_of_silence_counts_from_when_it_came_back() -> None:
    story = away()
    story.now = LATER
    back(story)
    story.step(lambda s: steps.given_up(s, story.now))
    assert story.session.status is Status.PENDING
    story.now += GIVE_UP_SECONDS * SECOND
    story.step(lambda s: steps.given_up(s, story.now))
    assert (story.session.status, story.session.looks) == (Status.EXPIRED, ())


DOINGS = st.lists(
    st.one_of(
        st.sampled_from(["", *IDS]),
        st.sampled_from(Reason),
        EVIDENCE.map(lambda e: replace(e, adopted=())),
        st.sampled_from(["cancel", "expire", "silence", "go", "go", "come"]),
        st.sampled_from([{}, {"a": "old-a"}, ORDERED]),
    ),
    max_size=25,
)


def do(story: Story, doing: Any) -> None:
    match doing:
        case "go":
            story.step(lambda s: handed_over(s, story.now))
        case "come" | dict():
            back(story, orders=doing if isinstance(doing, dict) else {})
        case Reason():
            story.asked(doing, new_hint=True)
        case Evidence():
            story.learned(doing)
        case "cancel":
            story.cancelled()
        case "expire":
            story.expired()
        case "silence":
            story.step(lambda s: steps.given_up(steps.unanswered(s, Reason.CALLBACK, story.now), story.now))
        case str():
            story.hinted(doing)


def covered(session: Session) -> bool:
    return sum(p.amount for p in session.payments if steps.is_paid(p, session.currency)) >= session.amount


@given(doings=DOINGS)
def test_whatever_happens_on_the_way_no_order_is_made_while_it_is_away(doings: list[Any]) -> None:
    story = Story(opened(items=ITEMS)).invoiced()
    for doing in doings:
        before = story.session
        do(story, doing)  # judged by the laws at every step
        session = story.session
        if session.custody is Custody.HANDED_OVER:
            assert (session.status, session.orders) == (Status.PENDING, ())
            assert all(p.held == p.amount for p in session.payments if p.received and p.status != "REFUNDED")
            has_money = any(p.received for p in session.payments)
            assert (ExceptionName.HANDED_OVER in session.exceptions) == has_money, "a person sees it"
        else:
            assert ExceptionName.HANDED_OVER not in session.exceptions
        if before.custody is Custody.HANDED_OVER is not session.custody:
            assert session.next_check_at is not None or session.status is Status.PAID, "law 2"
    back(story).learned(Evidence(complete=True))
    assert story.session.status is Status.PAID or not covered(story.session), "paid means ordered"
