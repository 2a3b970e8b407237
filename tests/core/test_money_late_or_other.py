"""A table of the ways in which money and session disagree, and what each comes to: other money, refunds, late money."""

from collections.abc import Callable
from typing import Final

import pytest
from tests.core.stories import BACK, DUE, NAMED, ORDERED, SEEN, Outcome, Story, dated, seen, started

from tulbur.core.session import Status
from tulbur.core.settling import Evidence

LATER: Final = 3600
"""Seconds after noon, past the deadline at 1800."""

CASES: Final[dict[str, tuple[Callable[[Story], Story], Outcome]]] = {}


def tell(name: str, story: Callable[[Story], Story], outcome: Outcome) -> None:
    CASES[name] = (story, outcome)


# --- other money -----------------------------------------------------------------------------------------------------

tell(
    "wrong currency",
    lambda s: s.answered(seen("p", 100, currency="USD")),
    Outcome(Status.PENDING, {"wrong_currency"}, {"p": "100 held"}, f"{SEEN} {NAMED}"),
)
tell(
    "wrong currency beside the right one",
    lambda s: s.answered(seen("p", 100, currency="USD"), seen("q", 100)),
    Outcome(
        Status.PAID,
        {"wrong_currency"},
        {"p": "100 refund_due", "q": "100 ordered"},
        f"{SEEN} {SEEN} {ORDERED} {DUE} {NAMED}",
    ),
)
tell(
    "a currency that shows itself only when paid",
    lambda s: s.answered(seen("p", 100, "NEW")).answered(seen("p", 100, currency="USD")),
    Outcome(Status.PENDING, {"wrong_currency"}, {"p": "100 held"}, f"{SEEN} {SEEN} {NAMED}"),
)
tell(
    "the right currency shows itself only when paid",
    lambda s: s.answered(seen("p", 1, "NEW", currency="USD")).answered(seen("p", 100)),
    Outcome(Status.PAID, set(), {"p": "100 ordered"}, f"{SEEN} {SEEN} {ORDERED}"),
)
tell(
    "wrong currency at the deadline",
    lambda s: s.answered(seen("p", 100, currency="USD")).expired(),
    Outcome(Status.EXPIRED, {"wrong_currency"}, {"p": "100 refund_due"}, f"{SEEN} {NAMED} {DUE} session.expired"),
)
tell(
    "a payment on another's invoice",
    lambda s: s.answered(seen("p", 100), invoice="theirs"),
    Outcome(Status.PENDING),
)
tell(
    "a payment looked up on another's invoice",
    lambda s: s.learned(Evidence(looked_up=(seen("p", 100, invoice_id="theirs"),))),
    Outcome(Status.PENDING),
)
tell(
    "looked up as paid on another's invoice, though ours shows it unpaid",
    lambda s: s.answered(seen("p", 100, "NEW"), looked_up=(seen("p", 100, invoice_id="theirs"),)),
    Outcome(Status.PENDING, set(), {"p": ""}, SEEN),
)
tell(
    "looked up on our invoice before that shows it",
    lambda s: s.answered(looked_up=(seen("p", 100, invoice_id="inv1"),)),
    Outcome(Status.PAID, set(), {"p": "100 ordered"}, f"{SEEN} {ORDERED}"),
)
tell(
    "contested: another session holds it",
    lambda s: s.answered(seen("p", 100), taken=frozenset({"p"})),
    Outcome(Status.PENDING, {"contested"}, {}, NAMED),
)
tell(
    "contested beside enough money",
    lambda s: s.answered(seen("p", 100), seen("q", 100), taken=frozenset({"p"})),
    Outcome(Status.PAID, {"contested"}, {"q": "100 ordered"}, f"{SEEN} {ORDERED} {NAMED}"),
)

# --- refunds ---------------------------------------------------------------------------------------------------------

tell(
    "refunded before the order",
    lambda s: s.answered(seen("p", 100, "REFUNDED")),
    Outcome(Status.PENDING, {"refunded"}, {"p": "100 refunded"}, f"{BACK} {NAMED}"),
)
tell(
    "a part refunded before the order",
    lambda s: s.answered(seen("p", 60)).answered(seen("p", 60, "REFUNDED")),
    Outcome(Status.PENDING, {"refunded"}, {"p": "60 refunded"}, f"{SEEN} {NAMED} {BACK} {NAMED}"),
)
tell(
    "refunded after the order",
    lambda s: s.answered(seen("p", 100)).answered(seen("p", 100, "REFUNDED")),
    Outcome(Status.PAID, {"refunded"}, {"p": "100 refunded"}, f"{SEEN} {ORDERED} {BACK} {NAMED}"),
)
tell(
    "refunded, then shown as paid again",
    lambda s: s.answered(seen("p", 100, "REFUNDED")).answered(seen("p", 100)),
    Outcome(Status.PENDING, {"refunded"}, {"p": "100 refunded"}, f"{BACK} {NAMED}"),
)
tell(
    "a refund does not rewrite what was received",
    lambda s: s.answered(seen("p", 100)).answered(seen("p", 0, "REFUNDED")),
    Outcome(Status.PAID, {"refunded"}, {"p": "100 refunded"}, f"{SEEN} {ORDERED} {BACK} {NAMED}"),
)
tell(
    "paid twice, the second refunded: nothing is owed any more",
    lambda s: s.answered(seen("p", 100), seen("q", 100)).answered(seen("q", 100, "REFUNDED")),
    Outcome(
        Status.PAID,
        {"refunded"},
        {"p": "100 ordered", "q": "100 refunded"},
        f"{SEEN} {SEEN} {ORDERED} {DUE} {NAMED} {BACK} {NAMED}",
    ),
)
tell(
    "paid twice, the first refunded: the second pays the order",
    lambda s: s.answered(seen("p", 100), seen("q", 100)).answered(seen("p", 100, "REFUNDED")),
    Outcome(
        Status.PAID,
        {"refunded"},
        {"p": "100 refunded", "q": "100 ordered"},
        f"{SEEN} {SEEN} {ORDERED} {DUE} {NAMED} {BACK} {NAMED}",
    ),
)

