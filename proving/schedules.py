"""One seed, one run, one verdict: a story under faults, then peace, in which every paid session must reach its end."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final

from proving.acts import bills, checkout, deliver, story
from proving.faults import Fault, Faults, nobody, swarm
from proving.loop import Loop
from proving.oracle import Broken, told_by
from proving.payers import Checkout
from proving.world import SOUND, Gone, Parts, World
from tulbur.core.session import SECOND, ExceptionName, HintState, Reason, Session, Status
from tulbur.errors import TulburError

MOST_ROUNDS: Final = 200
"""Times the rest is waited for; each is as long as the next look is away."""

MARGIN_SECONDS: Final = 400
"""Between money that shows and the end of a session: slow answers, a slow store, and two clocks minutes apart."""


@dataclass(frozen=True)
class Recipe:
    """What is run: a seed, and what of its faults and checkouts is left out to make the story shorter."""

    seed: int
    without: frozenset[Fault] = frozenset()
    most_checkouts: int = 5


@dataclass
class Verdict:
    """What came of a run; `broken` is "" when every law held."""

    recipe: Recipe
    broken: str
    counts: Counter[Fault]
    outcomes: Counter[str]
    steps: int
    commits: int
    trace: list[str] = field(default_factory=list)


class Defects(logging.Handler):
    """Hears what the worker logs of errors nobody foresaw, so that they break the run instead of being survived."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: Callable[[Broken], None] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if self.heard is not None:
            self.heard(Broken(f"an error nobody foresaw: {record.getMessage()}: {error!r}"))


DEFECTS: Final = Defects()


@contextmanager
def listening() -> Iterator[None]:
    """Hear what the worker could not help, and nothing else of what it says: that is part of every run."""
    log = logging.getLogger("tulbur")
    before = log.propagate, log.level
    log.propagate = False
    log.setLevel(logging.ERROR)
    log.addHandler(DEFECTS)
    try:
        yield
    finally:
        log.removeHandler(DEFECTS)
        log.propagate = before[0]
        log.setLevel(before[1])


def run(recipe: Recipe, *, trace: bool = False, parts: Parts = SOUND) -> Verdict:
    """Run one seed; the same recipe is the same run, with or without a trace."""
    seed = recipe.seed
    loop = Loop(Random(f"{seed} order"))  # type: ignore[abstract]  # what it has not, nobody may use
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(f"{loop.time():>12.3f}  {line}")

    hear = tell if trace else nobody
    odds = swarm(Random(f"{seed} swarm"), recipe.without)
    faults = Faults(Random(f"{seed} faults"), odds, hear)
    world = World(loop, faults, Random(f"{seed} world"), hear, parts)
    outcomes: Counter[str] = Counter()
    broken = ""
    DEFECTS.heard = world.broken
    try:
        loop.run_until_complete(_run(world, recipe, outcomes))
    except AssertionError as error:
        broken = told_by(error)
    unheard = loop.unheard()
    if unheard and not broken:
        broken = f"an error nobody heard: {unheard[0]!r}"
    loop.close()
    return Verdict(recipe, broken, faults.counts, outcomes, loop.steps, world.oracle.commits, lines)


async def _run(w: World, recipe: Recipe, outcomes: Counter[str]) -> None:
    count = w.rng.choice((1, 1, 2, 2, 3, 5))
    checkouts = [checkout(w, number) for number in range(count)][: recipe.most_checkouts]
    await asyncio.gather(*(story(w, c) for c in checkouts))
    w.tell("--- from here on nothing fails")
    w.faults.calm = True
    await _rest(w)
    w.oracle.at_rest()
    opened = [c for c in checkouts if c.session_id is not None]
    for c in opened:
        with w.oracle.judging(str(c.session_id)):
            _judge_alone(w, c)
    await _helped(w, opened)
    await _rest(w)
    w.oracle.at_rest()
    for c in opened:
        with w.oracle.judging(str(c.session_id)):
            _judge_ended(w, c)
            session = w.oracle.stored(str(c.session_id))
            outcomes[session.status.value] += 1
            outcomes.update(name.value for name in session.exceptions)


async def _rest(w: World) -> None:
    """Until nothing is due and every event has its number."""
    for _ in range(MOST_ROUNDS):
        due = w.next_due()
        if due is None and not w.data.waiting:
            await asyncio.sleep(MARGIN_SECONDS)
            if w.next_due() is None:
                return
            continue
        away = (due - w.clock()) / SECOND if due is not None else 0
        await asyncio.sleep(max(away, 0) + MARGIN_SECONDS)
    raise Broken("law 2: it never comes to rest")


# --- what must have come about by itself ----------------------------------------------------------------------------


def _judge_alone(w: World, c: Checkout) -> None:
    """Money that showed in time, and money whose callback was answered SUCCESS, has its end without anybody's help."""
    session = w.oracle.stored(str(c.session_id))
    if _is_contested(w, session):
        return
    known = {p.id for p in session.payments if p.received}
    truth = _received(w, c)
    for session_id, payment_id in w.oracle.promised:
        if session_id == session.id and payment_id in truth and not _is_named(w, session, payment_id):
            assert payment_id in known, "law 5: SUCCESS was promised, and the money is not known"
    if any(bill.id in w.sight.lied for bill in bills(w, c)):
        return
    for payment_id in truth:
        if _in_time(w, session, payment_id):
            assert payment_id in known, "law 2: money that QPay showed in time was not found"


