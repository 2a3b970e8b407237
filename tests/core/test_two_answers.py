"""Answers may overtake each other; what a payer and a shop call the outcome does not depend on it."""

from collections.abc import Callable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from tests.core.stories import Story, answer, seen, started

from proving.laws import money
from tulbur.core.session import ExceptionName
from tulbur.core.settling import Evidence, InvoiceAnswer, SeenPayment

BEFORE_A_REFUND = ("NEW", "FAILED", "PARTIAL", "PAID")
INVOICES = ("inv1", "inv2")


@st.composite
def worlds(draw: st.DrawFn) -> list[Evidence]:
    """Some complete readings of one QPay: each shows every payment made so far, as far as it had come."""
    ids = draw(st.lists(st.sampled_from("pqrst"), min_size=1, max_size=4, unique=True))
    facts = {
        name: SeenPayment(
            id=name,
            amount=draw(st.sampled_from([40_00, 50_00, 60_00, 100_00, 150_00])),
            currency=draw(st.sampled_from(["MNT", "MNT", "MNT", "USD"])),
            status="",
            invoice_id=draw(st.sampled_from(INVOICES)),
        )
        for name in ids
    }
    return [_reading(draw, facts) for _ in range(draw(st.integers(2, 4)))]


def _reading(draw: st.DrawFn, facts: dict[str, SeenPayment]) -> Evidence:
    shown = draw(st.lists(st.sampled_from(sorted(facts)), max_size=len(facts), unique=True))
    rows = [seen(name, 0, draw(st.sampled_from(BEFORE_A_REFUND)), invoice_id=facts[name].invoice_id) for name in shown]
    rows = [
        SeenPayment(
            id=row.id,
            amount=facts[row.id].amount,
            currency=facts[row.id].currency,
            status=row.status,
            invoice_id=row.invoice_id,
        )
        for row in rows
    ]
    answers = [
        InvoiceAnswer(invoice_id=invoice, payments=tuple(row for row in rows if row.invoice_id == invoice))
        for invoice in INVOICES
    ]
    return Evidence(answers=tuple(answers), complete=True)


def checkout(end: Callable[[Story], Story] | None = None) -> Story:
    story = started().invoiced(2)
    return end(story) if end else story


def outcome(story: Story) -> tuple[dict[str, object], frozenset[ExceptionName]]:
    return money(story.session), story.session.exceptions


ENDS = st.sampled_from([None, Story.expired, Story.cancelled])


@given(worlds(), ENDS, st.data())
def test_the_order_of_answers_does_not_matter(world: list[Evidence], end: object, data: st.DataObject) -> None:
    one, other = checkout(end), checkout(end)
    for evidence in world:
        one.learned(evidence)
    for evidence in data.draw(st.permutations(world)):
        other.learned(evidence)
    assert outcome(one) == outcome(other)


@given(worlds(), ENDS)
def test_seen_at_once_or_one_by_one_is_the_same(world: list[Evidence], end: object) -> None:
    one, other = checkout(end), checkout(end)
    for evidence in world:
        one.learned(evidence)
    other.learned(Evidence(answers=tuple(a for evidence in world for a in evidence.answers), complete=True))
    assert outcome(one) == outcome(other)


@given(worlds(), st.sampled_from([Story.expired, Story.cancelled]), st.data())
def test_money_is_the_same_whether_it_is_seen_before_the_end_or_after(
    world: list[Evidence], end: Callable[[Story], Story], data: st.DataObject
) -> None:
    places = data.draw(st.lists(st.integers(0, len(world)), min_size=2, max_size=2))
    told = []
    for place in places:
        story = checkout()
        for evidence in world[:place]:
            story.learned(evidence)
        end(story)
        for evidence in world[place:]:
            story.learned(evidence)
        told.append(money(story.session))
    assert all(one == other for one, other in pairwise(told))


@given(worlds())
def test_an_answer_repeated_any_number_of_times_changes_no_money(world: list[Evidence]) -> None:
    story = checkout()
    for evidence in world:
        story.learned(evidence)
    told, events = outcome(story), list(story.events)
    for second, evidence in enumerate(world * 2):
        story.at(second).learned(evidence)
    assert outcome(story) == told
    assert story.events == events


def test_a_stale_answer_takes_nothing_back() -> None:
    story = started().answered(seen("p", 100))
    paid = money(story.session)
    for stale in [answer(), answer(seen("p", 100, "NEW")), answer(seen("p", 1)), answer(seen("p", 100, "FAILED"))]:
        story.learned(stale)
    assert money(story.session) == paid
