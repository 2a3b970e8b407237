"""One connection of a client, with an end to everything: what it may send unasked, and how long it may take.

uvicorn reads headers of any size, keeps any number of requests that were sent ahead, and waits for ever.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import ClassVar, Final

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tulbur.web.problems import problem

MOST_HEAD: Final = 64 * 1024
"""Bytes that lead nowhere: of an address, headers, trailers; the application takes half of it. What came in one piece
with the beginning of a request is not counted, so there can be one piece (256 KiB) more."""

MOST_AHEAD: Final = 100
"""Requests a client may send before it has the answer to its first."""


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's protocol; a connection that goes too far is closed, and told why where that can still be said."""

    request_seconds: ClassVar[float] = 30
    """From the first byte of a request, or the connection, to the last one; longer than any body may take."""

    taking_seconds: ClassVar[float] = 30
    """How long a client may take nothing of what was written for it."""

    _unread = 0
    _receiving: asyncio.TimerHandle | None = None
    _writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._receive_in_time()

    def connection_lost(self, exc: Exception | None) -> None:
        self._received()
        self.resume_writing()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._unread += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._unread > MOST_HEAD:
            self._refuse(431, "too_large", f"headers are at most {MOST_HEAD // 2048} KiB")
        elif self._receiving is None and not self._answering():
            # Whatever this is, it ended uvicorn's own patience with an idle connection.
            self._receive_in_time()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unread = 0
        self._receive_in_time()

    def on_headers_complete(self) -> None:
        self._unread = 0
        if self.transport.is_closing():
            return
        super().on_headers_complete()
        if len(self.pipeline) > MOST_AHEAD:
            self.transport.abort()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        self._received()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.pipeline:
            # uvicorn lets more in with each answer; what was sent ahead is answered first.
            self.flow.pause_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(self.taking_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        del msg
        self._refuse(400, "bad_request", "this is not a request that can be read")

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _receive_in_time(self) -> None:
        self._received()
        self._receiving = self.loop.call_later(self.request_seconds, self.transport.close)

    def _received(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Say why where nothing else is being said, then close."""
        if not self.pipeline and not (self._answering() and self.cycle.response_started):
            self.transport.write(_as_sent(problem(status, code, detail)))
        self.transport.close()


def _as_sent(response: Response) -> bytes:
    phrase = HTTPStatus(response.status_code).phrase.encode()
    lines = [
        b"HTTP/1.1 %d %b" % (response.status_code, phrase),
        *(b"%b: %b" % header for header in response.raw_headers),
    ]
    return b"\r\n".join([*lines, b"connection: close", b"", bytes(response.body)])
