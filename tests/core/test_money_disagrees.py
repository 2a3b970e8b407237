"""A table of the ways in which money and session disagree, and what each comes to: too little and too much."""

from collections.abc import Callable
from typing import Final

import pytest
from tests.core.stories import DUE, NAMED, ORDERED, SEEN, Outcome, Story, dated, seen, started

from tulbur.core.session import Status

CASES: Final[dict[str, tuple[Callable[[Story], Story], Outcome]]] = {}


def tell(name: str, story: Callable[[Story], Story], outcome: Outcome) -> None:
    CASES[name] = (story, outcome)


# --- no disagreement -------------------------------------------------------------------------------------------------

tell("nothing", lambda s: s.answered(), Outcome(Status.PENDING))
tell(
    "exact",
    lambda s: s.answered(seen("p", 100)),
    Outcome(Status.PAID, money={"p": "100 ordered"}, told=f"{SEEN} {ORDERED}"),
)
tell(
    "part and part",
    lambda s: s.answered(seen("p", 60), seen("q", 40)),
    Outcome(
        Status.PAID,
        money={"p": "60 ordered", "q": "40 ordered"},
        told=f"{SEEN} {SEEN} {ORDERED}",
    ),
)
for status in ("NEW", "FAILED", "SOMETHING_NEW", ""):
    tell(
        f"a payment that is {status or 'nameless'}",
        lambda s, status=status: s.answered(seen("p", 100, status)),
        Outcome(Status.PENDING, money={"p": ""}, told=SEEN),
    )

# --- too little ------------------------------------------------------------------------------------------------------

tell(
    "short",
    lambda s: s.answered(seen("p", 60)),
    Outcome(Status.PENDING, {"underpaid"}, {"p": "60 held"}, f"{SEEN} {NAMED}"),
)
tell(
    "short, then the rest",
    lambda s: s.answered(seen("p", 60)).answered(seen("p", 60), seen("q", 40)),
    Outcome(Status.PAID, set(), {"p": "60 ordered", "q": "40 ordered"}, f"{SEEN} {NAMED} {SEEN} {ORDERED}"),
)
tell(
    "short, then too much",
    lambda s: s.answered(seen("p", 60)).answered(seen("q", 60)),
    Outcome(
        Status.PAID,
        {"overpaid"},
        {"p": "60 ordered", "q": "40 ordered, 20 refund_due"},
        f"{SEEN} {NAMED} {SEEN} {ORDERED} {DUE} {NAMED}",
    ),
)
tell(
    "short, then nothing shown any more",
    lambda s: s.answered(seen("p", 60)).answered(),
    Outcome(Status.PENDING, {"underpaid"}, {"p": "60 held"}, f"{SEEN} {NAMED}"),
)
tell(
    "short by an incomplete reading",
    lambda s: s.answered(seen("p", 60), complete=False),
    Outcome(Status.PENDING, set(), {"p": "60 held"}, SEEN),
)
tell(
    "exact by an incomplete reading",
    lambda s: s.answered(seen("p", 100), complete=False),
    Outcome(Status.PAID, set(), {"p": "100 ordered"}, f"{SEEN} {ORDERED}"),
)
tell(
    "underpaid stays so by an incomplete reading",
    lambda s: s.answered(seen("p", 60)).answered(complete=False),
    Outcome(Status.PENDING, {"underpaid"}, {"p": "60 held"}, f"{SEEN} {NAMED}"),
)
tell(
    "PARTIAL money is received but does not pay",
    lambda s: s.answered(seen("p", 100, "PARTIAL")),
    Outcome(Status.PENDING, {"underpaid"}, {"p": "100 held"}, f"{SEEN} {NAMED}"),
)
tell(
    "PARTIAL, then PAID in full",
    lambda s: s.answered(seen("p", 60, "PARTIAL")).answered(seen("p", 100)),
    Outcome(Status.PAID, set(), {"p": "100 ordered"}, f"{SEEN} {NAMED} {SEEN} {ORDERED}"),
)
tell(
    "PAID and PARTIAL beside it",
    lambda s: s.answered(seen("p", 60), seen("q", 40, "PARTIAL")),
    Outcome(
        Status.PENDING,
        {"underpaid"},
        {"p": "60 held", "q": "40 held"},
        f"{SEEN} {SEEN} {NAMED}",
    ),
)
tell(
    "short at the deadline",
    lambda s: s.answered(seen("p", 60)).expired(),
    Outcome(Status.EXPIRED, {"underpaid"}, {"p": "60 refund_due"}, f"{SEEN} {NAMED} {DUE} session.expired"),
)
tell(
    "short when it is cancelled",
    lambda s: s.answered(seen("p", 60)).cancelled(),
    Outcome(Status.CANCELLED, {"underpaid"}, {"p": "60 refund_due"}, f"{SEEN} {NAMED} {DUE} session.cancelled"),
)
tell(
    "money due back still counts",
    lambda s: s.answered(seen("p", 60)).expired().answered(seen("q", 40, paid_at=dated(1700))),
    Outcome(
        Status.PAID,
        set(),
        {"p": "60 ordered", "q": "40 ordered"},
        f"{SEEN} {NAMED} {DUE} session.expired {SEEN} {ORDERED}",
    ),
)

