from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.core.stories import NOON, Story, opened, seen, started

from proving.laws import money
from tulbur.core.codec import encode
from tulbur.core.custody import Custody
from tulbur.core.orders import Item
from tulbur.core.refunding import refund_closed, refund_requested
from tulbur.core.retention import blanked, unsettled
from tulbur.core.reviewing import assigned
from tulbur.core.rules import Rules
from tulbur.core.session import Link

SECRETS = ("Дорж", "Улаанбаатар", "khanbank://", "gift", "account")


def told_much(session: object) -> object:
    item = Item(shop_id="a", product_id="p", title="gift", quantity=1, unit_price=100_00)
    (attempt,) = session.attempts
    return replace(
        session,
        items=(item,),
        shipping={"name": "Дорж", "city": "Улаанбаатар"},
        metadata={"note": "gift for Дорж"},
        description="gift",
        return_url="https://shop.example/Дорж",
        attempts=(replace(attempt, links=(Link("Khan", "", "", "khanbank://q?QR1"),)),),
    )


@pytest.mark.parametrize("paid_back", [False, True])
def test_a_blanked_session_keeps_every_key_and_tugrik_and_nobodys_data(*, paid_back: bool) -> None:
    story = started()
    story.session = told_much(story.session)
    if paid_back:
        story.answered(seen("p1", 60, raw='{"account": "5000"}'))
    story.expired()
    if paid_back:
        story.step(lambda s: refund_closed(s, "p1", None, by="Сараа", reference="R-1", note="gift", now=story.now))
    before = story.session
    after = blanked(before, NOON)
    kept = encode(after).decode()
    assert not [secret for secret in SECRETS if secret in kept]
    assert money(after) == money(before)
    assert [(a.id, a.sender_invoice_no, a.state) for a in after.attempts] == [
        (a.id, a.sender_invoice_no, a.state) for a in before.attempts
    ]
    assert blanked(after, NOON + 1) is after
    assert [event.type for event in after.news] == ["session.blanked"]


def test_what_qpay_says_of_a_blanked_session_is_not_kept_for_ever() -> None:
    """It is not blanked again: a second payment or a refund a year later must not bring anybody's account along."""
    story = paid()
    story.step(lambda s: blanked(s, NOON))
    account = '{"account": "5000"}'
    story.answered(seen("p1", 100, raw=account), seen("p2", 100, raw=account), complete=False)
    story.answered(seen("p1", 100, "REFUNDED", raw=account), seen("p2", 100, raw=account))
    theirs = seen("p3", 100, invoice_id="inv9", raw=account)
    story.step(lambda s: assigned(s, theirs, by="Сараа", note="", now=story.now, rules=Rules()))
    assert [p.id for p in story.session.payments] == ["p1", "p2", "p3"]
    assert "account" not in encode(story.session).decode()


def test_what_an_order_holds_stays_with_it() -> None:
    story = started()
    story.session = told_much(story.session)
    story.answered(seen("p1", 100))
    assert blanked(story.session, NOON).orders == story.session.orders
    assert opened().orders == ()


def paid() -> Story:
    return started().answered(seen("p1", 100, method="CARD"))


NOT_OVER: dict[str, Callable[[], Story]] = {
    "it waits for money": started,
    "money is held": lambda: started().answered(seen("p1", 60)),
    "money is due back": lambda: started().answered(seen("p1", 60)).expired(),
    "more came than the amount": lambda: paid().answered(seen("p1", 100), seen("p2", 100)),
    "a look is planned": lambda: paid().hinted("p9"),
    "QPay was asked to give it back": lambda: back(paid(), 100),
    "a person gives part of it back": lambda: back(paid(), 30),
}


def back(story: Story, tugrik: int) -> Story:
    story.step(lambda s: refund_requested(s, "p1", tugrik * 100, by="Сараа", note="", now=story.now))
    return story


@pytest.mark.parametrize("why", NOT_OVER)
def test_what_is_not_over_is_not_blanked(why: str) -> None:
    session = NOT_OVER[why]().session
    assert blanked(session, NOON) is session


@pytest.mark.parametrize("custody", [Custody.FOLLOWED, Custody.HANDED_OVER])
def test_what_is_the_old_shops_is_not_blanked(custody: Custody) -> None:
    session = replace(paid().session, custody=custody)
    assert blanked(session, NOON) is session
    assert unsettled(session)


def test_a_waiting_hint_alone_keeps_it_whole() -> None:
    session = replace(paid().hinted("p9").session, looks=())
    assert blanked(session, NOON) is session
