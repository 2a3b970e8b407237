"""The face of the use cases, for web, worker, library and commands alike."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from tulbur.core import steps
from tulbur.core.custody import Custody, is_adoptable
from tulbur.core.schedule import due_reason, waiting
from tulbur.core.session import SECOND, InvoiceState, Micros, Reason, Session, Status
from tulbur.core.steps import MOST_ATTEMPTS
from tulbur.errors import (
    AlreadyPaid,
    Conflict,
    NotFound,
    ProviderUnavailable,
    SourceUnavailable,
    StoreUnavailable,
    TulburError,
)
from tulbur.payments.desk import MOST_COMMITS, Desk
from tulbur.payments.following import known
from tulbur.payments.matching import first_look
from tulbur.payments.opening import OpenRequest, open_session
from tulbur.payments.settling import Looked, ask, settle
from tulbur.ports import Cancelling, Committed

CALLBACK_SECONDS: Final = 3.0
"""How long a callback waits for QPay's answer before SUCCESS; the look goes on behind it."""

MOST_BACKGROUND: Final = 256
"""Looks that go on after their callback was answered; past this the worker does them."""

REPEAT_SECONDS: Final = 2
"""A repeated callback whose payment does not show yet asks again at most this often; the ladder asks besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the shop decides: the payer's deadline and how long the cache keeps a session, in seconds."""

    session_expiry_seconds: int = 1800
    session_ttl_seconds: int = 600


