"""One process of tulbur in a trial: the shipped store, use cases and worker, and what its case is about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final, cast

from proving.crash.bank import Line, Pipe
from proving.crash.databases import Kept, Place
from proving.crash.neighbours import OldRedis
from proving.crash.shared import Shared
from proving.crash.strikes import Losing, Striker
from proving.host import KEYS, LINKS, SILENT
from proving.qpay import Bill
from tulbur.cache import MemoryBackend, SessionCache
from tulbur.core.orders import Item
from tulbur.core.rules import Rules
from tulbur.core.session import Session
from tulbur.errors import StoreUnavailable, TulburError
from tulbur.payments import OpenRequest, Payments
from tulbur.payments.desk import Desk
from tulbur.ports import Provider, SessionQuery, Spool, Store
from tulbur.spool import FileSpool
from tulbur.worker import Replayer, Worker

AMOUNT: Final = 5_000_000
EXPIRES_SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class Parts:
    """What is on trial; a test puts a broken part in, to show that the laws notice."""

    payments: type[Payments] = Payments
    store: Any = None
    replayer: type[Replayer] = Replayer


SOUND: Final = Parts()


class Setting(Enum):
    """What tulbur is set to, where that is not what a new deployment has."""

    PLAIN = auto()
    LATE_IS_REVIEWED = auto()
    OLD_SHOP_IS_FOLLOWED = auto()


@dataclass(frozen=True, slots=True)
class Case:
    """What was prepared for one trial; `user_id` is nobody else's, `before` counts the orders and events there were."""

    user_id: str
    before: tuple[int, int]
    session_id: str = ""
    payment_id: str = ""
    spool: str = ""
    setting: Setting = Setting.PLAIN


class Shop:
    """What a handler works with."""

    def __init__(self, shared: Shared, line: Line, desk: Desk, parts: Parts, threads: list[Executor]) -> None:
        self.shared, self.line, self.desk, self.threads = shared, line, desk, threads
        self.payments = parts.payments(desk)
        self.worker = Worker(self.payments, owner=f"w{shared.new_id()}")
        self._parts = parts

    @property
    def store(self) -> Store:
        return self.desk.store

    def advance(self, seconds: float) -> None:
        self.shared.advance(seconds)

    def request(self, case: Case) -> OpenRequest:
        """A cart of two shops over 50,000 tugrik."""
        items = (
            Item(shop_id="s1", product_id="p1", title="Цай", quantity=2, unit_price=1_500_000),
            Item(shop_id="s2", product_id="p2", title="Аяга", quantity=1, unit_price=2_000_000),
        )
        return OpenRequest(
            user_id=case.user_id,
            amount=AMOUNT,
            items=items,
            expires_in=EXPIRES_SECONDS,
            cache_seconds=600,
            scope="shop",
            idempotency_key=case.user_id,
            body_digest="digest",
        )

    def pay(self, session: Session, method: str = "P2P") -> str:
        return str(self.line.say("pay", str(session.attempts[-1].id), method))

    def replayer(self) -> Replayer:
        assert self.desk.spool
        return self._parts.replayer(self.payments, self.desk.spool)

    async def sessions(self, case: Case) -> list[Session]:
        """All that came of this trial, oldest first."""
        return (await self.store.find(SessionQuery(user_id=case.user_id)))[::-1]

    async def callback(self, case: Case) -> None:
        await self.payments.callback(case.session_id, case.payment_id)

    def state(self) -> tuple[dict[str, Bill], list[str], list[tuple[int, str]]]:
        """QPay's invoices, the payments it gave back, and the events that were delivered."""
        return self.line.say("state")  # type: ignore[no-any-return]


@asynccontextmanager
async def shop(
    pipe: Pipe,
    striker: Striker,
    place: Place,
    case: Case,
    parts: Parts,
    *,
    cache: MemoryBackend | None = None,
    running: Kept | None = None,
) -> AsyncIterator[Shop]:
    """A process that has just started, or where a store is `running` one that has been there; `cache`: its memory."""
    shared, line = striker.shared, Line(pipe, striker)
    own = running or place.store(striker)
    own.striker = striker
    losing = Losing(own, striker)
    store = cast("Store", parts.store(losing) if parts.store else losing)
    spool = _spool(case)
    desk = Desk(
        store=store,
        cache=SessionCache(cache or MemoryBackend(shared.clock), KEYS, shared.clock, timeout_seconds=10),
        provider=cast("Provider", line),
        links=LINKS,
        sink=SILENT,
        clock=shared.clock,
        new_id=shared.new_id,
        spool=spool,
        old_shop=OldRedis(line) if case.setting is Setting.OLD_SHOP_IS_FOLLOWED else None,
        rules=Rules(review_late=case.setting is Setting.LATE_IS_REVIEWED),
    )
    if running is None:
        await own.start()
    if spool is not None:
        await spool.start()
    made = Shop(shared, line, desk, parts, place.threads(own))
    try:
        yield made
        await made.payments.stop()
    finally:
        if spool is not None:
            await spool.stop()
        if running is None:
            await own.stop()
        for thread in made.threads:
            thread.shutdown()


def _spool(case: Case) -> Spool | None:
    return FileSpool(Path(case.spool), KEYS) if case.spool else None


async def ended(act: Awaitable[object]) -> bool:
    """Whether a use case came to an end that its caller could see; our own errors are answers."""
    try:
        await act
    except StoreUnavailable:
        return False
    except TulburError:
        return True
    return True


MOST_TRIES: Final = 50


async def surely(act: Any) -> Any:  # noqa: ANN401 - whatever it gives
    """Again while what a dead process left in the database is in the way."""
    for _ in range(MOST_TRIES):
        try:
            return await act()
        except StoreUnavailable:
            await asyncio.sleep(0.05)
    raise AssertionError("law 10: the database stays blocked")
