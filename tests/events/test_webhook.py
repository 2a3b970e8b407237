"""The delivery itself, over real sockets: what is sent and signed, and what a hostile or broken shop cannot do."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from typing import Any

import pytest
import standardwebhooks
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from tests.events.receiver import OTHER_SECRET, SECRET, Receiver, status

import tulbur.events as events_module
from tulbur.core.session import SECOND, Event
from tulbur.events import Webhook
from tulbur.ports import Delivery, NumberedEvent, Outcome
from tulbur.settings import IsolatedSettings
from tulbur.wiring import now

pytestmark = pytest.mark.anyio

AT = 1_790_000_000 * SECOND + 5
EVENT = NumberedEvent(
    7, "s-1", Event("evt_1", "order.created", AT, {"order_id": "o-1", "shop_id": "цай", "total": "50000.00"})
)


def key(secret: str = SECRET) -> bytes:
    return base64.b64decode(secret.removeprefix("whsec_"))


@contextlib.asynccontextmanager
async def webhook(url: str, *secrets: str, **options: Any) -> AsyncIterator[Webhook]:
    keys = [key(secret) for secret in secrets or (SECRET,)]
    made = Webhook(url, keys, now, **{"allow_private": True, **options})
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def delivered(url: str, *secrets: str, **options: Any) -> Delivery:
    async with webhook(url, *secrets, **options) as made:
        return await made.deliver(EVENT)


# --- what is sent


async def test_it_is_what_the_documents_promise(shop: Receiver) -> None:
    assert await delivered(shop.url) == Delivery(Outcome.DELIVERED, 204)
    [message] = shop.messages
    assert message.document == {
        "type": "order.created",
        "timestamp": "2026-09-21T14:13:20.000005Z",
        "data": {
            "no": 7,
            "id": "evt_1",
            "type": "order.created",
            "session_id": "s-1",
            "at": "2026-09-21T14:13:20.000005Z",
            "data": {"order_id": "o-1", "shop_id": "цай", "total": "50000.00"},
        },
    }
    assert message.id == "evt_1"
    assert message.headers["content-type"] == "application/json"
    assert abs(int(message.headers["webhook-timestamp"]) - time.time()) < 60


async def test_an_independent_implementation_verifies_it(shop: Receiver) -> None:
    await delivered(shop.url)
    [message] = shop.messages
    assert standardwebhooks.Webhook(SECRET).verify(message.body, message.headers) == message.document
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(OTHER_SECRET).verify(message.body, message.headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(message.body.replace(b"50000", b"90000"), message.headers)


async def test_the_signature_is_that_of_the_specification(shop: Receiver) -> None:
    await delivered(shop.url)
    [message] = shop.messages
    signed = b".".join([message.id.encode(), message.headers["webhook-timestamp"].encode(), message.body])
    expected = base64.b64encode(hmac.new(key(), signed, hashlib.sha256).digest()).decode()
    assert message.headers["webhook-signature"] == f"v1,{expected}"


async def test_while_secrets_change_either_verifies(shop: Receiver) -> None:
    await delivered(shop.url, OTHER_SECRET, SECRET)
    [message] = shop.messages
    assert len(message.headers["webhook-signature"].split(" ")) == 2
    for secret in (SECRET, OTHER_SECRET):
        standardwebhooks.Webhook(secret).verify(message.body, message.headers)


async def test_the_same_event_is_the_same_message(shop: Receiver) -> None:
    async with webhook(shop.url) as made:
        await made.deliver(EVENT)
        await made.deliver(EVENT)
    first, second = shop.messages
    assert (first.id, first.body) == (second.id, second.body)


async def test_one_connection_is_used_again(shop: Receiver) -> None:
    peers = set()

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport
        peers.add(request.transport.get_extra_info("peername"))
        return web.json_response({"ok": True})

    shop.answer = answer
    async with webhook(shop.url) as made:
        for _ in range(3):
            await made.deliver(EVENT)
    assert len(peers) == 1


# --- what the shop answers


@pytest.mark.parametrize("number", [200, 201, 202, 204, 299])
async def test_any_2xx_is_delivered(shop: Receiver, number: int) -> None:
    shop.answer = status(number)
    assert await delivered(shop.url) == Delivery(Outcome.DELIVERED, number)


@pytest.mark.parametrize("number", [400, 401, 404, 410, 429, 500, 503])
async def test_anything_else_is_not(shop: Receiver, number: int) -> None:
    shop.answer = status(number)
    assert await delivered(shop.url) == Delivery(Outcome.REFUSED, number)


@pytest.mark.parametrize("number", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(shop: Receiver, number: int) -> None:
    shop.answer = status(number, Location="/elsewhere")
    assert await delivered(shop.url) == Delivery(Outcome.REDIRECTED, number)
    assert [message.path for message in shop.messages] == ["/events"]


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("120", 120, 120),
        ("0", 0, 0),
        ("-5", 0, 0),
        ("soon", 0, 0),
        ("9" * 400, 999_999_999, 999_999_999),
        ("in 15 minutes", 600, 900),
        (formatdate(0, usegmt=True), 0, 0),
        ("Mon, 99 Foo 2026", 0, 0),
    ],
)
async def test_the_shop_may_ask_for_a_pause(shop: Receiver, header: str, least: float, most: float) -> None:
    if header == "in 15 minutes":
        header = formatdate(time.time() + 900, usegmt=True)
    shop.answer = status(503, Retry_After=header)
    delivery = await delivered(shop.url)
    assert delivery.outcome is Outcome.REFUSED
    assert least <= delivery.asked_seconds <= most


async def test_a_shop_that_does_not_answer_is_given_up(shop: Receiver) -> None:
    never = asyncio.Event()

    async def answer(_: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    shop.answer = answer
    assert await delivered(shop.url, total_seconds=0.2) == Delivery(Outcome.TIMEOUT)


async def test_nobody_listens_there() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/"
        assert await delivered(url) == Delivery(Outcome.UNREACHABLE)


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 70 + ".invalid", "a..b"])
async def test_a_name_that_leads_nowhere(host: str) -> None:
    assert await delivered(f"http://{host}/") == Delivery(Outcome.UNREACHABLE)


async def test_an_answer_without_an_end_is_not_read_to_its_end(shop: Receiver) -> None:
    written = 0
    given_up = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse(status=200)
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
                written += 65536
        finally:
            given_up.set()

    shop.answer = answer
    async with webhook(shop.url) as made:
        assert await made.deliver(EVENT) == Delivery(Outcome.DELIVERED, 200)
        async with asyncio.timeout(30):
            await given_up.wait()
    assert written < 100 * 1024 * 1024


async def test_an_answer_that_drips_holds_nobody_up(shop: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "DRAIN_SECONDS", 0.05)
    never = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=200)
        await response.prepare(request)
        await response.write(b"x")
        await never.wait()
        return response

    shop.answer = answer
    started = time.monotonic()
    assert await delivered(shop.url) == Delivery(Outcome.DELIVERED, 200)
    assert time.monotonic() - started < events_module.TOTAL_SECONDS / 2


async def test_headers_without_an_end_are_no_answer() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\n")
        with contextlib.suppress(OSError):
            while not writer.is_closing():
                writer.write(b"X-More: " + b"x" * 9000 + b"\r\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert (await delivered(f"http://127.0.0.1:{port}/")).outcome is Outcome.UNREACHABLE


# --- where it may go


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_no_name_of_this_machine_leads_here(shop: Receiver, host: str) -> None:
    url = f"http://{host}:{shop.port}/events"
    assert await delivered(url, allow_private=False) == Delivery(Outcome.FORBIDDEN)
    assert shop.messages == []
    # The same address is a good one where it is allowed: what refuses it is its class alone.
    assert (await delivered(url)).outcome is Outcome.DELIVERED


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1", "0"])
async def test_nor_does_a_number(shop: Receiver, host: str) -> None:
    """The system reads these as addresses; whether the client asks it or refuses them itself, nothing arrives."""
    delivery = await delivered(f"http://{host}:{shop.port}/events", allow_private=False)
    assert delivery.outcome in (Outcome.FORBIDDEN, Outcome.UNREACHABLE)
    assert shop.messages == []


class Rebinding(AbstractResolver):
    """Names something public when it is first asked, and this machine from then on."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self.addresses[min(self.asked, len(self.addresses) - 1)]
        self.asked += 1
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [ResolveResult(hostname=host, host=address, port=port, family=kind, proto=6, flags=0)]

    async def close(self) -> None: ...


