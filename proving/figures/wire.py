"""HTTP over raw sockets, as thin as a load generator needs it: bytes out, and the answer's status and body."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final, Self

ANSWER_SECONDS: Final = 60.0
"""The longest an answer may take; every one of tulbur's is bounded below."""

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_NO_BODY: Final = frozenset({204, 304})


class Unanswered(Exception):
    """The connection ended, or time ran out, before the answer was whole."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    head: bytes
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - whatever was answered
        return json.loads(self.body)


class Line:
    """One connection; requests go one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, port: int) -> Self:
        """Connect to a port of this machine.

        Raises:
            Unanswered: nobody listens.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return cls(*await asyncio.open_connection("127.0.0.1", port))
        except (OSError, TimeoutError) as error:
            raise Unanswered(repr(error)) from error

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """The next answer; that to a HEAD is `bodiless`.

        Raises:
            Unanswered: there is none.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                head = await self._reader.readuntil(b"\r\n\r\n")
                status = int(head[9:12])
                if bodiless or status in _NO_BODY:
                    return Answer(status, head, b"")
                length = _LENGTH.search(head)
                size = int(length[1]) if length else None
                body = await (self._reader.read(-1) if size is None else self._reader.readexactly(size))
                return Answer(status, head, body)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            raise Unanswered(repr(error)) from error

    async def ask(self, data: bytes) -> Answer:
        """Raises Unanswered."""
        self.write(data)
        return await self.answer()

    @property
    def open(self) -> bool:
        return not (self._reader.at_eof() or self._writer.is_closing())

    def abort(self) -> None:
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def request(method: str, path: str, body: object = None, *, key: str = "", idempotency_key: str = "") -> bytes:
    """A well-formed request, with a JSON body if there is one, an API key and an Idempotency-Key if there are such."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if key:
        head += f"Authorization: Bearer {key}\r\n"
    if idempotency_key:
        head += f"Idempotency-Key: {idempotency_key}\r\n"
    if body is None:
        return f"{head}\r\n".encode()
    data = json.dumps(body).encode()
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
