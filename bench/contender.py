"""A server under test: tulbur or the textbook's, over HTTP alone, with the rows that are measured on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench import databases, load
from bench.databases import Counts
from bench.load import Load, Wanted
from bench.processes import cpu_seconds
from proving.figures.services import API_KEY, CART, Paid, QPay, Service, Shop, callback_path, pay_path
from proving.figures.wire import request

AMOUNT: Final = 1000
"""In tugrik."""

ORDER: Final[Mapping[str, Any]] = {
    **CART,
    "amount": str(AMOUNT),
    "items": [{"shop_id": "a", "product_id": "p", "quantity": 1, "unit_price": str(AMOUNT)}],
}
"""One shop, so that one payment makes one order."""

SETTLED_SECONDS: Final = 180.0
"""What was answered SUCCESS while QPay was slow is ordered so soon: after four looks of the ladder."""

FEW: Final = 500
"""Sessions whose status is asked, and whose callbacks are repeated, over and over."""

SPARE: Final = 1.5
"""So many times the requests that are expected are prepared; what is left serves the next run."""

GUESS: Final = 150.0
"""A second, as long as nothing was measured; a warm-up runs out of them if need be."""


class EffectsMissing(Exception):
    """The database does not hold what was acknowledged."""


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run: what the generator saw, and the CPU seconds each process used meanwhile.

    `late` are orders that were not there yet as the last answer came.
    """

    load: Load
    cpu: Mapping[str, float]
    late: int = 0


@dataclass
class Contender:
    """`pids` are the processes whose CPU is told, by name; `prefix` is that of its tables.

    `few` sessions are asked about over and over; what was answered SUCCESS is in the database so many seconds later.
    """

    service: Service
    qpay: QPay
    url: str
    prefix: str
    folder: Path
    pids: Mapping[str, int]
    few: int = FEW
    settled_seconds: float = SETTLED_SECONDS
    _rates: dict[tuple[str, int], float] = field(default_factory=dict)
    _paid: list[Paid] = field(default_factory=list)
    _known: list[Paid] = field(default_factory=list)
    _pending: list[str] = field(default_factory=list)
    _opened: int = 0

    @property
    def rows(self) -> Mapping[str, Callable[[int, float], Awaitable[Run]]]:
        return {
            "paid": self._run_paid,
            "repeated": self._run_repeated,
            "status (pending)": self._run_pending,
            "status (paid)": self._run_settled,
            "open": self._run_open,
        }

    async def run(self, row: str, at_once: int, seconds: float) -> Run:
        """Measure a row once.

        Raises:
            LoadFailed: an answer was missing or wrong.
            EffectsMissing: what was acknowledged is not what the database holds.
        """
        done = await self.rows[row](at_once, seconds)
        self._rates[row, at_once] = done.load.rate
        return done

    async def prepare(self) -> None:
        """The sessions that are asked about again and again: some paid and settled, some pending."""
        settled = await self._paid_sessions(self.few)
        requests = [_callback(one) for one in settled]
        await self._measured(requests, Wanted(200, "SUCCESS"), 16, 60.0, once=True, effect=_paid_effect)
        self._known = settled
        self._pending = [session["id"] for session in await self._shop.opened(self.few, **ORDER)]

    async def _run_paid(self, at_once: int, seconds: float) -> Run:
        expected = max(round(self._rate("paid", at_once) * seconds * SPARE), at_once)
        if len(self._paid) < expected:
            self._paid += await self._paid_sessions(expected - len(self._paid))
        requests = [_callback(one) for one in self._paid[:expected]]
        done = await self._measured(requests, Wanted(200, "SUCCESS"), at_once, seconds, once=True, effect=_paid_effect)
        del self._paid[: done.load.answered]
        return done

    async def _run_repeated(self, at_once: int, seconds: float) -> Run:
        requests = [_callback(one) for one in self._known]
        return await self._measured(requests, Wanted(200, "SUCCESS"), at_once, seconds, once=False, effect=_no_effect)

    async def _run_pending(self, at_once: int, seconds: float) -> Run:
        return await self._statuses(self._pending, "PENDING", at_once, seconds)

    async def _run_settled(self, at_once: int, seconds: float) -> Run:
        return await self._statuses([one.session_id for one in self._known], "PAID", at_once, seconds)

    async def _statuses(self, ids: Sequence[str], status: str, at_once: int, seconds: float) -> Run:
        requests = [request("GET", f"{pay_path(one)}/status") for one in ids]
        wanted = Wanted(200, f'"status":"{status}"')
        return await self._measured(requests, wanted, at_once, seconds, once=False, effect=_no_effect)

    async def _run_open(self, at_once: int, seconds: float) -> Run:
        expected = max(round(self._rate("open", at_once) * seconds * SPARE), at_once)
        numbers = range(self._opened, self._opened + expected)
        self._opened += expected
        requests = [
            request("POST", "/v1/sessions", ORDER, key=API_KEY, idempotency_key=f"bench-{number}") for number in numbers
        ]
        wanted = Wanted(201, '"qr_text"')
        return await self._measured(requests, wanted, at_once, seconds, once=True, effect=_open_effect)

    async def _measured(
        self,
        requests: Sequence[bytes],
        wanted: Wanted,
        at_once: int,
        seconds: float,
        *,
        once: bool,
        effect: Callable[[int], Counts],
    ) -> Run:
        before, used = await self._counts(), self._used()
        done = await load.run(
            self.service.port, requests, wanted, self.folder, at_once=at_once, seconds=seconds, once=once
        )
        cpu = {name: now - used[name] for name, now in self._used().items()}
        late = await self._check(before, effect(done.answered))
        return Run(done, {**cpu, "wrk": done.cpu_seconds}, late)

    async def _check(self, before: Counts, wanted: Counts) -> int:
        """Wait until the effects are there; how many orders were not at once."""
        until = time.monotonic() + self.settled_seconds
        first = found = await self._counts() - before
        while found != wanted:
            if time.monotonic() > until:
                raise EffectsMissing(f"acknowledged: {wanted}; the database holds: {found}")
            await asyncio.sleep(0.2)
            found = await self._counts() - before
        return wanted.orders - first.orders

    async def _counts(self) -> Counts:
        return await databases.counts(self.url, self.prefix)

    def _used(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self.pids.items()}

    def _rate(self, row: str, at_once: int) -> float:
        return self._rates.get((row, at_once), GUESS)

    async def _paid_sessions(self, count: int) -> list[Paid]:
        """Sessions whose money QPay has, and nobody was told."""
        shop = self._shop
        return await shop.pay(await shop.opened(count, **ORDER))

    @property
    def _shop(self) -> Shop:
        return Shop([self.service], self.qpay)


def _callback(paid: Paid) -> bytes:
    return request("GET", f"{callback_path(paid.session_id)}?qpay_payment_id={paid.payment_id}")


def _paid_effect(answered: int) -> Counts:
    return Counts(sessions=0, paid=answered, payments=answered, orders=answered, invoices=-answered)


def _open_effect(answered: int) -> Counts:
    return Counts(sessions=answered, paid=0, payments=0, orders=0, invoices=answered)


def _no_effect(answered: int) -> Counts:
    del answered
    return Counts(0, 0, 0, 0, 0)
