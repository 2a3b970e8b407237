from dataclasses import replace

import pytest
from tests.core.stories import NOON, opened, seen, started

from proving.laws import money
from tulbur.core.codec import encode
from tulbur.core.orders import Item
from tulbur.core.retention import blanked
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


@pytest.mark.parametrize("tugrik", [0, 60])
def test_a_blanked_session_keeps_every_key_and_tugrik_and_nobodys_data(tugrik: int) -> None:
    story = started()
    story.session = told_much(story.session)
    if tugrik:
        story.answered(seen("p1", tugrik, raw='{"account": "5000"}'))
    story.expired()
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


def test_what_an_order_holds_stays_with_it() -> None:
    story = started()
    story.session = told_much(story.session)
    story.answered(seen("p1", 100))
    assert blanked(story.session, NOON).orders == story.session.orders
    assert opened().orders == ()