class Payments:
    """Every use case; each takes and returns sessions as they are stored."""

    def __init__(self, desk: Desk, policy: Policy | None = None) -> None:
        self.desk = desk
        self.policy = policy or Policy()
        self._background: set[asyncio.Task[Looked]] = set()

    async def stop(self) -> None:
        """Let the looks under way end; each is bounded by QPay's time limits."""
        while self._background:
            await asyncio.gather(*self._background, return_exceptions=True)

    async def room(self, most: int) -> None:
        """Wait until fewer than so many looks are under way."""
        while len(self._background) >= most:
            await asyncio.wait(self._background, return_when=asyncio.FIRST_COMPLETED)

    async def open(self, request: OpenRequest) -> Session:
        return await open_session(self.desk, request)

    async def get(self, session_id: str) -> Session:
        """The session, from the cache where it is fresh.

        Raises:
            NotFound: there is none.
            StoreUnavailable, SourceUnavailable: nobody can tell.
        """
        cached = await self.desk.cache.get(session_id)
        if cached is not None and not self._may_have_expired(cached):
            return cached
        stored = await known(self.desk, session_id)
        if stored is None:
            raise NotFound("there is no such session")
        await self.desk.cache.put(stored)
        return stored

    def _may_have_expired(self, cached: Session) -> bool:
        """Past its deadline: what expires leaves the cache, and a read that was slower may have put it there again."""
        return cached.status is Status.PENDING and self.desk.clock() >= cached.expires_at

    async def callback(self, session_id: str, payment_id: str) -> str:
        """QPay says something about a session. When this returns, the hint or its orders are durable.

        Returns what came of it, as `hear` does, or "spooled": the database is away, and the spool has it.

        Raises:
            StoreUnavailable: nothing was kept; QPay must not hear SUCCESS.
        """
        try:
            return await self.hear(session_id, payment_id)
        except StoreUnavailable:
            # Also when it may have been committed: to hear it twice does no harm.
            return await self.desk.spooled(session_id, payment_id)

    async def hear(self, session_id: str, payment_id: str, seconds: float = CALLBACK_SECONDS) -> str:
        """The same without the spool; QPay's answer is waited for so long.

        `payment_id` is "" when QPay named none. Returns "paid", "waiting", "repeated" or "unmatched".

        Raises:
            StoreUnavailable: it is not known to be durable.
        """
        cached = await self.desk.cache.get(session_id)
        if cached is not None and steps.knows(cached, payment_id):
            self.desk.sink.loaded(session_id, "cache")
            return "repeated"
        claimed = await self._keep_hint(session_id, payment_id)
        if claimed is None:
            return "unmatched"
        session, asked = claimed
        self.desk.sink.loaded(session_id, _source(cached, session))
        if asked:
            session = await self._look_within(session, seconds)
        if steps.knows(session, payment_id):
            return "paid" if asked else "repeated"
        return "waiting"

    async def _keep_hint(self, session_id: str, payment_id: str) -> tuple[Session, bool] | None:
        """One commit keeps the hint, plans the next look and claims the right to ask now."""
        for _ in range(MOST_COMMITS):
            before = await self._known(session_id, payment_id)
            now = self.desk.clock()
            if before is None:
                await self.keep_unmatched(session_id, payment_id)
                return None
            if payment_id and steps.hints_full(before, payment_id):
                return await self._keep_overflow(before, payment_id)
            is_new = bool(payment_id) and all(hint.payment_id != payment_id for hint in before.hints)
            hinted = steps.hinted(before, payment_id, now)
            if hinted is before and not _worth_asking(before, payment_id, now):
                await self.desk.cache.put(before)
                return before, False
            after = steps.asked(hinted, Reason.CALLBACK, now, new_hint=is_new)
            if after is before:
                return before, False
            if await self.desk.commit(before, after) is Committed.WON:
                return after.committed(), after is not hinted
        raise StoreUnavailable("the session is being changed too often; try again")

    async def _known(self, session_id: str, payment_id: str) -> Session | None:
        """The session; None where there is none, or where a hint has to be kept for nobody can tell.

        Raises:
            StoreUnavailable: nobody can tell, and there is no payment id to keep.
        """
        try:
            return await known(self.desk, session_id)
        except SourceUnavailable:
            if payment_id:
                return None
            raise StoreUnavailable("the old shop's Redis does not answer; send it again") from None

    async def _keep_overflow(self, session: Session, payment_id: str) -> tuple[Session, bool]:
        """A session holds no more ids: this one is kept as unmatched, and our own invoices are asked about instead.

        The payment behind it, if there is one, is on one of them; its commit claims the unmatched row.
        """
        is_new = await self.keep_unmatched(session.id, payment_id)
        asked = False

        def claim(stored: Session) -> Session:
            nonlocal asked
            now = self.desk.clock()
            hinted = steps.hinted(stored, "", now)
            after = steps.asked(hinted, Reason.CALLBACK, now, new_hint=is_new)
            asked = after is not hinted
            return after

        return await self.desk.step(session.id, claim), asked

    async def keep_unmatched(self, session_id: str, payment_id: str) -> bool:
        """Keep a payment id that belongs to no session we can tell; False when it was kept already."""
        now = self.desk.clock()
        self.desk.sink.unmatched(session_id, payment_id)
        if not payment_id:
            return False
        return await self.desk.store.record_unmatched(first_look(payment_id, now, session_id))

    async def _look_within(self, session: Session, seconds: float) -> Session:
        """Ask, but wait only so long: the hint is durable, and the look goes on by itself."""
        if len(self._background) >= MOST_BACKGROUND:
            return session
        task = asyncio.create_task(ask(self.desk, session, Reason.CALLBACK))
        self._background.add(task)
        task.add_done_callback(self._forget)
        await asyncio.wait({task}, timeout=seconds)
        if task.done() and not task.cancelled() and task.exception() is None:
            return task.result().session
        return session

    def _forget(self, task: asyncio.Task[Looked]) -> None:
        self._background.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, TulburError):
            task.get_loop().call_exception_handler({"message": "a look failed", "exception": error, "task": task})

    async def check(self, session_id: str, reason: Reason = Reason.PAYER, *, by: str = "") -> Session:
        """Ask QPay now, when a question of this class is allowed; else the stored state.

        `by` is who wants to know, where that is not the payer.

        Raises:
            ProviderUnavailable: QPay was asked and did not answer; nothing is decided.
        """
        session = await self.desk.stored(session_id)
        if session.status is Status.PAID and reason is Reason.PAYER:
            return session
        looked = await settle(self.desk, session_id, reason, by=by)
        if looked.asked and not looked.answered and looked.session.status is session.status:
            raise ProviderUnavailable(session_id=session_id)
        return looked.session

    async def look(self, session: Session) -> Session:
        """What the worker does with a session that is due: ask for its reason, or put the look off."""
        session = await self.desk.stored(session.id)  # it waited for its turn, and may be settled by now
        reason = due_reason(session, self.desk.clock())
        if reason is None:
            return session
        looked = await settle(self.desk, session.id, reason)
        if looked.asked:
            return looked.session
        return await self.desk.step(session.id, lambda s: steps.refused(s, self.desk.clock()))

    async def cancel(self, session_id: str, *, by: str = "") -> Session:
        """Give a session up: look once, cancel its invoices at QPay, then say so. What is closed stays as it is.

        `by` says who gave it up, where that is known.

        Raises:
            AlreadyPaid: the money was there first.
            ProviderUnavailable: QPay did not answer; the session is unchanged.
            Conflict: QPay says paid but does not show the payment yet; it is being looked at. Or it is not ours.
        """
        session = await self.desk.stored(session_id)
        if session.custody is not Custody.OURS:
            raise Conflict("the session is in the hands of the old shop")
        if session.status is Status.PENDING and session.asked_about:
            looked = await settle(self.desk, session_id, Reason.DEADLINE)
            if looked.asked and not looked.answered and looked.session.status is Status.PENDING:
                raise ProviderUnavailable(session_id=session_id)
            session = looked.session
        for _ in range(MOST_ATTEMPTS):
            if session.status is not Status.PENDING:
                break
            gone = await self._cancelled_at_qpay(session)

            def close(stored: Session, gone: frozenset[int] = gone) -> Session:
                still_open = {a.number for a in stored.attempts if a.state is InvoiceState.OPEN}
                if not still_open <= gone:
                    return stored
                return steps.cancelled(stored, self.desk.clock(), self.desk.rules, by=by)

            session = await self.desk.step(session_id, close)
        if session.status is Status.PAID:
            raise AlreadyPaid
        if session.status is Status.PENDING:
            raise Conflict("the session is being changed too often; try again")
        return session

    async def _cancelled_at_qpay(self, session: Session) -> frozenset[int]:
        """Cancel every open invoice of a session; the numbers of the attempts that cannot be paid any more."""
        gone = set()
        for attempt in session.attempts:
            if attempt.state is not InvoiceState.OPEN:
                continue
            if await self.desk.provider.cancel_invoice(str(attempt.id)) is Cancelling.PAID:
                await self._paid_after_all(session, str(attempt.id))
            gone.add(attempt.number)
        return frozenset(gone)

    async def _paid_after_all(self, session: Session, invoice_id: str) -> None:
        """QPay does not cancel what money has reached: look again. A short payment is known, and is due back."""
        await self.desk.step(session.id, lambda s: steps.hinted(s, invoice_id, self.desk.clock()))
        looked = await settle(self.desk, session.id, Reason.CALLBACK)
        if looked.session.status is Status.PAID:
            raise AlreadyPaid
        if not any(p.received and p.invoice_id == invoice_id for p in looked.session.payments):
            raise Conflict("QPay says this invoice is paid but does not show the payment yet; it is being looked at")


def _source(cached: Session | None, session: Session) -> str:
    if cached is not None:
        return "cache"
    return "adopted" if is_adoptable(session.custody, session.claim) else "database"


def _worth_asking(session: Session, payment_id: str, now: Micros) -> bool:
    """Whether a callback that says nothing new may still ask: its payment is awaited, and the last question is old."""
    awaited = any(hint.payment_id == payment_id for hint in waiting(session.hints))
    return awaited and now - session.asks.last_at >= REPEAT_SECONDS * SECOND
