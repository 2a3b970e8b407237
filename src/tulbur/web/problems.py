"""Every error as application/problem+json: one plain sentence and a stable code, never what was sent or what broke."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tulbur.errors import (
    IdempotencyRunning,
    Invalid,
    ProviderError,
    ProviderRefused,
    RateLimited,
    SourceUnavailable,
    StoreUnavailable,
    TulburError,
)
from tulbur.web.fields import invalid
from tulbur.web.models import FieldError, Problem

MEDIA_TYPE: Final = "application/problem+json"

_AGAIN_AFTER: Final[tuple[tuple[type[TulburError], int], ...]] = (
    (StoreUnavailable, 5),
    (SourceUnavailable, 5),
    (RateLimited, 10),
    (IdempotencyRunning, 1),
)
"""Seconds after which a refused request may be sent again."""

_CODES: Final[Mapping[int, tuple[str, str]]] = {
    401: ("unauthorized", "Send a valid API key as `Authorization: Bearer <key>`."),
    403: ("forbidden", "This may not be done."),
    404: ("not_found", "There is no such address."),
    405: ("method_not_allowed", "This address does not take that method."),
    413: ("too_large", "The request is too large."),
    429: ("rate_limited", "Too many requests; try again later."),
}

_log: Final = logging.getLogger("tulbur.web")


def problem(
    status: int,
    code: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    **more: Any,  # noqa: ANN401 - the optional fields of Problem
) -> Response:
    """One problem as a response; `more` are the optional fields of `Problem`."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, code=code, detail=sentence(detail), **more)
    return Response(body.model_dump_json(exclude_none=True), status, headers, MEDIA_TYPE)


def sentence(text: str) -> str:
    """A message as a sentence: a capital letter and a full stop."""
    said = text.strip()
    return f"{said[:1].upper()}{said[1:]}" + ("" if said.endswith((".", "!", "?")) else ".")


def error_problem(error: TulburError) -> Response:
    if error.http_status >= 500 and not isinstance(error, ProviderError | SourceUnavailable | StoreUnavailable):
        return internal_problem(error)
    more: dict[str, Any] = {}
    if isinstance(error, ProviderError):
        more["session_id"] = error.session_id
    if isinstance(error, ProviderRefused):
        more |= {"key": error.key, "fields": error.fields}
    if isinstance(error, Invalid) and error.fields:
        more["errors"] = tuple(FieldError(field=field, message=message) for field, message in error.fields)
    return problem(error.http_status, error.code, error.message, _headers(error), **more)


def _headers(error: TulburError) -> dict[str, str]:
    seconds = next((seconds for kind, seconds in _AGAIN_AFTER if isinstance(error, kind)), None)
    headers = {} if seconds is None else {"Retry-After": str(seconds)}
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="tulbur"'
    return headers


def internal_problem(error: Exception) -> Response:
    """An error nobody foresaw: the log tells it, the answer does not."""
    _log.error("a request failed", exc_info=error)
    return problem(500, "internal", "Something went wrong here; it is in the log under this X-Request-ID")


def _http_problem(request: Request, error: HTTPException) -> Response:
    status = error.status_code
    code, detail = _CODES.get(status, ("bad_request", "The request cannot be answered"))
    headers = dict(error.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = _allowed(request, headers.get("Allow", ""))
    return problem(status, code, detail, headers)


def _allowed(request: Request, known: str) -> str:
    """Every method of the address: Starlette names those of one of its routes only."""
    path = getattr(request.scope.get("route"), "path", "")
    documented = request.app.openapi()["paths"].get(path, {})
    methods = {name.upper() for name in documented if name in ("get", "post")} | set(known.split(", "))
    return ", ".join(sorted(methods - {""}))


def handle_problems(app: FastAPI) -> None:
    """Answer errors of every route of `app` as problems; what is left is for the outermost layer."""

    async def known(_: Request, error: Exception) -> Response:
        return error_problem(error) if isinstance(error, TulburError) else internal_problem(error)

    async def wrong(_: Request, error: Exception) -> Response:
        errors = error.errors() if isinstance(error, RequestValidationError) else ()
        return error_problem(invalid(errors, skip=1))

    async def refused(request: Request, error: Exception) -> Response:
        return _http_problem(request, error) if isinstance(error, HTTPException) else internal_problem(error)

    app.add_exception_handler(TulburError, known)
    app.add_exception_handler(RequestValidationError, wrong)
    app.add_exception_handler(HTTPException, refused)
