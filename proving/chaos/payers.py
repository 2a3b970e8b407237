"""The load: shops that open checkouts, payers who pay in time, late, twice or not at all, and QPay's callbacks."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from proving.chaos.faults import Fault
from proving.chaos.stage import KEY, Stage
from proving.chaos.witness import Witness
from tulbur.simulator.callbacks import EXPECTED, call, with_payment
from tulbur.simulator.state import InvoiceCancelledError, Money

AT_ONCE: Final = 12
"""Payers at any time."""

PATIENCE_SECONDS: Final = 240
"""How long a shop tries to open one checkout; no fault lasts nearly as long."""

DEADLINE_SECONDS: Final = 8
"""A payer's, as the shop names it; one who pays late is given `SHORT_SECONDS`."""

SHORT_SECONDS: Final = 2

MOST_CALLS: Final = 20
"""Callbacks for one payment, where QPay sends them until it hears SUCCESS."""

SHOPS: Final = ("a", "b")
AMOUNT: Final = 1000
ITEMS: Final = [{"shop_id": shop, "product_id": "p", "quantity": 1, "unit_price": "500"} for shop in SHOPS]

AGAIN: Final = frozenset({409, 502, 503})
"""Answers after which a shop opens again with the same key."""


class Payers:
    """Payers, each with a number, which says what they do; as many at once until they are told to stop."""

    def __init__(self, stage: Stage, rng: random.Random) -> None:
        self._stage = stage
        self._rng = rng
        self._numbers = count(rng.randrange(len(HABITS) * len(CALLS)))
        self._stopped = False
        self.witness = Witness()

    async def run(self) -> None:
        """Until `stop`, and until everybody who had begun has ended."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as http, asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._one_after_the_other(http))

    def stop(self) -> None:
        self._stopped = True

    async def _one_after_the_other(self, http: aiohttp.ClientSession) -> None:
        while not self._stopped:
            await self._one(http, next(self._numbers))

    async def _one(self, http: aiohttp.ClientSession, number: int) -> None:
        habit = HABITS[number % len(HABITS)]
        session = await self._open(http, number, SHORT_SECONDS if habit is late else DEADLINE_SECONDS)
        if session is None:
            return
        await asyncio.sleep(self._rng.uniform(0, 1))
        callback = CALLS[number % len(CALLS)]  # of another length than HABITS: every pair comes
        for payment_id, url in await habit(self, session):
            self.witness.paid += 1
            await callback(self, str(session["id"]), payment_id, url)
        await self._look(http, str(session["id"]))

    # --- the shop

    async def _open(self, http: aiohttp.ClientSession, number: int, seconds: int) -> dict[str, Any] | None:
        """With one key until it is answered; a session that ran out meanwhile is replaced. None: it was not opened."""
        body = {"user_id": f"u{number}", "amount": str(AMOUNT), "items": ITEMS, "expires_in": seconds}
        replaced, end = 0, time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            key = f"cart-{number}-{replaced}"
            status, told = await self._asked(http, "POST", "/v1/sessions", body, key)
            if status == 201:
                self.witness.opened.setdefault(key, set()).add(told["id"])
                if told["invoice"]:
                    return told
                replaced += 1
                seconds = body["expires_in"] = DEADLINE_SECONDS
            elif status and status not in AGAIN:
                self.witness.surprises.append(f"opening was answered {status}: {told}")
                return None
            self._stage.board.strike(Fault.SHOP_AGAIN)
            await asyncio.sleep(self._rng.uniform(0.2, 1))
        self.witness.surprises.append(f"a checkout could not be opened for {PATIENCE_SECONDS} s")
        return None

    async def _look(self, http: aiohttp.ClientSession, session_id: str) -> None:
        status, told = await self._asked(http, "GET", f"/v1/sessions/{session_id}")
        if status == 200 and told["status"] == "PAID":
            self.witness.told_paid.add(session_id)
        elif status and status not in (200, *AGAIN):
            self.witness.surprises.append(f"a session that was opened was answered {status}: {told}")

    async def _asked(
        self, http: aiohttp.ClientSession, method: str, path: str, body: object = None, key: str = ""
    ) -> tuple[int, dict[str, Any]]:
        """Any `serve`'s answer; 0 when none came."""
        url = self._rng.choice(self._stage.serves).url
        headers = {"Authorization": f"Bearer {KEY}"} | ({"Idempotency-Key": key} if key else {})
        try:
            async with http.request(method, f"{url}{path}", headers=headers, json=body) as answer:
                return answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return 0, {}

    # --- QPay

    def pay(self, session: Mapping[str, Any], amount: int = AMOUNT) -> list[tuple[str, str]]:
        """The payment's id and its callback's address; none where the invoice has been cancelled."""
        simulator = self._stage.simulator
        invoice = simulator.ledger.invoices[session["invoice"]["id"]]
        hidden = simulator.faults.current.callback.before_visible_seconds
        try:
            payment = simulator.ledger.pay(invoice, Money(Decimal(amount)), simulator.clock(), hidden_seconds=hidden)
        except InvoiceCancelledError:
            return []
        if hidden:
            self._stage.board.strike(Fault.QPAY_SHOWS_LATER)
        return [(payment.id, with_payment(invoice.form.callback_url, payment.id))]

    async def call_back(self, session_id: str, payment_id: str, url: str) -> bool:
        """One call, to any `serve`, as a balancer would pass it on; whether it was answered SUCCESS."""
        host = urlsplit(self._rng.choice(self._stage.serves).url).netloc
        answer = await call("GET", urlsplit(url)._replace(netloc=host).geturl(), payment_id)
        heard = answer.problem is None and answer.body == EXPECTED
        self.witness.answers["SUCCESS" if heard else str(answer.status or "none")] += 1
        if heard:
            self.witness.acknowledged[payment_id] = session_id
        elif answer.status is not None and answer.status not in AGAIN:
            self.witness.surprises.append(f"a callback was answered {answer.status}: {answer.body}")
        return heard

    def strike(self, fault: Fault) -> None:
        self._stage.board.strike(fault)

    async def wait(self, least: float, most: float) -> None:
        await asyncio.sleep(self._rng.uniform(least, most))


