"""QPay's callbacks: the token is checked before anything else, and SUCCESS is said only for what is durable."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from tulbur.errors import BadRequest, NotFound, StoreUnavailable, TooLarge
from tulbur.web.body import is_json, parse, read_bytes
from tulbur.web.parts import WebParts
from tulbur.web.problems import error_problem

PAYMENT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAMES: Final = ("qpay_payment_id", "payment_id")
_FORM: Final = "application/x-www-form-urlencoded"
_MOST_FORM_FIELDS: Final = 100

_log: Final = logging.getLogger("tulbur.web")


def callback_routes(parts: WebParts) -> list[BaseRoute]:
    """GET, which QPay sends, and POST, which its documents also show."""

    async def qpay_callback(request: Request) -> Response:
        started = time.perf_counter()
        outcome, response = await _called_back(parts, request)
        parts.telemetry.called_back(outcome, time.perf_counter() - started)
        return response

    route = Route("/callbacks/qpay/{session_id}/{token}", qpay_callback, methods=["GET", "POST"])
    # Starlette adds HEAD to every GET; a link checker must not count as QPay.
    route.methods = {"GET", "POST"}
    return [route]


async def _called_back(parts: WebParts, request: Request) -> tuple[str, Response]:
    session_id, token = request.path_params["session_id"], request.path_params["token"]
    if not parts.links.is_callback_token(session_id, token):
        return "forged", error_problem(NotFound())
    try:
        payment_id = await payment_id_of(request)
    except (BadRequest, TooLarge) as refusal:
        return "malformed", error_problem(refusal)
    try:
        outcome = await parts.payments.callback(session_id, payment_id)
    except StoreUnavailable as error:
        return "failed", error_problem(error)
    except Exception as error:  # noqa: BLE001 - whatever broke, nothing is known to be durable
        _log.error("a callback failed", exc_info=error, extra={"session_id": session_id})
        return "failed", error_problem(StoreUnavailable("the callback could not be kept; send it again"))
    return outcome, PlainTextResponse("SUCCESS")


async def payment_id_of(request: Request) -> str:
    """The one payment id a callback names, "" when it names none.

    Raises:
        BadRequest: it names several, or something that cannot be an id.
        TooLarge: the body has no end.
    """
    named = [value for name, value in request.query_params.multi_items() if name == _NAMES[0]]
    if request.method == "POST":
        named += await _named_in_body(request)
    ids = {value for value in named if value}
    if any(not PAYMENT_ID.fullmatch(value) for value in ids):
        raise BadRequest("the payment id is not one")
    if len(ids) > 1:
        raise BadRequest("the callback names more than one payment")
    return next(iter(ids), "")


async def _named_in_body(request: Request) -> list[str]:
    """What a JSON object or a form names; anything else that was sent means nothing."""
    body = await read_bytes(request)
    if not body.strip():
        return []
    if request.headers.get("content-type", "").lower().startswith(_FORM):
        return [value for name, value in _form(body) if name in _NAMES]
    if not is_json(request):
        return []
    value = parse(body)
    if not isinstance(value, dict):
        raise BadRequest("the body is not a JSON object")
    return [_text(value[name]) for name in _NAMES if value.get(name) is not None]


def _form(body: bytes) -> Iterable[tuple[str, str]]:
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FORM_FIELDS, errors="strict")
    except ValueError:
        raise BadRequest("the form cannot be read") from None


def _text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadRequest("the payment id is not one")
    return str(value)
