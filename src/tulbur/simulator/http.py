"""Bytes on the wire: Express's compact JSON, its weak ETag and its headers."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from decimal import Decimal

from starlette.responses import Response

JSON_TYPE = "application/json; charset=utf-8"
HTML_TYPE = "text/html; charset=utf-8"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_EXPRESS_HEADERS = {
    "X-Powered-By": "Express",
    "Access-Control-Allow-Origin": "undefined",
    "Access-Control-Allow-Headers": "Content-Type, Authorization",
    "Access-Control-Allow-Credentials": "true",
}


def _number(value: object) -> int | float:
    """JavaScript has one kind of number, so a whole Decimal is sent without its decimals."""
    if not isinstance(value, Decimal):
        raise TypeError(f"{type(value).__name__} is not JSON")
    return int(value) if value == value.to_integral_value() else float(value)


def dumps(value: object) -> bytes:
    """JSON as `JSON.stringify` writes it: no spaces, UTF-8 unescaped, keys in their given order."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_number)
    return _LONE_SURROGATE.sub("\ufffd", text).encode()


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _clean(value: object) -> object:
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value


def loads(body: bytes) -> object:
    """JSON with fractions as Decimal; ValueError for anything malformed, NaN and bottomless nesting included."""
    try:
        value = json.loads(body.decode("utf-8-sig"), parse_float=Decimal, parse_constant=_no_constant)
        return _clean(value) if b"\\u" in body else value
    except (RecursionError, ArithmeticError) as error:
        raise ValueError("nested too deep, or a number beyond all bounds") from error


def etag(body: bytes) -> str:
    """Express's weak ETag: the length in hex and 27 characters of the body's SHA-1 in base64."""
    digest = base64.b64encode(hashlib.sha1(body, usedforsecurity=False).digest()).decode()
    return f'W/"{len(body):x}-{digest[:27]}"'


@dataclass(frozen=True, slots=True)
class Reply:
    """One finished answer."""

    status: int
    body: bytes
    content_type: str = JSON_TYPE

    def response(self) -> Response:
        headers = {**_EXPRESS_HEADERS, "ETag": etag(self.body), "Content-Type": self.content_type}
        return Response(self.body, status_code=self.status, headers=headers)


def json_reply(status: int, body: object) -> Reply:
    return Reply(status, dumps(body))


def nginx_reply(status: int, reason: str) -> Reply:
    """The HTML page of the proxy in front of QPay, for answers that never reached QPay."""
    page = (
        f"<html>\r\n<head><title>{status} {reason}</title></head>\r\n<body>\r\n<center><h1>{status} {reason}"
        "</h1></center>\r\n<hr><center>nginx/1.28.0</center>\r\n</body>\r\n</html>\r\n"
    )
    return Reply(status, page.encode(), "text/html")