tell(
    "refunded after the order, then a part: new money fills what is missing",
    lambda s: s.answered(seen("p", 100)).answered(seen("p", 100, "REFUNDED")).answered(seen("q", 60)),
    Outcome(
        Status.PAID,
        {"refunded"},
        {"p": "100 refunded", "q": "60 ordered"},
        f"{SEEN} {ORDERED} {BACK} {NAMED} {SEEN}",
    ),
)

# --- late ------------------------------------------------------------------------------------------------------------

tell(
    "late by QPay's date",
    lambda s: s.expired().at(LATER).answered(seen("p", 100, paid_at=dated(1801))),
    Outcome(Status.PAID, {"late"}, {"p": "100 ordered"}, f"session.expired {SEEN} {NAMED} {ORDERED}"),
)
tell(
    "not late: QPay's date is before the deadline",
    lambda s: s.expired().at(LATER).answered(seen("p", 100, paid_at=dated(1799))),
    Outcome(Status.PAID, set(), {"p": "100 ordered"}, f"session.expired {SEEN} {ORDERED}"),
)
tell(
    "not late: paid at the very deadline",
    lambda s: s.expired().at(LATER).answered(seen("p", 100, paid_at=dated(1800))),
    Outcome(Status.PAID, set(), {"p": "100 ordered"}, f"session.expired {SEEN} {ORDERED}"),
)
tell(
    "late by first sight, for want of a date",
    lambda s: s.expired().at(LATER).answered(seen("p", 100)),
    Outcome(Status.PAID, {"late"}, {"p": "100 ordered"}, f"session.expired {SEEN} {NAMED} {ORDERED}"),
)
tell(
    "late though the status is pending still",
    lambda s: s.at(LATER).answered(seen("p", 100)),
    Outcome(Status.PAID, {"late"}, {"p": "100 ordered"}, f"{SEEN} {NAMED} {ORDERED}"),
)
tell(
    "late: seen as NEW in time, as PAID after the deadline",
    lambda s: s.answered(seen("p", 100, "NEW")).at(LATER).answered(seen("p", 100)),
    Outcome(
        Status.PAID,
        {"late"},
        {"p": "100 ordered"},
        f"{SEEN} {SEEN} {NAMED} {ORDERED}",
    ),
)
tell(
    "late: only the last part is",
    lambda s: s.answered(seen("p", 60)).at(LATER).answered(seen("q", 40)),
    Outcome(
        Status.PAID,
        {"late"},
        {"p": "60 ordered", "q": "40 ordered"},
        f"{SEEN} {NAMED} {SEEN} {NAMED} {ORDERED}",
    ),
)
tell(
    "not late: a second payment after the deadline is only one too many",
    lambda s: s.answered(seen("p", 100)).at(LATER).answered(seen("q", 100)),
    Outcome(
        Status.PAID,
        {"paid_twice"},
        {"p": "100 ordered", "q": "100 refund_due"},
        f"{SEEN} {ORDERED} {SEEN} {DUE} {NAMED}",
    ),
)
tell(
    "not late: both are seen at once, and the first covers the amount in time",
    lambda s: s.at(LATER).answered(seen("p", 100, paid_at=dated(1000)), seen("q", 100, paid_at=dated(1900))),
    Outcome(
        Status.PAID,
        {"paid_twice"},
        {"p": "100 ordered", "q": "100 refund_due"},
        f"{SEEN} {SEEN} {ORDERED} {DUE} {NAMED}",
    ),
)
tell(
    "not late: the date comes by a look-up after the first sight",
    lambda s: (
        s.at(LATER)
        .answered(seen("p", 60), complete=False)
        .learned(Evidence(looked_up=(seen("p", 60, invoice_id="inv1", paid_at=dated(1000)),)))
        .answered(seen("q", 40, paid_at=dated(1100)))
    ),
    Outcome(
        Status.PAID,
        set(),
        {"p": "60 ordered", "q": "40 ordered"},
        f"{SEEN} {SEEN} {ORDERED}",
    ),
)
tell(
    "late in part: too little, after the deadline",
    lambda s: s.expired().at(LATER).answered(seen("p", 60)),
    Outcome(
        Status.EXPIRED,
        {"underpaid"},
        {"p": "60 refund_due"},
        f"session.expired {SEEN} {DUE} {NAMED}",
    ),
)
tell(
    "after cancelling",
    lambda s: s.cancelled().answered(seen("p", 100)),
    Outcome(
        Status.PAID,
        {"after_cancel"},
        {"p": "100 ordered"},
        f"session.cancelled {SEEN} {NAMED} {ORDERED}",
    ),
)
tell(
    "after cancelling, and late",
    lambda s: s.cancelled().at(LATER).answered(seen("p", 150)),
    Outcome(
        Status.PAID,
        {"after_cancel", "late", "overpaid"},
        {"p": "100 ordered, 50 refund_due"},
        f"session.cancelled {SEEN} {NAMED} {NAMED} {ORDERED} {DUE} {NAMED}",
    ),
)


@pytest.mark.parametrize("name", CASES)
def test_money_that_is_late_or_other(name: str) -> None:
    story, outcome = CASES[name]
    outcome.judge(story(started()))
