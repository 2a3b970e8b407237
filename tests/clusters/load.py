"""Checkouts that are opened and paid without a pause, by callers that ask again as tulbur's own do."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from typing import TypeVar

from tulbur.core.session import Session
from tulbur.errors import CommitUnknown, SessionExists, StoreUnavailable
from tulbur.ports import Committed, Store
from tulbur.stores.contracts.samples import NOW, answered, session, told, with_qr

T = TypeVar("T")

WRITERS = 6
PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.05

PAID_EVENTS = len(answered(with_qr(session().committed()), "pay").news) - len(with_qr(session().committed()).news)
"""What is told when a session is paid, besides that it was opened and invoiced."""


class Load:
    """What was acknowledged, when, and which errors were seen on the way."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._numbers = count(1)
        self._stopped = False
        self._news = asyncio.Event()
        self.acknowledged: list[Session] = []
        self.times = [time.monotonic()]
        self.errors: Counter[str] = Counter()

    @property
    def stall(self) -> float:
        """The longest time in which nobody got anything committed."""
        return max(later - sooner for sooner, later in zip(self.times, self.times[1:], strict=False))

    async def more(self, number: int) -> None:
        """Wait until so many more were paid."""
        wanted = len(self.acknowledged) + number
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.acknowledged) < wanted:
                self._news.clear()
                await self._news.wait()

    async def write(self) -> None:
        while not self._stopped:
            await self._one(f"load-{next(self._numbers)}")

    def stop(self) -> None:
        self._stopped = True

    async def _one(self, id_: str) -> None:
        new = session(id_, scope="load", idempotency_key=id_)
        with contextlib.suppress(SessionExists):  # by the sending whose answer was lost
            await self._patiently(lambda: self._store.add(new))
        opened = new.committed()
        waits = await self._commit(opened, with_qr(opened))
        self.acknowledged.append(await self._commit(waits, answered(waits, f"pay-{id_}")))
        self._news.set()

    async def _commit(self, before: Session, after: Session) -> Session:
        unknown = self.errors["CommitUnknown"]
        result = await self._patiently(lambda: self._store.commit(before, after))
        if result is Committed.LOST:
            # To itself only: nobody else writes this session.
            assert self.errors["CommitUnknown"] > unknown
            assert await self._patiently(lambda: self._store.get(after.id)) == after.committed()
        else:
            assert result is Committed.WON
        self.times.append(time.monotonic())
        return after.committed()

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return await ask()
            except (CommitUnknown, StoreUnavailable) as error:
                self.errors[type(error).__name__] += 1
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(PAUSE_SECONDS)


@contextlib.asynccontextmanager
async def loaded(store: Store) -> AsyncIterator[Load]:
    """Writers at work until the end of the block; whatever one of them meets that it must not fails it."""
    load = Load(store)
    async with asyncio.TaskGroup() as group:
        for _ in range(WRITERS):
            group.create_task(load.write())
        try:
            yield load
        finally:
            load.stop()


async def all_there(store: Store, load: Load) -> None:
    """Everything that was acknowledged is stored, once, and its history tells it once."""
    assert len({after.id for after in load.acknowledged}) == len(load.acknowledged)
    for after in load.acknowledged:
        assert await store.get(after.id) == after
        assert await store.by_payment(after.payments[0].id) == after
        assert [await store.order(order.id) for order in after.orders] == [(after.id, order) for order in after.orders]
        types = await told(store, after.id)
        assert types[:2] == ["session.opened", "session.invoiced"]
        assert len(types) == 2 + PAID_EVENTS
        assert types.count("session.paid") == 1
    assert (await store.stats(NOW)).orders == sum(len(after.orders) for after in load.acknowledged)
