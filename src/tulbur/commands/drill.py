"""The fallback drill: a late payment whose cache entry is gone must become exactly one order set."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, TypeVar

import aiohttp

from tulbur.errors import TulburError

CACHE_SECONDS: Final = 1
EXPIRES_IN: Final = 1
PATIENCE_SECONDS: Final = 60
"""How long the drill waits for a deployment's worker before it calls that a failure."""

AMOUNT: Final = "50000"

T = TypeVar("T")


class DrillFailed(TulburError):
    """The deployment did not do what it must."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step that was shown, what it showed, and how long it took in seconds."""

    name: str
    detail: str
    seconds: float


@dataclass(slots=True)
class Outcome:
    """What the drill saw; `ok` only when exactly one order set exists after the repeat."""

    session_id: str = ""
    order_ids: list[str] = field(default_factory=list)
    status: str = ""
    exceptions: list[str] = field(default_factory=list)
    loaded_from_database: int = 0
    steps: list[Step] = field(default_factory=list)
    ok: bool = False
    problem: str = ""


class Drill:
    """Runs against a deployment that uses a simulator as its QPay; `tell` hears each step as it is shown."""

    def __init__(self, url: str, api_key: str, simulator: str, tell: Callable[[Step], None]) -> None:
        self._url = url.rstrip("/")
        self._simulator = simulator.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._tell = tell
        self._outcome = Outcome()

    async def run(self) -> Outcome:
        """The whole drill; a failure is in the outcome, never an exception."""
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(timeout=timeout) as self._http:
            try:
                await self._all_steps()
            except (TulburError, aiohttp.ClientError, TimeoutError) as error:
                self._outcome.problem = str(error) or type(error).__name__
        return self._outcome

    async def _all_steps(self) -> None:
        out = self._outcome
        session = await self._step("open a session", self._open(), lambda s: f"{s['id']}, {s['amount']} MNT")
        out.session_id, invoice_id = session["id"], session["invoice"]["id"]
        before = await self._loads()
        await self._step(
            "let its deadline pass", self._until_expired(), lambda s: f"{s['status']}, QPay was asked once more"
        )
        await self._step("let its cache entry go", asyncio.sleep(CACHE_SECONDS + 0.2), lambda _: "nothing cached")
        paid = await self._step("pay late", self._pay(invoice_id), lambda p: f"payment {p['payment_id']}")
        answer = paid["callback"] or {}
        self._expect(answer.get("body") == "SUCCESS", f"the callback was answered {answer!r}, not SUCCESS")
        session = await self._step("QPay called back", self._until_paid(), lambda s: f"SUCCESS, now {s['status']}")
        out.loaded_from_database = await self._loads() - before
        self._expect(out.loaded_from_database >= 1, "the callback's session was not loaded from the database")
        orders = await self._step(
            "the order came from the database", self._orders(), lambda o: f"{len(o)} order, {o[0]['total']} MNT"
        )
        self._expect(sum(Decimal(o["total"]) for o in orders) == Decimal(AMOUNT), "the orders do not sum to the amount")
        again = await self._step("repeat the callback", self._repeat(), str)
        self._expect(again == "SUCCESS", f"the repeated callback was answered {again!r}, not SUCCESS")
        after = await self._step("count the orders again", self._orders(), lambda o: f"still {len(o)}")
        self._expect([o["id"] for o in after] == [o["id"] for o in orders], "the repeat changed the orders")
        out.order_ids = [o["id"] for o in after]
        out.status, out.exceptions, out.ok = session["status"], session["exceptions"], True

    async def _step(self, name: str, work: Awaitable[T], show: Callable[[T], str]) -> T:
        started = time.monotonic()
        result = await work
        step = Step(name, show(result), time.monotonic() - started)
        self._outcome.steps.append(step)
        self._tell(step)
        return result

    @staticmethod
    def _expect(holds: bool, problem: str) -> None:
        if not holds:
            raise DrillFailed(problem)

    async def _call(self, method: str, url: str, **options: Any) -> Any:  # noqa: ANN401 - JSON
        async with self._http.request(method, url, **options) as answer:
            if answer.status >= 300:
                raise DrillFailed(f"{method} {url} answered {answer.status}: {(await answer.text())[:300]}")
            return await answer.json()

    async def _open(self) -> Any:  # noqa: ANN401 - JSON
        item = {"shop_id": "drill", "product_id": "tea", "title": "Tea", "quantity": 2, "unit_price": "25000"}
        body = {
            "user_id": "drill",
            "amount": AMOUNT,
            "items": [item],
            "description": "tulbur drill",
            "expires_in": EXPIRES_IN,
            "cache_seconds": CACHE_SECONDS,
        }
        return await self._call("POST", f"{self._url}/v1/sessions", json=body, headers=self._headers)

    async def _session(self) -> Any:  # noqa: ANN401 - JSON
        return await self._call("GET", f"{self._url}/v1/sessions/{self._outcome.session_id}", headers=self._headers)

    async def _loads(self) -> int:
        stats = await self._call("GET", f"{self._url}/v1/stats", headers=self._headers)
        return int(stats["loads"]["database"])

    async def _until_expired(self) -> Any:  # noqa: ANN401 - JSON
        return await self._until("EXPIRED", "is the worker running?")

    async def _until_paid(self) -> Any:  # noqa: ANN401 - JSON
        return await self._until("PAID", "the payment was not settled")

    async def _until(self, status: str, hint: str) -> Any:  # noqa: ANN401 - JSON
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (session := await self._session())["status"] != status:
            self._expect(time.monotonic() < deadline, f"after {PATIENCE_SECONDS} s it is {session['status']}: {hint}")
            await asyncio.sleep(0.2)
        return session

    async def _pay(self, invoice_id: str) -> Any:  # noqa: ANN401 - JSON
        return await self._call("POST", f"{self._simulator}/_sim/invoices/{invoice_id}/pay", json={})

    async def _orders(self) -> list[Any]:
        params = {"session_id": self._outcome.session_id}
        page = await self._call("GET", f"{self._url}/v1/orders", params=params, headers=self._headers)
        self._expect(len(page["items"]) == 1, f"expected one order, found {len(page['items'])}")
        return list(page["items"])

    async def _repeat(self) -> str:
        calls = await self._call("GET", f"{self._simulator}/_sim/callbacks")
        mine = [c for c in calls["items"] if self._outcome.session_id in c["url"]]
        self._expect(bool(mine), "the simulator made no callback")
        async with self._http.get(mine[-1]["url"]) as answer:
            return await answer.text()
