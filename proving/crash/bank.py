"""QPay and whatever else outlives a process: served by the process that forked it, over a pipe."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, Final, Protocol, TypeAlias

from proving.crash.shared import Edge
from proving.crash.strikes import Striker
from proving.qpay import SmallQPay
from tulbur.core.moving import OldSession
from tulbur.core.session import Micros
from tulbur.core.settling import InvoiceAnswer, InvoiceSeen, SeenPayment
from tulbur.core.steps import InvoiceMade
from tulbur.ports import Cancelling, GivingBack, InvoiceRequest, PaymentPage

LONGEST_SECONDS: Final = 120.0
"""After which a process that says nothing hangs."""


class Pipe(Protocol):
    """One end of the way to the bank."""

    def send(self, said: Any) -> None: ...  # noqa: ANN401 - what it is asked

    def recv(self) -> Any: ...  # noqa: ANN401 - whatever is answered


class Line:
    """QPay, as a forked process reaches it; it may be killed on either side of a request and in the midst of it."""

    def __init__(self, pipe: Pipe, striker: Striker) -> None:
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

    async def list_payments(self, start: Micros, end: Micros, page: int = 1) -> PaymentPage:
        return await self._asked("list_payments", start, end, page)  # type: ignore[no-any-return]

    async def refund_payment(self, payment_id: str, note: str) -> GivingBack:
        return await self._asked("refund_payment", payment_id, note)  # type: ignore[no-any-return]

    async def _asked(self, what: str, *told: object) -> Any:  # noqa: ANN401 - whatever is answered
        await asyncio.sleep(0)
        return self.ask(what, *told)


Work: TypeAlias = Callable[[Pipe], Coroutine[Any, Any, None]]


class Bank:
    """Of one trial: QPay, and the shop, old and new.

    `case` is what was prepared, `heard` the events that were delivered after `refusals` ones that were not, `old` what
    the old shop keeps, `spots` the lines that were counted.
    """

    def __init__(self, qpay: SmallQPay) -> None:
        self.qpay = qpay
        self.case: Any = None
        self.heard: list[tuple[int, str]] = []
        self.refusals = 0
        self.old: list[OldSession] = []
        self.spots: Counter[str] = Counter()
        self.broken = ""

    def kept(self) -> tuple[Any, ...]:
        """All that a trial begins with."""
        qpay = self.qpay.prefix, self.qpay.bills, self.qpay.given_back
        return deepcopy((self.case, self.heard, self.refusals, self.old, qpay))

    def put_back(self, kept: tuple[Any, ...]) -> None:
        self.case, self.heard, self.refusals, self.old, qpay = deepcopy(kept)
        self.qpay.prefix, self.qpay.bills, self.qpay.given_back = qpay

    def serve(self, work: Work, loop: asyncio.Runner) -> None:
        """Do this work in the process that forks, which nobody kills; what went wrong is added to `broken`."""
        try:
            with _limited(), _quiet(), ThreadPoolExecutor() as threads:  # none of which is left when it forks
                loop.get_loop().set_default_executor(threads)
                loop.run(work(_Counter(self)))
        except Exception:  # noqa: BLE001 - told to whoever asked for the trial
            self.broken = self.broken or traceback.format_exc()

    def run(self, work: Work) -> bool:
        """Fork a process for this work and serve it until it ends; True when it was killed.

        What went wrong in it is added to `broken`.
        """
        assert threading.active_count() == 1, f"a process with threads cannot fork: {threading.enumerate()}"
        ours, theirs = multiprocessing.Pipe()
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
                pipe.send(self.answer(what, told))
            except (EOFError, ConnectionError):
                return

    def answer(self, what: str, told: tuple[Any, ...]) -> Any:  # noqa: ANN401 - whatever was asked
        match what:
            case "keep" | "count" | "broken" | "keep_old" | "refuse" | "hide" | "show":
                return self._keep(what, *told)
            case "deliver":
                return self._deliver(*told)
            case "old_sessions":
                return self.old
            case "state":
                return self.qpay.bills, self.qpay.given_back, self.heard
            case "pay":
                return self.qpay.pay(told[0], method=told[1])
            case _:
                return _done(getattr(self.qpay, what)(*told))

    def _keep(self, what: str, told: Any = None) -> None:  # noqa: ANN401 - whatever is kept
        match what:
            case "keep":
                self.case = told
            case "count":
                self.spots = told
            case "broken":
                self.broken = told
            case "keep_old":
                self.old.append(told)
            case "refuse":
                self.refusals += 1
            case "hide" | "show":
                self.qpay.bills[told].hidden = what == "hide"

    def _deliver(self, number: int, event_id: str) -> bool:
        """Whether the shop took it."""
        self.refusals -= 1
        if self.refusals >= 0:
            return False
        self.heard.append((number, event_id))
        return True


class _Counter:
    """The bank's own counter: a pipe for whoever works in its process."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self._answer: Any = None

    def send(self, said: Any) -> None:  # noqa: ANN401 - what it is asked
        self._answer = self._bank.answer(*said)

    def recv(self) -> Any:  # noqa: ANN401 - whatever is answered
        return self._answer


@contextmanager
def _limited() -> Iterator[None]:
    def hangs(_signal: int, _frame: FrameType | None) -> None:
        raise AssertionError("law 10: the process hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what is expected; a defect is told."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _work(pipe: Connection, work: Work) -> None:
    """Never returns: nothing of the process that forked may run on in here."""
    gc.disable()  # it ends soon, and what is looked at would be copied
    code = 0
    try:
        with _quiet():
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
