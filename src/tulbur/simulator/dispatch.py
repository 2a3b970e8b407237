"""One way through which every call of the QPay API goes: read, spoil if told to, act, write down, answer."""

from __future__ import annotations

import asyncio
import html
import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from tulbur.simulator.errors import QPayError, refusal
from tulbur.simulator.forms import Fields
from tulbur.simulator.http import HTML_TYPE, JSON_TYPE, Reply, json_reply, loads, nginx_reply
from tulbur.simulator.journal import clipped
from tulbur.simulator.wire import iso, shaped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tulbur.simulator.faults import ReplyFault
    from tulbur.simulator.runtime import Simulator
    from tulbur.simulator.tokens import Merchant

# Express reads no more than this by default.
MAX_BODY_BYTES = 100 * 1024
BODY_TIMEOUT_SECONDS = 30
# Token replies keep their shape: a broken login would hide every other oddity.
_UNSHAPED = {"token", "refresh"}
_BEFORE_QPAY = {413, 429, 502, 503, 504}
logger = logging.getLogger("tulbur.simulator")


class BodyTooLargeError(Exception):
    """More bytes than a request may have."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as the handlers see it; `now` is in epoch seconds."""

    simulator: Simulator
    now: float
    method: str
    authorization: str | None
    path: dict[str, str]
    body: bytes
    base_url: str

    def merchant(self) -> Merchant:
        return self.simulator.tokens.merchant(self.authorization, self.now)

    def fields(self) -> Fields:
        """The JSON body; an absent one counts as empty, and so does one that is no object."""
        return Fields(self.json())

    def json(self) -> object:
        if not self.body.strip():
            return {}
        try:
            return loads(self.body)
        except ValueError as error:
            raise QPayError(400, {"error": "SyntaxError", "message": f"Unexpected token in JSON: {error}"}) from None


async def read_body(request: Request) -> bytes:
    """The whole body, bounded in bytes and in time."""
    body = bytearray()
    async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise BodyTooLargeError
    return bytes(body)


def endpoint(
    simulator: Simulator, operation: str, handler: Callable[[Call], object]
) -> Callable[[Request], Awaitable[Response]]:
    """The Starlette endpoint of one operation."""

    async def answer(request: Request) -> Response:
        now = simulator.clock()
        try:
            body = await read_body(request)
        except BodyTooLargeError:
            return nginx_reply(413, "Request Entity Too Large").response()
        except TimeoutError:
            return nginx_reply(408, "Request Time-out").response()
        except ClientDisconnect:
            return Response()
        fault = simulator.faults.take(operation)
        call = _call(simulator, request, body, now)
        reply = spoiled(fault) if fault and fault.replaces_the_answer else _act(operation, handler, call)
        lost = fault is not None and fault.lose_after_commit
        _write_down(call, request, operation, None if lost else reply.status)
        if fault and fault.delay_seconds:
            await simulator.sleep(fault.delay_seconds)
        if lost:
            await hang_up(request)
        return reply.response()

    return answer


def _call(simulator: Simulator, request: Request, body: bytes, now: float) -> Call:
    return Call(
        simulator=simulator,
        now=now,
        method=request.method,
        authorization=request.headers.get("authorization"),
        path=dict(request.path_params),
        body=body,
        base_url=str(request.base_url),
    )


def _act(operation: str, handler: Callable[[Call], object], call: Call) -> Reply:
    shape = call.simulator.faults.current.shape
    try:
        result = handler(call)
        if isinstance(result, Reply):
            return result
        return json_reply(200, result if operation in _UNSHAPED else shaped(result, shape))
    except QPayError as error:
        return json_reply(error.status, error.body)
    except Exception:
        logger.exception("the simulator failed at %s", operation)
        busy = refusal("SYSTEM_BUSY")
        return json_reply(busy.status, busy.body)


def spoiled(fault: ReplyFault) -> Reply:
    """The answer a fault puts in place of QPay's own."""
    status = fault.status or 200
    if fault.body is None:
        if status in _BEFORE_QPAY:
            return nginx_reply(status, HTTPStatus(status).phrase)
        error = refusal("NO_CREDENTIALS" if status == 401 else "SYSTEM_BUSY")
        return json_reply(status, error.body)
    if not isinstance(fault.body, str):
        return json_reply(status, fault.body)
    content_type = JSON_TYPE if fault.body.lstrip().startswith(("{", "[")) else HTML_TYPE
    return Reply(status, fault.body.encode(errors="replace"), content_type)


def _write_down(call: Call, request: Request, operation: str, status: int | None) -> None:
    journal = call.simulator.journal
    journal.counts[operation] += 1
    journal.requests.add(
        {
            "at": iso(call.now),
            "method": request.method,
            "path": request.url.path,
            "query": request.url.query,
            "body": clipped(call.body),
            "status": status,
            "operation": operation,
        }
    )


async def hang_up(request: Request) -> None:
    """Close the connection without an answer.

    ASGI has no message for this, so the connection is taken from uvicorn, whose `receive` belongs to the object that
    holds it. Anywhere else (an in-process test client) the lost answer is a ConnectionResetError.
    """
    transport = getattr(getattr(request.receive, "__self__", None), "transport", None)
    if transport is None or not hasattr(transport, "abort"):
        raise ConnectionResetError("the simulator was told to lose this answer")
    transport.abort()
    while (await request.receive())["type"] != "http.disconnect":
        pass


def unknown_route(call: Call) -> Reply:
    """Express's own 404."""
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Error</title>\n</head>\n<body>\n'
        f"<pre>Cannot {call.method} /v2/{html.escape(call.path['rest'])}</pre>\n</body>\n</html>\n"
    )
    return Reply(404, page.encode(), HTML_TYPE)
