"""The MongoDB store: collections named like the tables, one multi-document transaction for each commit.

Writes wait for a majority of the replica set, reads come from its primary. Ids are compared as bytes, as MongoDB does
by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from pymongo.asynchronous.client_session import AsyncClientSession

from tulbur.core.orders import Order
from tulbur.core.retention import blanked
from tulbur.core.session import Event, Micros, Session
from tulbur.errors import Conflict, StoreUnavailable
from tulbur.ports import (
    UNTOLD,
    Clock,
    CommitResult,
    EventDelivery,
    Leave,
    ListedPayment,
    NumberedEvent,
    PaymentQuery,
    Replayed,
    SessionQuery,
    StoredToken,
    StoreStats,
    SweepRun,
    Unmatched,
)
from tulbur.stores import mongo_deciding as deciding
from tulbur.stores import mongo_documents as documents
from tulbur.stores import mongo_migrate as migrate
from tulbur.stores import mongo_outbox as outbox
from tulbur.stores import mongo_reads as reads
from tulbur.stores import mongo_sweeps as sweeps
from tulbur.stores import mongo_worklist as worklist
from tulbur.stores import mongo_writes as writes
from tulbur.stores import rows
from tulbur.stores.mongo_link import SECONDS, Doing, MongoLink, Work
from tulbur.stores.rows import Change, page
from tulbur.stores.sending import new_commit_id

T = TypeVar("T")


class MongoStore:
    """Implements `ports.Store`; leases end by the primary's clock unless `clock` is given."""

    def __init__(
        self,
        url: str,
        clock: Clock | None = None,
        *,
        seconds: float = SECONDS,
        commit_ids: Callable[[], str] = new_commit_id,
    ) -> None:
        self.url = url
        self._clock = clock
        self._new_id = commit_ids
        self._link = MongoLink(url, seconds=seconds, send_commit=self._send_commit)

    async def start(self) -> None:
        """Connect.

        Raises:
            SettingsError: the URL, the server or the schema cannot be used; the sentence says what to do.
            StoreUnavailable: the server does not answer.
        """
        await self._link.start()
        try:
            await self.ping()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        await self._link.stop()

    async def ping(self) -> None:
        await self._link.read(migrate.check)

    # --- sessions

    async def add(self, session: Session) -> None:
        change = Change(None, session, self._new_id())
        try:
            await self._link.write_surely(lambda w: writes.add(w, change))
        except writes.Refused:
            refusal = await self._decided(lambda w: deciding.add(w, change))
            if refusal is not None:
                raise refusal from None

    async def get(self, session_id: str) -> Session | None:
        return await self._link.read(lambda w: reads.get(w, session_id))

    async def by_invoice(self, invoice_id: str) -> Session | None:
        return await self._link.read(lambda w: reads.by_invoice(w, invoice_id))

    async def by_sender(self, sender_invoice_no: str) -> Session | None:
        return await self._link.read(lambda w: reads.by_sender(w, sender_invoice_no))

    async def by_payment(self, payment_id: str) -> Session | None:
        return await self._link.read(lambda w: reads.by_payment(w, payment_id))

    async def owner_of(self, id_: str) -> str | None:
        return await self._link.read(lambda w: reads.owner_of(w, id_))

    async def order(self, order_id: str) -> tuple[str, Order] | None:
        return await self._link.read(lambda w: reads.order(w, order_id))

    async def find(self, query: SessionQuery) -> list[Session]:
        count = page(query.limit)
        return await self._link.read(lambda w: reads.find(w, query, count)) if count else []

    async def commit(self, before: Session, after: Session) -> CommitResult:
        (result,) = await self._committed([Change(before, after, self._new_id())])
        if isinstance(result, Conflict):
            raise result
        return result

    async def commit_many(self, pairs: Sequence[tuple[Session, Session]]) -> list[CommitResult | Conflict]:
        changes = rows.changes(pairs, self._new_id())
        done = await self._committed(changes) if changes else []
        return rows.as_asked(pairs, changes, done)

    async def _committed(self, changes: Sequence[Change]) -> Sequence[CommitResult | Conflict]:
        try:
            return await self._link.write_surely(lambda w: writes.commit_all(w, changes))
        except writes.Refused:
            return await self._decided(lambda w: deciding.commit_each(w, changes))

    async def _decided(self, doing: Doing[T]) -> T:
        try:
            return await self._link.write_surely(doing)
        except writes.Refused as refused:
            raise StoreUnavailable(f"the database holds what its snapshot does not show: {refused}") from refused

    async def _send_commit(self, session: AsyncClientSession) -> None:
        await session.commit_transaction()

    # --- money without a session

    async def record_unmatched(self, unmatched: Unmatched) -> bool:
        return await self._link.write_surely(lambda w: worklist.record_unmatched(w, unmatched))

    async def unmatched(self, limit: int) -> list[Unmatched]:
        count = page(limit)
        return await self._link.read(lambda w: worklist.unmatched(w, count)) if count else []

    async def unmatched_payment(self, payment_id: str) -> Unmatched | None:
        return await self._link.read(lambda w: worklist.unmatched_payment(w, payment_id))

    async def unmatched_due(self, now: Micros, limit: int) -> list[Unmatched]:
        count = page(limit)
        return await self._link.read(lambda w: worklist.unmatched_due(w, now, count)) if count else []

    async def unmatched_looked(self, unmatched: Unmatched, before_due_at: Micros | None) -> bool:
        return await self._link.write(lambda w: worklist.looked(w, unmatched, before_due_at))

    async def close_unmatched(self, payment_id: str, *, now: Micros, note: Mapping[str, str]) -> bool:
        return await self._link.write_surely(lambda w: worklist.close(w, payment_id, now=now, note=note))

    async def payments(self, query: PaymentQuery) -> list[ListedPayment]:
        count = page(query.limit)
        return await self._link.read(lambda w: worklist.listed(w, query, count)) if count else []

    # --- work that is due

    async def claim_due(self, now: Micros, owner: str, limit: int, lease_seconds: float) -> list[Session]:
        async def claim(work: Work) -> list[Mapping[str, Any]]:
            return await writes.claim_due(
                work, now=now, clock=await self._now(), owner=owner, count=page(limit), lease_seconds=lease_seconds
            )

        return list(_readable(await self._link.write(claim))) if page(limit) else []

    async def blank(
        self, *, finished_before: Micros, late_before: Micros, now: Micros, limit: int, leave: Leave = UNTOLD
    ) -> int:
        cutoffs, commit_id = rows.cutoffs(finished_before, late_before), self._new_id()

        async def blank(work: Work) -> int:
            over: list[Session] = []
            for status, before in cutoffs.items():
                if room := page(limit) - len(over):
                    over += _readable(await reads.finished(work, status, before, room, leave))
            steps = [(session, blanked(session, now)) for session in over]
            await writes.keep_back(work, [before for before, after in steps if after is before])
            to_blank = [step for step in steps if step[1] is not step[0] and not rows.is_left(step[0], leave)]
            changes = [Change(before, after, commit_id) for before, after in to_blank]
            return len(await writes.commit_all(work, changes))

        return await self._link.write(blank)

    async def blankable(
        self, *, finished_before: Micros, late_before: Micros, limit: int, leave: Leave = UNTOLD
    ) -> int:
        cutoffs, most = rows.cutoffs(finished_before, late_before), rows.counted(limit)
        return await self._link.read(lambda w: reads.blankable(w, cutoffs, most, leave))

    async def unreadable(
        self, *, finished_before: Micros, late_before: Micros, limit: int, leave: Leave = UNTOLD
    ) -> list[str]:
        cutoffs, count = rows.cutoffs(finished_before, late_before), page(limit)

        async def look(work: Work) -> list[Mapping[str, Any]]:
            return [one for each in cutoffs.items() for one in await reads.finished(work, *each, count, leave)]

        found = await self._link.read(look) if count else []
        readable = {session.id for session in _readable(found)}
        return [one["_id"] for one in found if one["_id"] not in readable]

    async def late_invoices(self, *, late_before: Micros, limit: int, leave: Leave = UNTOLD) -> list[Session]:
        count = page(limit)
        found = await self._link.read(lambda w: reads.next_late(w, late_before, count, leave)) if count else []
        # Their documents tell which have an open invoice, and an invoice need not be searched.
        return [session for session in _readable(found) if rows.has_open_invoice(session)]

    async def closed_unmatched(self, closed_before: Micros, limit: int) -> list[str]:
        count = page(limit)
        return await self._link.read(lambda w: worklist.closed(w, closed_before, count)) if count else []

    async def blank_unmatched(self, payment_ids: Sequence[str]) -> None:
        await self._link.write_surely(lambda w: worklist.blank(w, payment_ids))

    # --- sweeps

    async def sweep_put(self, run: SweepRun) -> None:
        await self._link.write_surely(lambda w: sweeps.put(w, run))

    async def sweeps(self, limit: int, before: tuple[Micros, str] | None = None) -> list[SweepRun]:
        count = page(limit)
        return await self._link.read(lambda w: sweeps.listed(w, count, before)) if count else []

    async def swept_until(self) -> Micros | None:
        return await self._link.read(sweeps.until)

    # --- the outbox

    async def publish(self, limit: int, *, deliver: bool = True) -> int:
        count = page(limit)
        return await self._link.write(lambda w: outbox.publish(w, count, deliver=deliver)) if count else 0

    async def claim_events(self, owner: str, limit: int, lease_seconds: float) -> list[NumberedEvent]:
        async def claim(work: Work) -> Sequence[Mapping[str, Any]]:
            return await outbox.claim(
                work, clock=await self._now(), owner=owner, count=page(limit), lease_seconds=lease_seconds
            )

        return [documents.numbered(one) for one in await self._link.write(claim)] if page(limit) else []

    async def events_done(self, owner: str, event_ids: Sequence[str]) -> None:
        async def done(work: Work) -> None:
            await outbox.done(work, await self._now(), owner, event_ids)

        await self._link.write_surely(done)

    async def events_failed(self, owner: str, event_ids: Sequence[str], *, retry_at: Micros | None) -> None:
        await self._link.write_surely(lambda w: outbox.failed(w, owner, event_ids, retry_at=retry_at))

    async def parked(self, after_no: int, limit: int) -> list[NumberedEvent]:
        count = page(limit)
        found = await self._link.read(lambda w: outbox.parked(w, after_no, count)) if count else []
        return [documents.numbered(one) for one in found]

    async def replay_events(
        self, after_no: int, *, since: Micros, before: Micros, limit: int, parked_only: bool = False
    ) -> Replayed:
        async def replay(work: Work) -> Replayed:
            return await outbox.replay(
                work, after_no, since=since, before=before, count=page(limit), parked_only=parked_only
            )

        return await self._link.write(replay) if page(limit) else Replayed(0, after_no)

    async def events(self, after: int, limit: int) -> list[NumberedEvent]:
        count = page(limit)
        return await self._link.read(lambda w: reads.published(w, after, count)) if count else []

    async def history(self, session_id: str, limit: int) -> list[Event]:
        count = page(limit)
        return await self._link.read(lambda w: reads.history(w, session_id, count)) if count else []

    async def deliveries(self, session_id: str, limit: int) -> list[EventDelivery]:
        count = page(limit)
        return await self._link.read(lambda w: outbox.deliveries(w, session_id, count)) if count else []

    # --- counts, leases, tokens

    async def stats(self, now: Micros) -> StoreStats:
        return await self._link.read(lambda w: reads.stats(w, now))

    async def tally(self, now: Micros, loads: Mapping[str, int]) -> None:
        await self._link.write(lambda w: writes.tally(w, now, loads))

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        async def lease(work: Work) -> bool:
            return await writes.lease(work, name=name, owner=owner, clock=await self._now(), seconds=seconds)

        return await self._link.write_surely(lease)

    async def token_get(self, login: str) -> StoredToken | None:
        return await self._link.read(lambda w: reads.token_get(w, login))

    async def token_put(self, login: str, token: StoredToken) -> None:
        await self._link.write_surely(lambda w: writes.token_put(w, login, token))

    async def _now(self) -> Micros:
        return self._clock() if self._clock else await self._link.clock()


def _readable(found: Sequence[Mapping[str, Any]]) -> Iterator[Session]:
    for one in found:
        # One that cannot be read must not keep the others from their work; whoever asks for it by its id is told.
        with suppress(StoreUnavailable):
            yield documents.read_session(one)
