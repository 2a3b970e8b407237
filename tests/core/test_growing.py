"""Documents of a later release: what it only added is kept through every step, everything else is refused."""

import json
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.stories import Story, answer, seen
from tests.core.test_codec import SESSIONS
from tests.core.test_moving import ORDERED, old

from tulbur.core import codec, schedule, steps
from tulbur.core.codec import FORMAT, UnreadableDocument, decode, encode
from tulbur.core.custody import Custody
from tulbur.core.later import ADDITIONS
from tulbur.core.moving import OldStatus, imported, reimported, taken_over
from tulbur.core.orders import Discount
from tulbur.core.refunding import refund_requested
from tulbur.core.retention import blanked
from tulbur.core.session import HintState, Session, Status

NEWER = ADDITIONS + 1
GIFT = ("gift", {"wrap": [1, "улаан", None]})
LISTS = ("items", "attempts", "payments", "hints", "looks", "orders")

SHAPES = {
    (1, 0): "8915d2b8",
}
"""What documents were made of, by format and additions; once it is released, a line is added and none is changed."""


def shape() -> str:
    """Every name, default and word of a document, in eight letters."""
    told: list[object] = []
    for cls, names in codec._NAMES.items():
        told += [cls.__name__, *((f.name, f.default is MISSING or f.default) for f in fields(cls) if f.name in names)]
        told += sorted(codec._NESTED[cls])
    return sha256(repr(told).encode()).hexdigest()[:8]


def test_who_changes_what_a_document_is_made_of_says_so() -> None:
    assert SHAPES.get((FORMAT, ADDITIONS)) == shape(), (
        "A field was added, removed or given another default. Docs/decisions/0008 says what that means for releases "
        "that run beside this one: raise core.later.ADDITIONS or core.codec.FORMAT, and add a line to SHAPES."
    )
    assert max(SHAPES) == (FORMAT, ADDITIONS)


def objects(values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of a document that a field can be added to, with its name."""
    yield "session", values
    for name in LISTS:
        for one in values.get(name, ()):
            yield name, one
            yield from (("order items", item) for item in one.get("items", ()))
            yield from (("refunds", refund) for refund in one.get("refunds", ()))
    yield from ((name, values[name]) for name in ("discount", "asks", "claim") if name in values)


def grown(session: Session, name: str, value: object, *, only: str = "", additions: int | None = NEWER) -> bytes:
    """The document as a release would write it that has one field more in every object, or in some."""
    values = json.loads(encode(session))
    for level, one in list(objects(values)):
        if only in ("", level):
            one[name] = value
    if additions is not None:
        values["additions"] = additions
    return json.dumps(values, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def rich() -> Session:
    """Paid in the old shop's way and in ours: a session with one of everything."""
    taken = taken_over(imported(old(OldStatus.PAID), 9).committed(), 9, look_at=10).committed()
    story = Story(replace(taken, discount=Discount(code="SPRING", amount=0), news=()))
    story.hinted("p9").asked().answered(seen("p", 100)).hinted("p8")
    story.step(lambda s: refund_requested(s, "p", None, by="bold", note="", now=story.now))
    return story.session


RICH = rich()
LEVELS = sorted({level for level, _ in objects(json.loads(encode(RICH)))})


def test_everything_a_field_can_be_added_to_is_looked_at() -> None:
    assert set(LEVELS) == {"session", "discount", "asks", "claim", "order items", "refunds", *LISTS}
    assert len(LEVELS) - 1 == len(codec._NESTED), "items are in two places"


@pytest.mark.parametrize("level", LEVELS)
def test_what_a_later_release_added_is_written_again(level: str) -> None:
    document = grown(RICH, *GIFT, only=level)
    session = decode(document, 3)
    assert session != replace(RICH, version=3)
    assert encode(session) == document
    assert decode(encode(session), 3) == session


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("additions", [None, ADDITIONS, str(NEWER), NEWER + 0.5, True, [NEWER]])
def test_an_unknown_field_that_no_later_release_declares_is_damage(level: str, additions: Any) -> None:
    with pytest.raises(UnreadableDocument):
        decode(grown(RICH, *GIFT, only=level, additions=additions), 1)


@given(SESSIONS, st.sampled_from(["gift", "later", "news", "version", "additions of", "~", ""]), st.integers(0, 9))
def test_no_name_of_a_later_field_is_mistaken(session: Session, name: str, more: int) -> None:
    document = grown(session, name, [more], additions=NEWER + more)
    read = decode(document, 7)
    assert encode(read) == document
    assert (read.version, read.news, read.additions) == (7, (), NEWER + more)


def test_a_later_release_that_added_nothing_here_is_remembered() -> None:
    session = decode(grown(RICH, *GIFT, only="nothing"), 1)
    assert json.loads(encode(session))["additions"] == NEWER
    assert replace(session, additions=0, version=RICH.version) == RICH


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (f'"format":{FORMAT}', f'"format":{FORMAT + 1}'),
        ('"shipping":{},"status":"PAID"', '"shipping":{},"status":"PARKED"'),
        ('"exceptions":[', '"exceptions":["surprised",'),
        ('"attempts":[{', '"attempts":[{"state":"lent",'),
        ('"hints":[{', '"hints":[{"state":"believed",'),
        ('"reason":"callback"', '"reason":"whim"'),
        ('"claim":{', '"custody":"shared","claim":{'),
    ],
)
def test_a_word_of_a_later_release_is_refused_whatever_it_declares(ours: str, theirs: str) -> None:
    session = replace(RICH, exceptions=frozenset({"late"}), hints=(replace(RICH.hints[0], state="waiting"),))
    document = grown(session, *GIFT).decode()
    changed = document.replace('"state":"paid"', '"was":1') if "lent" in theirs else document
    assert changed.count(ours) == 1
    decode(changed.encode(), 1)
    with pytest.raises(UnreadableDocument):
        decode(changed.replace(ours, theirs).encode(), 1)


