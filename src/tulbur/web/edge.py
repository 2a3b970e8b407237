"""The outermost layer: a request id, security headers, sane sizes, one line of log, and no exception to the server."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from tulbur.errors import BadRequest, TooLarge
from tulbur.telemetry import ACCESS_LOG
from tulbur.web.body import MOST_BYTES
from tulbur.web.problems import error_problem, internal_problem, problem

MOST_URL: Final = 8 * 1024
MOST_HEADERS: Final = 32 * 1024

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_log: Final = logging.getLogger(ACCESS_LOG)


class Edge:
    """ASGI around ASGI. A response that has begun cannot be turned into a problem: then the server ends it.

    `paths` are the templates of the routes of which FastAPI does not note which one was taken, by endpoint.
    """

    def __init__(self, app: ASGIApp, *, hsts: bool = False, paths: Mapping[Any, str] | None = None) -> None:
        self._app = app
        self._paths = paths or {}
        self._headers = [
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"x-frame-options", b"DENY"),
            (b"cache-control", b"no-store"),
        ]
        if hsts:
            self._headers.append((b"strict-transport-security", b"max-age=31536000"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope["headers"])
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = self._with_headers(message.get("headers", ()), request_id)
            await send(message)

        tokens = bind_contextvars(request_id=request_id.decode())
        try:
            await self._answer(scope, receive, sending)
        except Exception as error:
            if status:
                raise
            await _unforeseen(error)(scope, receive, sending)
        finally:
            self._tell(scope, status, time.perf_counter() - started)
            reset_contextvars(**tokens)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = _oversized(scope)
        await (refusal or self._app)(scope, receive, send)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        """The template of the path, never the path: it may hold a token."""
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = self._paths.get(scope.get("endpoint")) or getattr(scope.get("route"), "path", "-")
        _log.info("request", extra={"method": method, "route": route, "status": status, "seconds": round(seconds, 6)})

    def _with_headers(self, headers: Iterable[tuple[bytes, bytes]], request_id: bytes) -> list[tuple[bytes, bytes]]:
        given = list(headers)
        names = {name.lower() for name, _ in given}
        given.extend(header for header in self._headers if header[0] not in names)
        given.append((b"x-request-id", request_id))
        return given


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The caller's id where it is a safe one, else a new one."""
    given = next((value for name, value in headers if name == b"x-request-id"), b"")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8).encode()


def _oversized(scope: Scope) -> Response | None:
    """A refusal for an address, headers or an announced body that no client of ours would send."""
    path = scope.get("raw_path") or scope["path"].encode(errors="replace")
    if len(path) + len(scope["query_string"]) > MOST_URL:
        return problem(414, "too_large", f"an address is at most {MOST_URL // 1024} KiB")
    size = 0
    for name, value in scope["headers"]:
        size += len(name) + len(value)
        if name == b"content-length" and value.isdigit() and len(value) < 20 and int(value) > MOST_BYTES:
            return error_problem(TooLarge(f"a body is at most {MOST_BYTES // 1024} KiB"))
    if size > MOST_HEADERS:
        return problem(431, "too_large", f"headers are at most {MOST_HEADERS // 1024} KiB")
    return None


def _unforeseen(error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        return error_problem(BadRequest("the client went away"))
    return internal_problem(error)