async def test_a_name_that_changes_its_mind_leads_nowhere(shop: Receiver) -> None:
    resolver = Rebinding("8.8.8.8", "127.0.0.1")
    # Whoever looks the name up beforehand, to judge it, sees a good address.
    assert (await resolver.resolve("shop.invalid"))[0]["host"] == "8.8.8.8"
    url = f"http://shop.invalid:{shop.port}/events"
    async with webhook(url, allow_private=False, resolver=resolver) as made:
        for _ in range(2):
            assert await made.deliver(EVENT) == Delivery(Outcome.FORBIDDEN)
    assert (resolver.asked, shop.messages) == (3, [])


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:192.168.0.1"])
async def test_a_name_may_not_lead_into_the_network(address: str) -> None:
    url = "http://shop.invalid/events"
    assert await delivered(url, allow_private=False, resolver=Rebinding(address)) == Delivery(Outcome.FORBIDDEN)


async def test_no_proxy_of_the_environment_is_used(shop: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await delivered(shop.url)).outcome is Outcome.DELIVERED


# --- what is told of it


async def test_outcome_and_time_are_told(shop: Receiver) -> None:
    heard: list[tuple[str, float]] = []
    shop.answer = status(500)
    await delivered(shop.url, on_delivery=lambda result, seconds: heard.append((result, seconds)))
    [(result, seconds)] = heard
    assert (result, 0 < seconds < 30) == ("refused", True)


@pytest.mark.parametrize("answer", [status(204), status(500), status(302, Location="/canary")])
async def test_nothing_secret_is_told(
    shop: Receiver, caplog: pytest.LogCaptureFixture, answer: Callable[[Any], Any]
) -> None:
    caplog.set_level(logging.DEBUG)
    shop.answer = answer
    settings = IsolatedSettings(
        webhook_url=f"{shop.url}/canary-of-the-path?token=canary", webhook_secret=SECRET, webhook_allow_private="on"
    )
    given = settings.webhook()
    assert given
    delivery = await delivered(given.url)
    told = caplog.text + repr(settings) + repr(given) + repr(delivery)
    assert "canary" not in told
    assert SECRET not in told
    assert json.dumps(list(key())) not in json.dumps(told)
    assert repr(key()) not in told