# --- too much --------------------------------------------------------------------------------------------------------

tell(
    "over",
    lambda s: s.answered(seen("p", 150)),
    Outcome(
        Status.PAID,
        {"overpaid"},
        {"p": "100 ordered, 50 refund_due"},
        f"{SEEN} {ORDERED} {DUE} {NAMED}",
    ),
)
tell(
    "paid twice, seen at once",
    lambda s: s.answered(seen("p", 100), seen("q", 100)),
    Outcome(
        Status.PAID,
        {"paid_twice"},
        {"p": "100 ordered", "q": "100 refund_due"},
        f"{SEEN} {SEEN} {ORDERED} {DUE} {NAMED}",
    ),
)
tell(
    "paid twice, seen one by one",
    lambda s: s.answered(seen("p", 100)).answered(seen("p", 100), seen("q", 100)),
    Outcome(
        Status.PAID,
        {"paid_twice"},
        {"p": "100 ordered", "q": "100 refund_due"},
        f"{SEEN} {ORDERED} {SEEN} {DUE} {NAMED}",
    ),
)
tell(
    "over, then paid again: it is paid twice, and no longer only overpaid",
    lambda s: s.answered(seen("p", 150)).answered(seen("q", 100)),
    Outcome(
        Status.PAID,
        {"paid_twice"},
        {"p": "100 ordered, 50 refund_due", "q": "100 refund_due"},
        f"{SEEN} {ORDERED} {DUE} {NAMED} {SEEN} {DUE} {NAMED}",
    ),
)
tell(
    "a part, then all of it",
    lambda s: s.answered(seen("p", 60), seen("q", 100)),
    Outcome(
        Status.PAID,
        {"paid_twice"},
        {"p": "60 ordered", "q": "40 ordered, 60 refund_due"},
        f"{SEEN} {SEEN} {ORDERED} {DUE} {NAMED}",
    ),
)
tell(
    "PARTIAL beside an order becomes PAID: what is ordered stays ordered",
    lambda s: s.answered(seen("p", 60, "PARTIAL"), seen("q", 100)).answered(seen("p", 60)),
    Outcome(
        Status.PAID,
        {"paid_twice"},
        {"p": "60 refund_due", "q": "100 ordered"},
        f"{SEEN} {SEEN} {ORDERED} {DUE} {NAMED} {SEEN}",
    ),
)
tell(
    "two invoices paid",
    lambda s: s.invoiced(2).answered(seen("p", 100)).answered(seen("q", 100), invoice="inv2"),
    Outcome(
        Status.PAID,
        {"paid_twice"},
        {"p": "100 ordered", "q": "100 refund_due"},
        f"session.invoiced {SEEN} {ORDERED} {SEEN} {DUE} {NAMED}",
    ),
)
tell(
    "one half on each of two invoices",
    lambda s: s.invoiced(2).answered(seen("p", 50)).answered(seen("q", 50), invoice="inv2"),
    Outcome(
        Status.PAID,
        set(),
        {"p": "50 ordered", "q": "50 ordered"},
        f"session.invoiced {SEEN} {NAMED} {SEEN} {ORDERED}",
    ),
)


@pytest.mark.parametrize("name", CASES)
def test_money_that_disagrees(name: str) -> None:
    story, outcome = CASES[name]
    outcome.judge(story(started()))
