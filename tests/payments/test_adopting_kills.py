"""A callback for a session that the old shop has in its Redis alone dies at each call of a port: one order set."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
from tests.payments.test_kills import table
from tests.payments.world import Clock

from proving.killing import Bill, Fault, Killer, Shop, SmallQPay, ended
from tulbur.core.moving import OldSession, OldStatus
from tulbur.core.session import SECOND, Status
from tulbur.ports import InvoiceRequest
from tulbur.stores.memory import MemoryStore
from tulbur.worker import Follower

pytestmark = pytest.mark.anyio


@dataclass
class SmallRedis:
    """What the old shop keeps, answered at once."""

    sessions: dict[str, OldSession] = field(default_factory=dict)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def read(self, session_id: str) -> OldSession | None:
        return self.sessions.get(session_id)

    async def changed(self) -> AsyncIterator[Sequence[OldSession]]:
        yield list(self.sessions.values())


def old_session(clock: Clock, *, invoice_id: str) -> OldSession:
    cart = [{"productId": "p1", "shopId": "a", "quantity": 2, "sale_price": 25000}]
    return OldSession(
        id="old-1",
        user_id="u1",
        amount=5_000_000,
        currency="MNT",
        payload={"userId": "u1", "cart": cart, "sellers": [], "totalAmount": 50000},
        status=OldStatus.PENDING,
        invoice_id=invoice_id,
        created_at=clock(),
        updated_at=clock(),
        expires_at=clock() + 600 * SECOND,
        source="redis",
    )


@pytest.mark.parametrize("named", [True, False], ids=["its invoice is named", "its invoice is not named"])
@pytest.mark.parametrize("followed", [True, False], ids=["followed before", "not stored yet"])
async def test_it_is_ordered_once_wherever_the_process_ends(*, named: bool, followed: bool) -> None:
    async def run(killer: Killer, *, redelivered: bool) -> None:
        clock = Clock()
        redis = SmallRedis()
        shop = Shop(MemoryStore(clock), clock, SmallQPay(clock), redis)
        asked = InvoiceRequest(
            sender_invoice_no="old-1", receiver_code="t", description="", amount=5_000_000, callback_url="http://old"
        )
        shop.qpay.bills["inv-1"] = Bill("inv-1", asked)
        redis.sessions["old-1"] = old_session(clock, invoice_id="inv-1" if named else "")
        if followed:
            await Follower(shop.process().payments, owner="f").once()
        payment_id = shop.qpay.pay("inv-1")
        process = shop.process(killer)
        said = await ended(process.payments.callback("old-1", payment_id))
        await process.payments.stop()
        promised = isinstance(said, str)
        if redelivered or not promised:
            await shop.process().payments.callback("old-1", payment_id)
        await Follower(shop.process().payments, owner="g").once()
        rested = await shop.at_rest("old-1")
        assert (rested.status, len(rested.orders)) == (Status.PAID, 1)

    await table(lambda killer: run(killer, redelivered=False))
    await table(lambda killer: run(killer, redelivered=True), (Fault.LOST, Fault.KILLED_AFTER))