# --- what a payer does: the payments he makes, each with its callback's address


Paid = list[tuple[str, str]]


async def in_time(payers: Payers, session: Mapping[str, Any]) -> Paid:
    return payers.pay(session)


async def late(payers: Payers, session: Mapping[str, Any]) -> Paid:
    left = (datetime.fromisoformat(session["expires_at"]) - datetime.now(UTC)).total_seconds()
    await payers.wait(max(left, 0) + 0.5, max(left, 0) + 2.5)
    payers.strike(Fault.PAYER_LATE)
    return payers.pay(session)


async def twice(payers: Payers, session: Mapping[str, Any]) -> Paid:
    payers.strike(Fault.PAYER_TWICE)
    return payers.pay(session) + payers.pay(session)


async def short(payers: Payers, session: Mapping[str, Any]) -> Paid:
    payers.strike(Fault.PAYER_SHORT)
    return payers.pay(session, AMOUNT - 1)


async def never(payers: Payers, session: Mapping[str, Any]) -> Paid:
    del session
    payers.strike(Fault.PAYER_NEVER)
    return []


HABITS: Final[tuple[Callable[[Payers, Mapping[str, Any]], Awaitable[Paid]], ...]] = (
    in_time,
    late,
    in_time,
    twice,
    in_time,
    late,
    in_time,
    short,
    in_time,
    never,
    late,
)


# --- what becomes of a callback


async def once(payers: Payers, session_id: str, payment_id: str, url: str) -> None:
    await payers.call_back(session_id, payment_id, url)


async def until_heard(payers: Payers, session_id: str, payment_id: str, url: str) -> None:
    for _ in range(MOST_CALLS):
        if await payers.call_back(session_id, payment_id, url):
            return
        payers.strike(Fault.CALLBACK_AGAIN)
        await payers.wait(0.5, 2)


async def at_once_twice(payers: Payers, session_id: str, payment_id: str, url: str) -> None:
    payers.strike(Fault.CALLBACK_TWICE)
    await asyncio.gather(*(payers.call_back(session_id, payment_id, url) for _ in range(2)))


async def after_a_while(payers: Payers, session_id: str, payment_id: str, url: str) -> None:
    payers.strike(Fault.CALLBACK_LATE)
    await payers.wait(2, 6)
    await payers.call_back(session_id, payment_id, url)


async def lost(payers: Payers, session_id: str, payment_id: str, url: str) -> None:
    del session_id, payment_id, url
    payers.strike(Fault.CALLBACK_LOST)


CALLS: Final[tuple[Callable[[Payers, str, str, str], Awaitable[None]], ...]] = (
    until_heard,
    once,
    at_once_twice,
    until_heard,
    after_a_while,
    until_heard,
    lost,
)
