"""The call QPay makes to a merchant when money arrives.

GET of the invoice's `callback_url` with `qpay_payment_id` added to its query; the merchant must answer 200 with the
body `SUCCESS` and nothing else. Source: QPay workbook, process diagram and "invoice_create".
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp

from tulbur.simulator.hosts import callback_target
from tulbur.simulator.journal import BODY_BYTES, Log, clipped
from tulbur.simulator.wire import iso

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tulbur.simulator.faults import CallbackFaults
    from tulbur.simulator.state import Payment

TIMEOUT_SECONDS = 10.0
EXPECTED = "SUCCESS"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the merchant said; `status` is None when nothing came back."""

    status: int | None
    body: str

    @property
    def problem(self) -> str | None:
        """Why QPay would not be content."""
        if self.status is None:
            return self.body
        if self.status != 200:
            return f"status {self.status} instead of 200"
        return None if self.body == EXPECTED else f"body is not exactly {EXPECTED}"


def with_payment(url: str, payment_id: str) -> str:
    """The URL with `qpay_payment_id` added after whatever query it has, every other byte as it was."""
    address, mark, fragment = url.partition("#")
    joint = "" if address.endswith(("?", "&")) else "&" if "?" in address else "?"
    return f"{address}{joint}qpay_payment_id={quote(payment_id)}{mark}{fragment}"


async def call(method: str, url: str, payment_id: str) -> Answer:
    """One call: 10 s at most, no redirects, 64 KiB of the answer; never raises for what the network does."""
    try:
        target = callback_target(url)
    except ValueError as error:
        return Answer(None, f"refused: {error}")
    body = {"payment_id": payment_id} if method == "POST" else None
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    try:
        # A connection of its own: a reused one may be closed under us, and aiohttp would then call twice.
        connector = aiohttp.TCPConnector(force_close=True)
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
            session.request(method, target, allow_redirects=False, json=body) as response,
        ):
            content = await read_at_most(response.content, BODY_BYTES + 1)
            return Answer(response.status, clipped(content))
    except TimeoutError:
        return Answer(None, f"no answer within {TIMEOUT_SECONDS:.0f} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Answer(None, f"{type(error).__name__}: {error}")


async def read_at_most(stream: aiohttp.StreamReader, limit: int) -> bytes:
    content = b""
    while len(content) < limit and (chunk := await stream.read(limit - len(content))):
        content += chunk
    return content


class Callbacks:
    """Sends callbacks in tasks of their own and writes down what came back."""

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._tasks: set[asyncio.Task[Answer | None]] = set()

    async def send(self, payment: Payment, faults: CallbackFaults, log: Log) -> Answer | None:
        """Call as often as the faults say and return the first answer; None when there was no call.

        Every call is written into `log`. The calls go on when whoever waits here goes away.
        """
        if faults.drop or faults.times == 0:
            return None
        task = asyncio.create_task(self._run(payment, faults, log))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        """Stop every call that is still under way."""
        tasks = [task for task in self._tasks if task.get_loop() is asyncio.get_running_loop()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, payment: Payment, faults: CallbackFaults, log: Log) -> Answer | None:
        first = None
        for _ in range(faults.times):
            if faults.delay_seconds:
                await self._sleep(faults.delay_seconds)
            began = self._clock()
            url = with_payment(payment.invoice.form.callback_url, payment.id)
            answer = await call(faults.method, url, payment.id)
            log.add(_entry(payment, faults.method, url, answer, began))
            first = first or answer
        return first


def _entry(payment: Payment, method: str, url: str, answer: Answer, began: float) -> dict[str, Any]:
    return {
        "at": iso(began),
        "invoice_id": payment.invoice.id,
        "payment_id": payment.id,
        "method": method,
        "url": url,
        "status": answer.status,
        "body": answer.body,
        "problem": answer.problem,
    }
