"""A QPay that is slow, silent, endless or half dead, over raw sockets."""

import asyncio
import contextlib
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from tests.qpay.conftest import MakeClient
from tests.qpay.fakes import CARD_ROW, INVOICE, INVOICE_ID, PAYMENT_ID, Clock, FakeQPay, Reply, TokenStore, paid

from tulbur.core.session import SECOND
from tulbur.errors import ProviderUnavailable
from tulbur.ports import Cancelling, InvoiceRequest, StoredToken
from tulbur.qpay import QPay, Timeouts
from tulbur.qpay.token import login_key

pytestmark = pytest.mark.anyio

REQUEST = InvoiceRequest(
    sender_invoice_no="TB1", receiver_code="terminal", description="x", amount=100, callback_url="https://example.mn"
)
IMPATIENT = Timeouts(invoice=0.15, question=0.15)
MEGABYTE = 1024 * 1024

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[[Talk], Awaitable[str]]


class Raw:
    """A server that reads requests and leaves what is said to the test; counts what arrived."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.url = ""

    async def serve(self, stack: AsyncExitStack, talk: Talk) -> None:
        """Serve until the stack is closed; no conversation outlives it."""
        conversations: set[asyncio.Task[None]] = set()

        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    await talk(reader, writer)
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            conversations.add(asyncio.create_task(converse(reader, writer)))

        async def end() -> None:
            server.close()
            for conversation in conversations:
                conversation.cancel()
            await asyncio.gather(*conversations, return_exceptions=True)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        stack.push_async_callback(end)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def request(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        body = await reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else b""
        self.requests.append(head + body)
        return head


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def raw() -> Raw:
    return Raw()


def answered(body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = ["HTTP/1.1 200 OK", "Content-Type: application/json", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def ready(raw: Raw, make_client: MakeClient, store: TokenStore, clock: Clock, **options: object) -> QPay:
    """A client with a live token, so that its first request is the one a test is about."""
    store.tokens[login_key(raw.url, "TEST_MERCHANT")] = StoredToken("t", "r", clock() + 86_400 * SECOND)
    return await make_client(raw.url, **options)


async def one_byte_at_a_time(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await raw.request(reader)
    for byte in answered(INVOICE.encode()):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.01)


async def silence(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await raw.request(reader)
    await reader.read()


async def truncated(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await raw.request(reader)
    body = INVOICE.encode()
    writer.write(answered(body[:100], length=len(body)))


async def reset(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await raw.request(reader)
    writer.transport.abort()


async def no_http(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await raw.request(reader)
    writer.write(b"220 mail.example.mn ESMTP\r\n\r\n")


async def endless_headers(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await raw.request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(5_000)))


async def bad_gzip(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await raw.request(reader)
    writer.write(answered(b"not gzip at all", "Content-Encoding: gzip"))


async def half_a_gzip(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await raw.request(reader)
    whole = gzip.compress(INVOICE.encode())
    writer.write(answered(whole[: len(whole) // 2], "Content-Encoding: gzip"))


async def ten_megabytes(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await raw.request(reader)
    writer.write(answered(b"", length=10 * MEGABYTE))
    for _ in range(160):
        writer.write(b" " * 65_536)
        await writer.drain()


SLOW = [one_byte_at_a_time, silence]
FAULTS = [
    one_byte_at_a_time,
    silence,
    truncated,
    reset,
    no_http,
    endless_headers,
    bad_gzip,
    half_a_gzip,
    ten_megabytes,
]


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_invoice_whose_answer_is_lost_is_never_sent_again(
    raw: Raw,
    stack: AsyncExitStack,
    make_client: MakeClient,
    store: TokenStore,
    clock: Clock,
    fault: Callable[..., Awaitable[None]],
) -> None:
    await raw.serve(stack, lambda reader, writer: fault(raw, reader, writer))
    client = await ready(raw, make_client, store, clock, timeouts=IMPATIENT if fault in SLOW else Timeouts())
    with pytest.raises(ProviderUnavailable) as lost:
        await client.create_invoice(REQUEST)
    assert len(raw.requests) == 1
    assert "Bearer" not in f"{lost.value!r} {lost.value.__cause__!r} {lost.value.__context__!r}"


async def test_a_gzip_bomb_takes_no_memory(
    raw: Raw, stack: AsyncExitStack, make_client: MakeClient, store: TokenStore, clock: Clock
) -> None:
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(b" " * MEGABYTE) for _ in range(100)) + packer.flush()

    async def explode(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await raw.request(reader)
        writer.write(answered(bomb, "Content-Encoding: gzip"))

    await raw.serve(stack, explode)
    client = await ready(raw, make_client, store, clock, timeouts=Timeouts())
    tracemalloc.start()
    try:
        with pytest.raises(ProviderUnavailable, match="too long"):
            await client.check(INVOICE_ID)
        assert tracemalloc.get_traced_memory()[1] < 8 * MEGABYTE
    finally:
        tracemalloc.stop()


async def test_a_compressed_answer_is_read(client: QPay, qpay: FakeQPay) -> None:
    body = gzip.compress(paid(CARD_ROW).encode())
    qpay.always["payment_check"] = Reply(body=body, headers={"Content-Encoding": "gzip"})
    assert len((await client.check(INVOICE_ID)).payments) == 1


async def test_nobody_listens(make_client: MakeClient, store: TokenStore, clock: Clock, raw: Raw) -> None:
    async with AsyncExitStack() as stack:
        await raw.serve(stack, lambda reader, writer: silence(raw, reader, writer))
    client = await ready(raw, make_client, store, clock)
    with pytest.raises(ProviderUnavailable, match="connection"):
        await client.check(INVOICE_ID)


@pytest.mark.parametrize("method", ["create", "cancel"])
async def test_a_connection_closed_while_idle_repeats_nothing(
    raw: Raw, stack: AsyncExitStack, make_client: MakeClient, store: TokenStore, clock: Clock, method: str
) -> None:
    connections = 0

    async def closes_on_second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await raw.request(reader)
        writer.write(answered(INVOICE.encode()))
        await writer.drain()
        await raw.request(reader)

    await raw.serve(stack, closes_on_second)
    client = await ready(raw, make_client, store, clock)

    async def ask() -> object:
        return await (client.create_invoice(REQUEST) if method == "create" else client.cancel_invoice(INVOICE_ID))

    await ask()
    with pytest.raises(ProviderUnavailable):
        await ask()
    assert (connections, len(raw.requests)) == (1, 2)


async def test_connections_are_kept(
    raw: Raw, stack: AsyncExitStack, make_client: MakeClient, store: TokenStore, clock: Clock
) -> None:
    connections = 0

    async def patient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await raw.request(reader)
            writer.write(answered(b"{}", "Set-Cookie: qpay_merchant_openapi.sid=1; Path=/"))

    await raw.serve(stack, patient)
    raw.url = raw.url.replace("127.0.0.1", "localhost")
    client = await ready(raw, make_client, store, clock)
    for _ in range(5):
        assert await client.cancel_invoice(INVOICE_ID) is Cancelling.CANCELLED
    assert connections == 1
    assert not any(b"cookie" in request.lower() for request in raw.requests)


async def test_a_redirect_is_not_followed(client: QPay, qpay: FakeQPay) -> None:
    await client.login()
    qpay.then("payment_get", Reply(302, "{}", headers={"Location": f"/v2/payment/{PAYMENT_ID}"}))
    with pytest.raises(ProviderUnavailable):
        await client.get_payment(PAYMENT_ID)
    assert qpay.count("payment_get") == 1


async def test_proxies_of_the_environment_are_not_used(
    client: QPay, qpay: FakeQPay, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await client.check(INVOICE_ID)).complete


async def test_the_whole_call_is_bounded(
    raw: Raw, stack: AsyncExitStack, make_client: MakeClient, store: TokenStore, clock: Clock
) -> None:
    await raw.serve(stack, lambda reader, writer: silence(raw, reader, writer))
    client = await ready(raw, make_client, store, clock, timeouts=Timeouts(whole_question=0.02, whole_invoice=0.02))
    with pytest.raises(ProviderUnavailable, match="did not answer"):
        await client.check(INVOICE_ID)
    with pytest.raises(ProviderUnavailable, match="did not answer"):
        await client.create_invoice(REQUEST)


async def test_it_must_be_started(store: TokenStore, clock: Clock) -> None:
    client = QPay("http://127.0.0.1:9", "u", "p", "c", store=store, clock=clock)
    with pytest.raises(RuntimeError, match="start"):
        await client.check(INVOICE_ID)
    await client.stop()


async def test_starting_and_stopping_twice(qpay: FakeQPay, make_client: MakeClient) -> None:
    client = await make_client(qpay.url)
    await client.start()
    await client.stop()
    await client.stop()
    await client.start()
    assert (await client.check(INVOICE_ID)).complete
