"""Sessions the old shop keeps in its Redis alone: stored as they come, before the key ends."""

from __future__ import annotations

from collections.abc import Collection

from tulbur.core.session import Session
from tulbur.payments.desk import Desk
from tulbur.payments.moving import Import, import_session
from tulbur.ports import MOST_ROWS, Unmatched


async def known(desk: Desk, session_id: str) -> Session | None:
    """The stored session; one that the old shop has in its Redis alone is stored first.

    Raises:
        SourceUnavailable: that Redis does not answer, so nobody knows.
    """
    stored = await desk.store.get(session_id)
    if stored is not None or desk.old_shop is None:
        return stored
    old = await desk.old_shop.read(session_id)
    if old is None:
        return None
    return (await import_session(desk, old)).session


async def follow(desk: Desk) -> set[str]:
    """Store what is new in the old shop's Redis, bring up to date what changed there; the ids of the new ones.

    Raises:
        SourceUnavailable, StoreUnavailable: run it again.
    """
    new: set[str] = set()
    if desk.old_shop is None:
        return new
    async for batch in desk.old_shop.changed():
        for old in batch:
            outcome = await import_session(desk, old)
            if outcome.done is Import.TAKEN:
                new.add(old.id)
    return new


async def unmatched_of(desk: Desk, session_ids: Collection[str]) -> list[Unmatched]:
    """The hints that came for these sessions before they were known; of the oldest that are kept."""
    if not session_ids:
        return []
    return [row for row in await desk.store.unmatched(MOST_ROWS) if row.hinted_session_id in session_ids]
