"""What every use case works with, and the one loop in which a step becomes a commit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tulbur.core.rules import Rules
from tulbur.core.session import Session, Status
from tulbur.core.steps import ACCEPT
from tulbur.errors import NotFound, StoreUnavailable
from tulbur.links import Links
from tulbur.ports import Cache, Clock, CommitResult, Committed, EventSink, OldShop, Provider, Spool, Store

MOST_COMMITS: Final = 20
"""Tries of one commit against others that change the same session; each loser re-reads and decides again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The ports, bound together; `new_id` returns a fresh alphanumeric id of at most 32 characters.

    `old_shop` None: no other shop's sessions are followed. `spool` None: nothing is kept while the database is down.
    """

    store: Store
    cache: Cache
    provider: Provider
    links: Links
    sink: EventSink
    clock: Clock
    new_id: Callable[[], str]
    old_shop: OldShop | None = None
    spool: Spool | None = None
    rules: Rules = ACCEPT

    async def stored(self, session_id: str) -> Session:
        """The session as the database has it.

        Raises:
            NotFound: there is none.
        """
        session = await self.store.get(session_id)
        if session is None:
            raise NotFound("there is no such session")
        return session

    async def step(self, session_id: str, step: Callable[[Session], Session]) -> Session:
        """Apply a pure step to the stored session and commit it; decide again whenever somebody else was faster."""
        for _ in range(MOST_COMMITS):
            before = await self.stored(session_id)
            after = step(before)
            if after is before:
                return before
            if await self.commit(before, after) is Committed.WON:
                return after.committed()
        raise StoreUnavailable("the session is being changed too often; try again")

    async def commit(self, before: Session, after: Session) -> CommitResult:
        """One commit; when it is won the cache and whoever listens hear of it."""
        result = await self.store.commit(before, after)
        if result is Committed.WON:
            await self.told(after)
        return result

    async def spooled(self, session_id: str, payment_id: str, token_digest: str = "") -> str:
        """Keep a callback while the database is away; with a digest its token is to be checked on replay.

        Raises:
            StoreUnavailable: there is no spool, or it failed too.
        """
        if self.spool is None:
            raise StoreUnavailable
        await self.spool.keep(session_id, payment_id, self.clock(), token_digest)
        return "spooled"

    async def told(self, after: Session) -> None:
        if after.status is Status.EXPIRED and any(event.type == "session.expired" for event in after.news):
            # Its time in the cache is over, too: to keep it anew would hide how often callbacks need the database.
            await self.cache.drop(after.id)
        else:
            await self.cache.put(after.committed())
        self.sink.changed(after)