def gifts(session: Session) -> dict[str, int]:
    """How many objects of each level still hold the later field."""
    found: dict[str, int] = {}
    for level, one in objects(json.loads(encode(session))):
        found[level] = found.get(level, 0) + (GIFT[0] in one)
    return found


def opened_by_a_later_release() -> Session:
    session = steps.opened(
        Session(
            id="S1", user_id="u1", amount=100_00, created_at=0, expires_at=10**9,
            items=imported(old(), 9).items, discount=Discount(code="SPRING", amount=0),
        ),
        sender_invoice_no="TB1", deadline=9,
    )  # fmt: skip
    return decode(grown(replace(session, asks=schedule.Asks(day=1)), *GIFT), 1)


def test_no_step_from_opening_to_orders_loses_what_a_later_release_added() -> None:
    story = Story(opened_by_a_later_release()).invoiced().hinted("p").asked()
    story.step(lambda s: steps.unanswered(s, schedule.Reason.CALLBACK, story.now))
    story.asked().answered(seen("p", 100))
    assert story.session.status is Status.PAID
    kept = gifts(story.session)
    assert kept == {
        "session": 1, "items": 2, "discount": 1, "attempts": 1, "asks": 1, "order items": 2,
        "orders": 0, "payments": 0, "hints": 0,  # made by this release, which gives them no such field
    }  # fmt: skip


CLOSING: dict[str, Callable[[Story], Story]] = {
    "expired": lambda story: story.expired(),
    "cancelled": lambda story: story.cancelled(),
    "refunded": lambda story: story.asked().answered(seen("p", 60, "REFUNDED")),
    "paid": lambda story: story.asked().learned(answer(seen("p", 60), seen("q", 40))),
    "superseded": lambda story: story.invoiced(2),
    "a day later": lambda story: story.at(86_400).asked(),
}


@pytest.mark.parametrize("how", CLOSING)
def test_no_end_of_a_session_loses_what_a_later_release_added(how: str) -> None:
    half = Story(opened_by_a_later_release()).invoiced().hinted("p").asked().answered(seen("p", 60)).session
    before = decode(grown(half, *GIFT), half.version)
    after = CLOSING[how](Story(before)).session
    had, has = gifts(before), gifts(after)
    assert {level: number for level, number in had.items() if level != "looks"}.items() <= has.items()
    assert after.additions == NEWER


def test_reading_the_old_shop_again_loses_nothing_of_a_later_release() -> None:
    before = decode(grown(imported(old(), 9), *GIFT), 1)
    again = reimported(before, old(updated_at=10**15), 10)
    assert gifts(again)["session"] == gifts(again)["attempts"] == 1
    moved = taken_over(again.committed(), 11, look_at=12)
    assert gifts(moved)["session"] == 1
    done = decode(grown(imported(old(OldStatus.PROCESSED, orders=ORDERED), 9), *GIFT), 1)
    assert gifts(reimported(done, old(OldStatus.PROCESSED, orders=ORDERED, updated_at=10**15), 10))["orders"] == 2


def over(session: Session) -> Session:
    """The same, with nothing left that keeps it from being blanked."""
    hints = tuple(replace(hint, state=HintState.FOREIGN) for hint in session.hints)
    payments = tuple(replace(p, held=0, refund_due=0, refunds=()) for p in session.payments)
    return replace(session, custody=Custody.OURS, status=Status.PAID, looks=(), hints=hints, payments=payments)


def test_blanking_takes_later_fields_out_for_they_may_be_somebodys_data() -> None:
    session = over(decode(grown(RICH, *GIFT), 4))
    after = blanked(session, 10**16)
    assert {level for level, number in gifts(after).items() if number} == {"orders", "order items", "asks"}
    assert decode(encode(after), 4) == replace(after, version=4, news=())
