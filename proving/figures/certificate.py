"""Faulty days, one after another: `prove` says before each sweep what is missing, and after it that nothing is."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from random import Random
from typing import Final, TypeAlias

from proving.figures.figure import Figure
from proving.killing import Clock, Fault, Killer, Shop, ended, foreign_bill
from proving.loop import Loop
from proving.qpay import SmallQPay
from tulbur.core.certificate import Certificate
from tulbur.core.schedule import DAY
from tulbur.core.session import Micros
from tulbur.payments.certifying import prove
from tulbur.payments.desk import Desk
from tulbur.payments.sweeping import sweep
from tulbur.stores.memory import MemoryStore

DAYS: Final = 30
"""Days of one shop; the books of each run are read by every certificate, and grow."""

CALLBACK_LOST: Final = "callback lost"
CALLBACK_DYING: Final = "callback to a process that dies or fails"
OPENING_DYING: Final = "session opened by a process that dies or fails"
FOREIGN: Final = "payment on somebody else's invoice"
GONE: Final = "payment whose session is gone"
REFUNDED: Final = "payment refunded at QPay"
ODD_SUM: Final = "payment short, over or in another currency"
SWEEP_KILLED: Final = "sweep killed or failed in the middle"
TO_MEND: Final = "day whose books did not agree before the sweep"

LISTED: Final = (
    CALLBACK_LOST,
    CALLBACK_DYING,
    OPENING_DYING,
    FOREIGN,
    GONE,
    REFUNDED,
    ODD_SUM,
    SWEEP_KILLED,
    TO_MEND,
)

AMOUNT: Final = 50_000_00


Certify: TypeAlias = Callable[[Desk, Micros, Micros], Awaitable[Certificate]]
"""What is on trial; a test puts another one in, to show that a lie is noticed."""


class Wrong(AssertionError):
    """A certificate that is not true."""


def run(figure: Figure, *, days: int, seed: int = 1, cores: int = 0) -> None:
    """So many days, in runs of 30 by seeds of their own, on all cores."""
    lengths = [min(DAYS, days - done) for done in range(0, days, DAYS)]
    shares = [(seed + number, length) for number, length in enumerate(lengths)]
    for counts, done, wrong in _spread(shares, cores or os.cpu_count() or 1):
        for fault, times in counts.items():
            figure.struck(fault, times)
        figure.trials += done
        if wrong:
            figure.fails(wrong)


def _spread(shares: list[tuple[int, int]], cores: int) -> Iterator[tuple[Counter[str], int, str]]:
    if cores == 1 or len(shares) == 1:
        yield from map(_run, shares)
        return
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        yield from pool.imap_unordered(_run, shares)


def _run(share: tuple[int, int]) -> tuple[Counter[str], int, str]:
    """Some days of one shop: what struck, how many certificates were right, and what was wrong with the next one."""
    seed, days = share
    counts: Counter[str] = Counter()
    loop = Loop(Random(seed), most_steps=1_000_000 * days)  # type: ignore[abstract] # it refuses what it has no use for
    life = Days(seed, counts)
    try:
        for _ in range(days):
            loop.run_until_complete(life.next())
    except Wrong as wrong:
        return counts, life.done, f"seed {seed}, day {life.done + 1}: {wrong}"
    finally:
        loop.close()
    return counts, life.done, ""


class Days:
    """The days of one shop."""

    def __init__(self, seed: int, counts: Counter[str], certify: Certify = prove) -> None:
        self.rng, self.counts, self._certify = Random(seed), counts, certify
        clock = Clock()
        self.shop = Shop(MemoryStore(clock), clock, SmallQPay(clock))
        self.done = 0

    async def next(self) -> None:
        """One day more.

        Raises:
            Wrong: a certificate was.
        """
        shop, start = self.shop, self.shop.clock.now
        await self._business()
        await shop.process().worker.once()
        desk, end = shop.process().payments.desk, shop.clock.now
        missing = await self._missing(start, end)
        before = await self._certify(desk, start, end)
        if before.proven == bool(missing):
            raise Wrong(f"before the sweep: {missing}, but {before}")
        self.counts[TO_MEND] += bool(missing)
        if self.rng.random() < 0.3:
            killer = self._killer(self.rng.randrange(1, 40))
            await ended(sweep(shop.process(killer).payments.desk, start, end, "operator"))
            self.counts[SWEEP_KILLED] += bool(killer.struck)
        shop.clock.advance(60)
        await sweep(desk, start, end, "daily")
        for _ in range(6):
            shop.clock.advance(60)
            await shop.process().worker.once()
        after = await self._certify(desk, start, end)
        if not after.proven:
            raise Wrong(f"after the sweep: {after.differences} {after.trouble}")
        listed = {name: sums.listed for name, sums in after.sums.items()}
        if listed != self._truth(start, end):
            raise Wrong(f"{listed} is said to be at QPay, {self._truth(start, end)} is")
        self.done += 1

    def _killer(self, at: int) -> Killer:
        return Killer(at, self.rng.choice(list(Fault)))

    async def _business(self) -> None:
        """Sessions opened, paid in every way and at any time, with and without a callback; processes die as they go."""
        shop, rng, start = self.shop, self.rng, self.shop.clock.now
        for _ in range(rng.randrange(4)):
            killer = self._killer(rng.choice((0, 0, 3)))
            await ended(shop.process(killer).open(expires_in=rng.choice((60, 600))))
            self.counts[OPENING_DYING] += bool(killer.struck)
        for bill in list(shop.qpay.bills.values())[-8:]:
            shop.clock.advance(rng.randrange(2_000))
            if not bill.cancelled and rng.random() >= 0.5:
                await self._paid(bill.id, bill.request.sender_invoice_no)
        if rng.random() < 0.3:
            foreign_bill(shop)
            self.counts[FOREIGN] += 1
        if rng.random() < 0.2:
            links = shop.process().payments.desk.links
            foreign_bill(shop, links.sender_invoice_no(f"gone{rng.randrange(10**9)}"))
            self.counts[GONE] += 1
        cards = [p for bill in shop.qpay.bills.values() for p in bill.payments if p.method == "CARD"]
        if cards and rng.random() < 0.2:
            await shop.qpay.refund_payment(rng.choice(cards).id, "")
            self.counts[REFUNDED] += 1
        shop.clock.now = start + DAY

    async def _paid(self, invoice_id: str, sender_invoice_no: str) -> None:
        shop, rng = self.shop, self.rng
        amount = rng.choice((AMOUNT, AMOUNT, AMOUNT // 2, AMOUNT * 6 // 5))
        currency = rng.choice(("MNT",) * 9 + ("USD",))
        self.counts[ODD_SUM] += (amount, currency) != (AMOUNT, "MNT")
        payment_id = shop.qpay.pay(invoice_id, amount, currency=currency, method=rng.choice(("P2P", "CARD")))
        if rng.random() >= 0.3:
            self.counts[CALLBACK_LOST] += 1
            return
        dying = shop.process(self._killer(rng.randrange(12)))
        session = await shop.store.by_sender(sender_invoice_no)
        named = session.id if session and rng.random() < 0.8 else "nobody"
        await ended(dying.payments.callback(named, payment_id))
        self.counts[CALLBACK_DYING] += 1

    def _truth(self, start: Micros, end: Micros) -> dict[str, int]:
        """What QPay really received, by currency."""
        sums: Counter[str] = Counter()
        for bill in self.shop.qpay.bills.values():
            for p in bill.payments:
                if start <= (p.paid_at or 0) < end:
                    sums[p.currency] += p.amount
        return dict(sums)

    async def _missing(self, start: Micros, end: Micros) -> list[str]:
        """Payments that are not as QPay has them here: found by looking into both books directly."""
        shop, wrong = self.shop, []
        links = shop.process().payments.desk.links
        for bill in shop.qpay.bills.values():
            sender = bill.request.sender_invoice_no
            for p in bill.payments:
                if not links.is_ours(sender) or not start <= (p.paid_at or 0) < end:
                    continue
                session = await shop.store.by_payment(p.id)
                here = session.payment(p.id) if session else await shop.store.unmatched_payment(p.id)
                same = here is not None and (here.amount, here.status) == (p.amount, p.status)
                if not same or (session is None and await shop.store.by_sender(sender)):
                    wrong.append(p.id)
        return wrong
