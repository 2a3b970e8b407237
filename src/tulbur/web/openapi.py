"""The OpenAPI 3.1 document: FastAPI's view of /v1, completed by what it does not see."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from tulbur.web.intake import SessionOpen
from tulbur.web.models import Problem
from tulbur.web.money_intake import Assign, Close, RefundRequest, Review
from tulbur.web.problems import MEDIA_TYPE

API_VERSION: Final = "1"
"""Of the names on this page, which are promises; not of the program behind them."""

_SCHEMAS: Final = "#/components/schemas/"


def body(name: str) -> dict[str, Any]:
    """The body of a route, which is read by our own hand."""
    content = {"application/json": {"schema": {"$ref": f"{_SCHEMAS}{name}"}}}
    return {"requestBody": {"required": True, "content": content}}


_DESCRIPTION: Final = """Turns every paid QPay invoice into exactly one set of orders.

JSON in snake_case, times as RFC 3339 in UTC, money as decimal text in tugrik ("50000.00"). Errors are RFC 9457 problems
with a stable `code`. Lists are `{"items": […], "next_cursor": "…"|null}`."""

_TAKEN: Final = (SessionOpen, Review, RefundRequest, Assign, Close)

_TAGS: Final = (
    {"name": "sessions", "description": "Checkouts, from cart to orders."},
    {"name": "money", "description": "What people decide about money: orders, refunds, whose it is."},
    {"name": "orders", "description": "What each shop is to deliver."},
    {"name": "events", "description": "The history of all sessions, for readers that follow it."},
    {"name": "operations", "description": "Health and counts."},
    {
        "name": "payers",
        "description": "What QPay and the payer's browser call; the token in the address is the permission.",
    },
)

_MEANINGS: Final[Mapping[int, str]] = {
    400: "The request cannot be read: `bad_request`",
    401: "No valid API key: `unauthorized`",
    403: "The API key lacks the scope: `forbidden`",
    404: "There is no such thing: `not_found`",
    409: "The state does not allow it: `already_paid`, `idempotency_running`, `conflict`",
    413: "More than 64 KiB: `too_large`",
    422: "A value is not valid: `invalid`, `amount_mismatch`, `idempotency_mismatch`",
    502: "QPay: `provider_unavailable`, `provider_refused`",
    503: "The database does not answer, nothing was changed: `store_unavailable`",
}


def problems(*statuses: int, private: bool = True) -> dict[int | str, dict[str, Any]]:
    """The problem responses of a route; every route of the API needs a key."""
    wanted = sorted({*statuses, *((401, 403) if private else ())})
    content = {MEDIA_TYPE: {"schema": {"$ref": f"{_SCHEMAS}Problem"}}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in wanted}


def document(app: FastAPI, server: str) -> dict[str, Any]:
    """The whole document, with the routes that are not FastAPI's and without the errors it supposes."""
    found = get_openapi(
        title="tulbur",
        version=API_VERSION,
        openapi_version="3.1.0",
        description=_DESCRIPTION,
        routes=app.routes,
        tags=[dict(tag) for tag in _TAGS],
        servers=[{"url": server}],
    )
    _, ours = models_json_schema(
        [*((taken, "validation") for taken in _TAKEN), (Problem, "serialization")],
        ref_template=_SCHEMAS + "{model}",
    )
    schemas = found["components"]["schemas"] | ours["$defs"]
    found["components"]["schemas"] = {
        name: schema
        for name, schema in sorted(schemas.items())
        if name not in ("HTTPValidationError", "ValidationError")
    }
    for path in found["paths"].values():
        for operation in path.values():
            operation["responses"] = {
                status: response for status, response in operation["responses"].items() if not _supposed(response)
            }
    found["paths"] |= _plain_paths()
    return found


def _supposed(response: Mapping[str, Any]) -> bool:
    schema = response.get("content", {}).get("application/json", {}).get("schema", {})
    return bool(schema.get("$ref") == f"{_SCHEMAS}HTTPValidationError")


# --- routes that FastAPI does not see --------------------------------------------------------------------------------


def _plain_paths() -> dict[str, Any]:
    pay = [_path("session_id"), _path("pay_token")]
    at = "/pay/{session_id}/{pay_token}"
    return {
        "/callbacks/qpay/{session_id}/{token}": {
            "parameters": [_path("session_id"), _path("token")],
            "get": _callback("qpay_callback"),
            "post": _callback("qpay_callback_post"),
        },
        at: {"parameters": pay, "get": _page()},
        f"{at}/status": {"parameters": pay, "get": _payer("checkout_status", "The payer's status", "application/json")},
        f"{at}/events": {
            "parameters": pay,
            "get": _payer("checkout_events", "The payer's status, live", "text/event-stream"),
        },
        f"{at}/check": {"parameters": pay, "post": _check()},
        "/healthz": {"get": _operation("healthz", "Is the process alive", "text/plain")},
        "/readyz": {
            "get": _operation(
                "readyz",
                "Can it serve: `ready`, `degraded` (cache or QPay away) or `unready` (database away)",
                "application/json",
                {"503": {"description": "Unready"}},
            )
        },
        "/metrics": {"get": _operation("metrics", "Prometheus metrics", "text/plain")},
    }


def _path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _plain(tag: str, name: str, summary: str, media_type: str, more: Mapping[str, Any]) -> dict[str, Any]:
    done = {"description": HTTPStatus.OK.phrase, "content": {media_type: {"schema": {}}}}
    return {
        "tags": [tag],
        "operationId": name,
        "summary": summary,
        "responses": {"200": done, **more},
        "security": [],
    }


def _operation(name: str, summary: str, media_type: str, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return _plain("operations", name, summary, media_type, more or {})


def _payer(name: str, summary: str, media_type: str, *statuses: int) -> dict[str, Any]:
    refusals = problems(404, 503, *statuses, private=False)
    return _plain("payers", name, summary, media_type, {str(status): refusals[status] for status in refusals})


def _page() -> dict[str, Any]:
    page: dict[str, Any] = {"text/html": {"schema": {}}}
    refusals = {str(status): {"description": _MEANINGS[status], "content": page} for status in (404, 503)}
    return _plain("payers", "checkout_page", "The payer's page", "text/html", refusals)


def _check() -> dict[str, Any]:
    operation = _payer("checkout_check", '"I have paid"', "application/json", 403, 413)
    status: dict[str, Any] = {"application/json": {"schema": {}}}
    operation["responses"] |= {
        "202": {"description": "QPay does not answer; it will be asked again", "content": status},
        "303": {"description": "Back to the page, for a browser without script"},
    }
    return operation


def _callback(name: str) -> dict[str, Any]:
    refusals = problems(400, 404, 413, 503, private=False)
    summary = "QPay reports a payment; `SUCCESS` promises that it is kept"
    operation = _plain("payers", name, summary, "text/plain", {str(status): refusals[status] for status in refusals})
    payment_id = {"type": "string", "maxLength": 64, "pattern": "^[A-Za-z0-9_-]+$"}
    operation["parameters"] = [{"name": "qpay_payment_id", "in": "query", "schema": payment_id}]
    return operation
