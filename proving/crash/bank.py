"""QPay and whatever else outlives a process: served by the process that forked it, over a pipe."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import traceback
from collections.abc import Callable, Coroutine
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Final

from proving.crash.shared import Edge
from proving.crash.strikes import Striker
from proving.qpay import SmallQPay
from tulbur.core.settling import InvoiceAnswer, InvoiceSeen, SeenPayment
from tulbur.core.steps import InvoiceMade
from tulbur.ports import Cancelling, GivingBack, InvoiceRequest

LONGEST_SECONDS: Final = 120.0
"""After which a process that says nothing hangs."""


class Line:
    """QPay, as a forked process reaches it; it may be killed on either side of a request and in the midst of it."""

    def __init__(self, pipe: Connection, striker: Striker) -> None:
        self._pipe, self._striker = pipe, striker

    def say(self, what: str, *told: object) -> Any:  # noqa: ANN401 - whatever is answered
        """Without an edge: what no part of tulbur says."""
        self._pipe.send((what, told))
        return self._pipe.recv()

    def ask(self, what: str, *told: object) -> Any:  # noqa: ANN401 - whatever is answered
        self._striker.reach(Edge.BEFORE_REQUEST, what)
        self._pipe.send((what, told))
        self._striker.reach(Edge.SENT_REQUEST, what)
        answer = self._pipe.recv()
        self._striker.reach(Edge.AFTER_REQUEST, what)
        return answer

    def answering(self) -> bool:
        return True

    def taking_invoices(self) -> bool:
        return True

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def login(self) -> None: ...

    async def create_invoice(self, request: InvoiceRequest) -> InvoiceMade:
        return await self._asked("create_invoice", request)  # type: ignore[no-any-return]

    async def get_invoice(self, invoice_id: str) -> InvoiceSeen | None:
        return await self._asked("get_invoice", invoice_id)  # type: ignore[no-any-return]

    async def cancel_invoice(self, invoice_id: str) -> Cancelling:
        return await self._asked("cancel_invoice", invoice_id)  # type: ignore[no-any-return]

    async def check(self, invoice_id: str) -> InvoiceAnswer:
        return await self._asked("check", invoice_id)  # type: ignore[no-any-return]

    async def get_payment(self, payment_id: str) -> SeenPayment | None:
        return await self._asked("get_payment", payment_id)  # type: ignore[no-any-return]

    async def refund_payment(self, payment_id: str, note: str) -> GivingBack:
        return await self._asked("refund_payment", payment_id, note)  # type: ignore[no-any-return]

    async def _asked(self, what: str, *told: object) -> Any:  # noqa: ANN401 - whatever is answered
        await asyncio.sleep(0)
        return self.ask(what, *told)


class Bank:
    """Of one trial. `case` is what was prepared, `heard` the events that were delivered."""

    def __init__(self, qpay: SmallQPay) -> None:
        self.qpay = qpay
        self.case: Any = None
        self.heard: list[tuple[int, str]] = []
        self.broken = ""

    def run(self, work: Callable[[Connection], Coroutine[Any, Any, None]]) -> bool:
        """Fork a process for this work and serve it until it ends; True when it was killed.

        What went wrong in it is added to `broken`.
        """
        ours, theirs = Pipe()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _work(theirs, work)
        theirs.close()
        try:
            self._serve(ours, pid)
        finally:
            ours.close()
            _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not killed and status:
            self.broken = self.broken or f"the process ended with {status}"
        return killed

    def _serve(self, pipe: Connection, pid: int) -> None:
        while True:
            if not pipe.poll(LONGEST_SECONDS):
                self.broken = "law 10: the process hangs"
                os.kill(pid, signal.SIGKILL)
                return
            try:
                what, told = pipe.recv()
                pipe.send(self._answer(what, told))
            except (EOFError, ConnectionError):
                return

    def _answer(self, what: str, told: tuple[Any, ...]) -> Any:  # noqa: ANN401 - whatever was asked
        match what:
            case "keep":
                (self.case,) = told
            case "deliver":
                self.heard.append(told)
            case "broken":
                (self.broken,) = told
            case "state":
                return self.qpay.bills, self.qpay.given_back, self.heard
            case "pay":
                return self.qpay.pay(told[0], method=told[1])
            case "hide":
                self.qpay.bills[told[0]].hidden = True
            case "show":
                self.qpay.bills[told[0]].hidden = False
            case _:
                return _done(getattr(self.qpay, what)(*told))
        return None


def _work(pipe: Connection, work: Callable[[Connection], Coroutine[Any, Any, None]]) -> None:
    """Never returns: nothing of the process that forked may run on in here."""
    logging.disable(logging.WARNING)  # what is expected; a defect is told
    code = 0
    try:
        asyncio.run(work(pipe))
    except BaseException:  # noqa: BLE001 - told to whoever forked
        pipe.send(("broken", (traceback.format_exc(),)))
        pipe.recv()
        code = 1
    finally:
        os._exit(code)


def _done(answer: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - whatever is answered
    """Run what only takes turns and never waits."""
    try:
        while True:
            answer.send(None)
    except StopIteration as end:
        return end.value
