"""Sessions of the old shop's: followed without a move, taken over without a loss, settled like any other."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize
from tests.core.stories import EXPIRES_IN, NOON, Story, answer, seen
from tests.core.test_machine import EVIDENCE, IDS, Checkout, Model

from proving.laws import check_session, public_news
from tulbur.core import settling, steps
from tulbur.core.custody import Custody
from tulbur.core.ending import ended
from tulbur.core.moving import OldSession, OldStatus, adopted, imported, reimported, taken_over
from tulbur.core.schedule import DAY
from tulbur.core.session import SECOND, ExceptionName, HintState, InvoiceState, Reason, Session, Status
from tulbur.core.settling import Evidence, InvoiceSeen
from tulbur.core.steps import GIVE_UP_SECONDS

CART = [
    {"productId": "p1", "shopId": "a", "quantity": 2, "sale_price": 30.0},
    {"_id": "p2", "shopId": "b", "quantity": 1, "sale_price": 40},
]
LATER = NOON + 30 * DAY


def old(status: OldStatus = OldStatus.PENDING, **fields: Any) -> OldSession:
    """A session of 100 tugrik over two shops, opened at noon."""
    values = {
        "id": "S1",
        "user_id": "u1",
        "amount": 100_00,
        "currency": "MNT",
        "payload": {"userId": "u1", "cart": CART, "sellers": [], "totalAmount": 100},
        "status": status,
        "invoice_id": "inv1",
        "created_at": NOON,
        "updated_at": NOON + 60 * SECOND,
        "expires_at": NOON + EXPIRES_IN,
    }
    return OldSession(**{**values, **fields})


def taken(row: OldSession, now: int = LATER) -> Session:
    return taken_over(imported(row, now).committed(), now, look_at=now + SECOND)


ORDERED = {"a": "old-a", "b": "old-b"}


@pytest.mark.parametrize(
    ("status", "ours"),
    [
        ("PENDING", Status.PENDING),
        ("PAID", Status.PENDING),
        ("PROCESSED", Status.PENDING),
        ("FAILED", Status.EXPIRED),
        ("EXPIRED", Status.EXPIRED),
        ("CANCELLED", Status.CANCELLED),
    ],
)
def test_each_status_without_orders_is_followed_and_then_looked_at(status: str, ours: Status) -> None:
    session = imported(old(OldStatus(status)), LATER)
    check_session(session)
    assert (session.status, session.custody, session.orders, session.cache_seconds) == (ours, Custody.FOLLOWED, (), 0)
    assert public_news(session) == [], "the shop did not open it here"
    after = taken(old(OldStatus(status)))
    check_session(after)
    assert (after.custody, after.next_check_at) == (Custody.OURS, LATER + SECOND)


def test_a_pending_one_waits_for_its_deadline() -> None:
    assert taken(old(), NOON).next_check_at == NOON + EXPIRES_IN
    assert taken(old(OldStatus.PAID), NOON).next_check_at == NOON + SECOND, "unless the old shop saw its money"


def test_with_all_its_orders_it_is_paid_and_its_own_payment_is_no_excess() -> None:
    story = Story(imported(old(OldStatus.PROCESSED, orders=ORDERED), LATER))
    assert story.session.status is Status.PAID
    assert [order.shop_id for order in story.session.orders] == ["a", "b"]
    assert story.session.metadata["old_order_ids"] == ORDERED
    story.now = LATER
    story.step(lambda s: taken_over(s, LATER, look_at=LATER))
    assert story.session.looks == ()
    story.answered(seen("p1", 100))
    assert (story.session.sum("ordered"), story.session.sum("refund_due")) == (100_00, 0)
    story.answered(seen("p1", 100), seen("p2", 100))
    assert (story.session.sum("ordered"), story.session.sum("refund_due")) == (100_00, 100_00)
    assert story.events == ["payment.seen", "payment.seen", "refund.due", "session.exception"]


def test_half_an_order_is_completed_and_only_the_missing_one_is_announced() -> None:
    before = taken(old(OldStatus.PROCESSED, orders={"a": "old-a"})).committed()
    after = settling.after_answer(before, answer(seen("p1", 100)), LATER)
    told = [event.data["shop_id"] for event in after.news if event.type == "order.created"]
    assert (told, [order.shop_id for order in after.orders]) == (["b"], ["a", "b"])


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ({}, "the cart is not a list of lines"),
        ({"cart": CART, "totalAmount": 99}, "the payer was not asked what the cart says"),
        ({"cart": CART[:1], "totalAmount": 100}, "totalAmount is neither the sum of the cart nor that less the coupon"),
        ({"cart": [{**CART[0], "quantity": 1.5}], "totalAmount": 100}, "quantity is not a whole number of one or more"),
    ],
)
def test_what_does_not_add_up_is_for_a_person_and_never_taken_over(payload: dict[str, Any], why: str) -> None:
    session = imported(old(OldStatus.PROCESSED, payload=payload, orders=ORDERED), LATER).committed()
    assert session.claim is not None
    assert (session.claim.review, session.status) == (why, Status.PENDING)
    assert taken_over(session, LATER, look_at=LATER) is session


def test_what_changed_is_read_again_and_the_hints_stay() -> None:
    story = Story(imported(old(), NOON)).hinted("p1")
    assert reimported(story.session, old(), NOON) is story.session
    row = old(OldStatus.PROCESSED, orders=ORDERED, updated_at=NOON + DAY, invoice_id="inv2")
    story.step(lambda s: reimported(s, row, NOON + DAY))
    session = story.session
    assert (session.status, [h.payment_id for h in session.hints]) == (Status.PAID, ["p1"])
    assert [(a.number, a.id) for a in session.attempts] == [(1, "inv1"), (2, "inv2")], "money may have reached either"
    again = reimported(session, replace(row, updated_at=NOON + 2 * DAY), NOON + DAY)
    assert (again.orders, again.claim != session.claim) == (session.orders, True)
    story.step(lambda s: taken_over(s, NOON, look_at=NOON))
    assert [look.reason for look in story.session.looks] == [Reason.CALLBACK], "its hint is looked up at last"
    assert reimported(story.session, old(), NOON) is story.session, "ours is ours"


def test_a_payment_the_old_shop_named_is_looked_up_and_not_believed() -> None:
    session = taken(old(OldStatus.PAID, payment_id="p9", invoice_id=""))
    assert [(h.payment_id, h.state) for h in session.hints] == [("p9", HintState.WAITING)]
    assert (session.attempts[0].state, session.attempts[0].sender_invoice_no) == (InvoiceState.UNKNOWN, "S1")


def test_a_week_of_silence_about_the_past_ends_and_is_named() -> None:
    story = Story(taken(old(OldStatus.EXPIRED)))
    story.now = LATER + GIVE_UP_SECONDS * SECOND - 1
    story.step(lambda s: steps.given_up(s, story.now))
    assert story.session.looks
    story.now += 1
    story.step(lambda s: steps.given_up(s, story.now))
    assert (story.session.looks, story.session.exceptions) == ((), {ExceptionName.UNCONFIRMED})


def test_what_the_old_shop_opened_again_is_looked_at() -> None:
    for status in (OldStatus.EXPIRED, OldStatus.FAILED, OldStatus.CANCELLED):
        closed = imported(old(status), NOON).committed()
        again = reimported(closed, old(updated_at=NOON + DAY), NOON).committed()
        assert taken_over(again, LATER, look_at=LATER).next_check_at == LATER


def test_an_invoice_that_comes_back_is_one_attempt() -> None:
    session = imported(old(), NOON).committed()
    for day, invoice in enumerate(("inv2", "inv1", "inv2"), 1):
        session = reimported(session, old(invoice_id=invoice, updated_at=NOON + day * DAY), NOON).committed()
    assert [attempt.id for attempt in session.attempts] == ["inv1", "inv2"]


def test_another_invoice_of_what_is_ordered_is_asked_about() -> None:
    row = old(OldStatus.PROCESSED, orders=ORDERED)
    session = imported(row, NOON).committed()
    again = reimported(session, replace(row, invoice_id="inv2", payload={}, updated_at=LATER), LATER)
    assert [attempt.id for attempt in again.asked_about] == ["inv1", "inv2"]
    assert taken_over(again, LATER, look_at=LATER).custody is Custody.OURS, "its orders are made: nothing to decide"


def test_orders_are_never_for_another_payer() -> None:
    session = reimported(imported(old(), NOON).committed(), old(user_id="u2"), NOON)
    assert session.claim is not None
    assert (session.user_id, session.claim.review) == ("u1", "the payer is not the one it was imported with")


@pytest.mark.parametrize(
    ("orders", "why"),
    [
        ({"": "o1"}, "the old shop made fewer orders than the cart has shops, and does not say for which"),
        ({"": "o1,o2"}, ""),
        ({"a": "o1", "": "o2"}, ""),
        ({"a": "o1", "c": "o2"}, "the old shop made orders for shops that are not in the cart"),
        ({"a": "o1", "b": "o2", "c": "o3"}, ""),
    ],
)
def test_orders_that_cannot_be_set_against_the_cart_are_for_a_person(orders: dict[str, str], why: str) -> None:
    session = imported(old(OldStatus.PROCESSED, orders=orders), LATER)
    assert session.claim is not None
    assert (session.claim.review, session.status is Status.PAID) == (why, not why)


def test_what_ended_in_redis_has_the_orders_that_were_found() -> None:
    session = imported(old(source="redis"), NOON).committed()
    assert ended(session, {}, None, NOON, "") is session
    half = ended(session, {"a": "old-a"}, None, NOON, "")
    assert (half.status, half.claim and half.claim.orders) == (Status.PENDING, {"a": "old-a"})
    whole = ended(half.committed(), {"b": "old-b"}, NOON + SECOND, NOON, "")
    assert (whole.status, whole.paid_at, whole.metadata["old_order_ids"]) == (Status.PAID, NOON + SECOND, ORDERED)
    doubted = ended(session, ORDERED, None, NOON, "doubt")
    assert (doubted.status, doubted.claim and doubted.claim.review) == (Status.PENDING, "doubt")
    for each in (half, whole, doubted):
        check_session(each)


@given(
    status=st.sampled_from(OldStatus),
    doings=st.lists(
        st.one_of(
            st.sampled_from(["", *IDS]),
            st.sampled_from(Reason),
            EVIDENCE.map(lambda e: Evidence(**{n: getattr(e, n) for n in Evidence.__slots__ if n != "adopted"})),
            st.just("cancel"),
            st.just("expire"),
        ),
        max_size=12,
    ),
)
def test_nothing_but_hints_moves_what_is_followed(status: OldStatus, doings: list[Any]) -> None:
    start = imported(old(status), LATER)
    story = Story(start)
    story.now = LATER
    for doing in doings:
        match doing:
            case Reason():
                story.asked(doing, new_hint=True)
            case Evidence():
                story.learned(doing)
            case "cancel":
                story.cancelled()
            case "expire":
                story.expired()
            case str():
                story.hinted(doing)
    same = replace(story.session, hints=(), version=start.version, event_count=start.event_count, news=start.news)
    assert same == start


class MovedIn(Checkout):
    """The whole life of any checkout, of one that came from the old shop in any state."""

    @initialize(
        cart=st.sampled_from(OldStatus),
        orders=st.sampled_from([{}, {}, {"a": "old-a"}, ORDERED]),
        invoice=st.sampled_from(["inv1", "inv1", ""]),
        payment=st.sampled_from(["", "p1"]),
    )
    def opens(self, cart: OldStatus, orders: dict[str, str], invoice: str, payment: str) -> None:
        row = old(cart, orders=orders, invoice_id=invoice, payment_id=payment)
        self.story = Story(taken(row, NOON))
        self.model = Model()
        self.model.paid = self.session.status is Status.PAID


TestMovedIn = MovedIn.TestCase
TestMovedIn.settings = settings(stateful_step_count=40)


# --- from the old shop's Redis alone


def in_redis(**fields: Any) -> Session:
    return imported(old(**{"source": "redis", **fields}), NOON).committed()


OURS = InvoiceSeen(id="inv1", status="CLOSED", sender_invoice_no="S1", amount=100_00)


def called(session: Session) -> Session:
    return steps.asked(steps.hinted(session, "pay1", NOON), Reason.CALLBACK, NOON, new_hint=True).committed()


def test_a_callback_plans_a_look_for_what_is_in_redis_alone_and_for_nothing_else() -> None:
    assert called(in_redis()).next_check_at is not None
    for session in (imported(old(), NOON), in_redis(payload={"userId": "u1", "cart": CART, "totalAmount": 1})):
        hinted = steps.hinted(session.committed(), "pay1", NOON)
        assert (hinted.looks, len(hinted.hints)) == ((), 1)
        assert steps.asked(hinted.committed(), Reason.OPERATOR, NOON, new_hint=True).asks == hinted.asks
    assert steps.asked(in_redis(), Reason.PAYER, NOON).news == (), "without a callback nothing is asked"


def test_an_invoice_that_agrees_makes_it_ours() -> None:
    session = adopted(called(in_redis()), OURS, NOON, named=True)
    check_session(session)
    assert (session.custody, session.cache_seconds) == (Custody.OURS, 0)
    assert {look.reason for look in session.looks} == {Reason.DEADLINE, Reason.CALLBACK}
    nameless = adopted(called(in_redis(invoice_id="")), OURS, NOON, named=True)
    assert [(a.id, a.state) for a in nameless.attempts] == [("inv1", InvoiceState.OPEN)]


@pytest.mark.parametrize(("amount", "named"), [(100_01, True), (100_00, False), (1_00, False)])
def test_an_invoice_that_does_not_agree_is_for_a_person(amount: int, *, named: bool) -> None:
    session = adopted(called(in_redis()), replace(OURS, amount=amount), NOON, named=named)
    check_session(session)
    assert (session.custody, session.looks) == (Custody.FOLLOWED, ())
    assert session.exceptions == {ExceptionName.REVIEW}
    again = session.committed()
    assert adopted(again, OURS, NOON, named=True) is again, "before the key is corrected nothing makes it ours"
    payload = {"userId": "u1", "cart": CART, "sellers": [], "totalAmount": 100, "corrected": True}
    corrected = reimported(again, old(source="redis", payload=payload), LATER)
    assert corrected.exceptions == set()
    assert adopted(corrected.committed(), OURS, LATER, named=True).custody is Custody.OURS


def test_only_what_is_in_redis_alone_is_adopted() -> None:
    for session in (imported(old(), NOON).committed(), taken(old(source="redis")).committed()):
        assert adopted(session, OURS, NOON, named=True) is session


def test_a_key_does_not_replace_the_row_but_the_row_replaces_the_key() -> None:
    row = imported(old(), NOON).committed()
    assert reimported(row, old(source="redis", amount=1_00), NOON) is row
    key = called(in_redis())
    after = reimported(key, old(), NOON)
    assert after.claim is not None
    assert (after.claim.source, after.looks, len(after.hints)) == ("database", (), 1)
