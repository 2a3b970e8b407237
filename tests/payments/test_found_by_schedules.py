"""What the schedules of `proving` found, each kept as its shortest story."""

import pytest
from tests.payments.world import Clock

from proving.killing import Shop, SmallQPay
from tulbur.core.session import ExceptionName, Status
from tulbur.errors import ProviderRefused
from tulbur.stores.memory import MemoryStore


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_late_money_that_is_too_little_has_its_name_though_the_check_was_refused() -> None:
    """Seed 857: found by its id alone, the money was due back, and no exception told a person why."""
    clock = Clock()
    shop = Shop(MemoryStore(clock), clock, SmallQPay(clock))
    session = await shop.process().open(expires_in=600)
    assert (await shop.at_rest(session.id)).status is Status.EXPIRED
    payment_id = shop.qpay.pay(str(session.attempts[0].id), 2_000_000)

    async def refuses(name: str) -> None:
        if name == "check":
            raise ProviderRefused("NO_REASON", provider_status=500)

    shop.qpay.before = refuses
    await shop.process().payments.callback(session.id, payment_id)
    stored = await shop.stored(session.id)
    assert stored.sum("refund_due") == 2_000_000
    assert stored.exceptions == {ExceptionName.UNDERPAID}
    shop.qpay.before = None
    shop.qpay.pay(str(session.attempts[0].id), 3_000_000)
    await shop.process().payments.callback(session.id, "pay-2")
    assert (await shop.stored(session.id)).exceptions == {ExceptionName.LATE}