def _is_named(w: World, session: Session, payment_id: str) -> bool:
    """Whether a person can see that this payment was named and never shown: as unconfirmed, or as unmatched."""
    named = any(h.payment_id == payment_id and h.state is HintState.UNCONFIRMED for h in session.hints)
    return named or _is_unmatched(w, payment_id)


def _is_unmatched(w: World, payment_id: str) -> bool:
    row = w.data.payments.get(payment_id)
    return row is not None and row["session_id"] is None


def _in_time(w: World, session: Session, payment_id: str) -> bool:
    """Whether QPay showed it well before the session was closed, on an invoice the session had by then."""
    closed_at = w.oracle.closed_at.get(session.id)
    if closed_at is None or session.cancelled_at is not None:
        return False
    payment = next(p for bill in w.qpay.bills.values() for p in bill.payments if p.id == payment_id)
    known = any(attempt.id == payment.invoice_id for attempt in session.attempts)
    return known and w.sight.from_[payment_id] <= closed_at - MARGIN_SECONDS * SECOND


def _is_contested(w: World, session: Session) -> bool:
    """Whether QPay has shown a payment to two sessions: whoever saw it first has it, and the other is told by name."""
    own = {p.id for bill in w.qpay.bills.values() for p in bill.payments if _is_of(session, bill.id)}
    own |= {p.id for p in session.payments}
    return ExceptionName.CONTESTED in session.exceptions or bool(own & w.sight.elsewhere)


def _is_of(session: Session, invoice_id: str) -> bool:
    return any(attempt.id == invoice_id for attempt in session.attempts)


# --- what must have come about in the end ----------------------------------------------------------------------------


async def _helped(w: World, checkouts: Sequence[Checkout]) -> None:
    """What waits for a person or the daily list of payments: each is looked at once, and lost callbacks come."""
    shown_at = max(w.sight.from_.values(), default=0)
    await asyncio.sleep(max(shown_at - w.clock(), 0) / SECOND)
    for c in checkouts:
        session = w.oracle.stored(str(c.session_id))
        known = {p.id: p.status for p in session.payments}
        missing = [id_ for id_, status in _received(w, c).items() if known.get(id_) != status]
        for payment_id in missing:
            assert await deliver(w, c, payment_id), "law 10: a callback that nothing hinders is answered"
        if missing:
            await _looked_at(w, session.id)


async def _looked_at(w: World, session_id: str) -> None:
    await asyncio.sleep(60)
    try:
        await w.ask(lambda payments: payments.check(session_id, Reason.OPERATOR))
    except (Gone, TulburError) as error:
        raise Broken(f"law 2: a person cannot look at it: {error!r}") from error


def _judge_ended(w: World, c: Checkout) -> None:
    """Every tugrik QPay has is known, and enough of it is an order."""
    session = w.oracle.stored(str(c.session_id))
    if _is_contested(w, session):
        return
    # What came after a flood of made-up ids is named as unmatched, where no invoice of ours leads to it.
    truth = {id_: status for id_, status in _received(w, c).items() if not _is_unmatched(w, id_)}
    known = {p.id: p.status for p in session.payments if p.received}
    assert known == truth, f"law 9: every tugrik is accounted for: QPay has {truth}, we know {known}"
    waiting = [hint for hint in session.hints if hint.state is HintState.WAITING]
    assert not waiting, "law 2: a hint still waits"
    _judge_names(w, session)
    payments = [p for bill in bills(w, c) for p in bill.payments]
    covering = sum(p.amount for p in payments if p.id in truth and p.status == "PAID" and p.currency == "MNT")
    if covering >= session.amount:
        assert session.status is Status.PAID, "law 2: paid means ordered"


def _judge_names(w: World, session: Session) -> None:
    """Whatever money and session disagree about has its name."""
    names = session.exceptions
    if any(p.refund_due or p.held for p in session.payments):
        assert names, "law 2: money that is no order has a name"
    if session.sum("received") > session.amount and session.status is Status.PAID:
        named = names & {ExceptionName.OVERPAID, ExceptionName.PAID_TWICE, ExceptionName.REFUNDED}
        assert named, "law 2: more money than asked has a name"
    if session.status is not Status.PAID:
        return
    assert (session.cancelled_at is None) or ExceptionName.AFTER_CANCEL in names, "law 2: paid after cancelling"
    dates = {p.id: p.paid_at or 0 for bill in w.qpay.bills.values() for p in bill.payments}
    paid_at = max((dates[p.id] for p in session.payments if p.ordered), default=0)
    if paid_at > session.expires_at + 2 * MARGIN_SECONDS * SECOND:
        assert ExceptionName.LATE in names, "law 2: late money is called late"


def _received(w: World, c: Checkout) -> dict[str, str]:
    return {p.id: p.status for bill in bills(w, c) for p in bill.payments}
