from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from aiohttp.test_utils import TestServer
from tests.qpay.fakes import PASSWORD, USERNAME, Clock, FakeQPay, TokenStore

from tulbur.qpay import QPay, Timeouts

MakeClient = Callable[..., Awaitable[QPay]]

QUICK = Timeouts(token=1, invoice=1, question=1, whole_invoice=2, whole_question=2)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> TokenStore:
    return TokenStore(clock)


@pytest.fixture
async def qpay(clock: Clock) -> AsyncIterator[FakeQPay]:
    fake = FakeQPay(clock)
    async with TestServer(fake.app()) as server:
        fake.url = str(server.make_url("/"))
        yield fake


@pytest.fixture
async def make_client(clock: Clock, store: TokenStore) -> AsyncIterator[MakeClient]:
    """Makes clients of one login over one store; each is what one process would have."""
    async with AsyncExitStack() as stack:

        async def make(base_url: str, password: str = PASSWORD, **options: object) -> QPay:
            given = {"store": store, "clock": clock, "sleep": clock.sleep, "timeouts": QUICK, **options}
            client = QPay(base_url, USERNAME, password, "TEST_INVOICE", **given)
            await client.start()
            stack.push_async_callback(client.stop)
            return client

        yield make


@pytest.fixture
async def client(qpay: FakeQPay, make_client: MakeClient) -> QPay:
    return await make_client(qpay.url)
