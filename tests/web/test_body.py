"""Bodies as clients send them, and as nobody should."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from starlette.requests import Request

from tulbur.errors import BadRequest, Invalid, TooLarge
from tulbur.web import body as reading
from tulbur.web.body import MOST_BYTES, parse, read_bytes, read_object

pytestmark = pytest.mark.anyio

UNREADABLE = {
    "empty": b"",
    "blank": b" \n",
    "not utf-8": b'{"a": "\xff"}',
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "cut": b'{"a": 1',
    "two values": b"{} {}",
    "same key twice": b'{"a": 1, "b": {"c": 1, "c": 1}}',
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": -Infinity}',
    "huge integer": b'{"a": ' + b"9" * 5000 + b"}",
    "long decimal": b'{"a": 0.' + b"1" * 5000 + b"}",
    "huge exponent": b'{"a": 1e99999999999999999999}',
    "deep": b"[" * 60_000,
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "single quotes": b"{'a': 1}",
    "nul": b"\x00",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_told_in_a_sentence(name: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(UNREADABLE[name])
    assert caught.value.message.startswith("the ")


def test_numbers_are_read_from_their_text() -> None:
    assert parse(b'{"a": 25000.10, "b": 12, "c": 1e2}') == {"a": Decimal("25000.10"), "b": 12, "c": Decimal(100)}


def request(*chunks: bytes, end: str | None = None, **headers: str) -> Request:
    """A request that sends its body in these chunks and then, with `end`, goes away or falls silent."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": chunk, "more_body": end is not None or number < len(chunks)}
        for number, chunk in enumerate(chunks, start=1)
    ]
    if end == "gone":
        messages.append({"type": "http.disconnect"})

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


async def test_an_object_is_read_from_its_chunks() -> None:
    assert await read_object(request(b'{"a"', b": 1}", content_type="application/json; charset=UTF-8")) == {"a": 1}
    assert await read_object(request(b'{"a": 1}')) == {"a": 1}
    assert await read_object(request(b"{}", content_type="application/vnd.shop+json")) == {}


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"]
)
async def test_another_kind_of_body_is_not_read(kind: str) -> None:
    with pytest.raises(BadRequest):
        await read_object(request(b"{}", content_type=kind))


@pytest.mark.parametrize("text", [b"[]", b'"x"', b"1", b"null", b"true"])
async def test_another_kind_of_json_is_not_valid(text: bytes) -> None:
    with pytest.raises(Invalid):
        await read_object(request(text))


async def test_an_announced_length_is_believed_when_it_is_too_much() -> None:
    with pytest.raises(TooLarge):
        await read_bytes(request(b"{}", content_length=str(MOST_BYTES + 1)))
    for nonsense in ("x", "-1", "1e3", "9" * 30, ""):
        with pytest.raises(BadRequest):
            await read_bytes(request(b"{}", content_length=nonsense))


async def test_an_announced_length_is_not_believed_when_it_is_little() -> None:
    chunks = [b"x" * 1024] * (MOST_BYTES // 1024)
    assert len(await read_bytes(request(*chunks, content_length="1"))) == MOST_BYTES
    with pytest.raises(TooLarge):
        await read_bytes(request(*chunks, b"x", content_length="1"))


async def test_a_client_that_goes_away_is_no_failure() -> None:
    with pytest.raises(BadRequest):
        await read_bytes(request(b'{"a"', end="gone"))


async def test_a_client_that_falls_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BODY_SECONDS", 0.01)
    with pytest.raises(BadRequest):
        await read_bytes(request(b'{"a"', end="silent"))
