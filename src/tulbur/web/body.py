"""Reads request bodies: bounded in size and time, and JSON in which nothing is ambiguous."""

from __future__ import annotations

import asyncio
import json
import re
from decimal import Decimal
from typing import Any, Final, NoReturn

from starlette.requests import ClientDisconnect, Request

from tulbur.errors import BadRequest, Invalid, TooLarge

MOST_BYTES: Final = 64 * 1024
BODY_SECONDS: Final = 15.0
"""How long a client may take to send a body."""

LONGEST_NUMBER: Final = 40
"""Characters of a number; every amount and every 64-bit integer is shorter."""

_JSON: Final = re.compile(r"application/(?:json|[a-z0-9.-]+\+json)", re.IGNORECASE)
_LENGTH: Final = re.compile(r"[0-9]{1,18}")


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object a request carries; numbers with a point come as Decimal.

    Raises:
        TooLarge: more than 64 KiB.
        BadRequest: not declared as JSON, or not readable as such.
        Invalid: JSON, but not an object.
    """
    if not is_json(request):
        raise BadRequest("the body must be sent as application/json")
    value = parse(await read_bytes(request))
    if not isinstance(value, dict):
        raise Invalid("the body must be a JSON object")
    return value


def is_json(request: Request) -> bool:
    """Whether the body is declared as JSON, or not declared at all."""
    kinds = request.headers.getlist("content-type")
    if not kinds:
        return True
    kind, _, options = kinds[0].partition(";")
    charset = options.lower().partition("charset=")[2].strip().strip('"')
    return len(kinds) == 1 and bool(_JSON.fullmatch(kind.strip())) and charset in ("", "utf-8", "utf8")


async def read_bytes(request: Request, most: int = MOST_BYTES) -> bytes:
    """The body, read only as far as it may go.

    Raises:
        TooLarge: it is longer.
        BadRequest: it did not arrive in time, or at all.
    """
    lengths = request.headers.getlist("content-length")
    if any(not _LENGTH.fullmatch(length) for length in lengths):
        raise BadRequest("the Content-Length is not a number")
    if any(int(length) > most for length in lengths):
        raise TooLarge(f"a body is at most {most // 1024} KiB")
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > most:
                    raise TooLarge(f"a body is at most {most // 1024} KiB")
                chunks.append(chunk)
    except TimeoutError:
        raise BadRequest("the body did not arrive in time") from None
    except ClientDisconnect:
        raise BadRequest("the client went away before the body had arrived") from None
    return b"".join(chunks)


def parse(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Read JSON strictly: no key twice, no NaN, no number or nesting without end.

    Raises:
        BadRequest: in one plain sentence.
    """
    if not body.strip():
        raise BadRequest("the body is empty")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise BadRequest("the body is not UTF-8") from None
    try:
        return json.loads(
            text,
            parse_float=_decimal,
            parse_int=_integer,
            parse_constant=_constant,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    except ValueError:
        raise BadRequest("the body is not JSON") from None


def _decimal(text: str) -> Decimal:
    if len(text) > LONGEST_NUMBER:
        raise BadRequest("the body holds a number that is too long")
    try:
        return Decimal(text)
    except ArithmeticError:
        raise BadRequest("the body holds a number that is too large") from None


def _integer(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise BadRequest("the body holds a number that is too long")
    return int(text)


def _constant(_: str) -> NoReturn:
    raise BadRequest("the body holds NaN or Infinity, which are not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadRequest("the body holds the same key twice in one object")
    return found
