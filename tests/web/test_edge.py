"""The outermost layer: headers on every answer, sizes, strange clients, and an application mounted under another."""

from __future__ import annotations

import logging
from typing import Any

import httpx2
import pytest
import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.routing import Mount
from tests.web.api_world import CART, KEYS, Api, assert_problem, scope, spoken, whole
from tests.web.api_world import api as make_api

from tulbur.web.edge import Edge

pytestmark = pytest.mark.anyio

PATHS = ["/v1/sessions", "/v1/sessions/nobody", "/nowhere", "/healthz", "/openapi.json", "/docs", "/callbacks/qpay/a/b"]


@pytest.mark.parametrize("path", PATHS)
async def test_every_answer_has_its_headers(api: Api, path: str) -> None:
    headers = (await api.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    assert len(headers["x-request-id"]) == 16
    assert "strict-transport-security" not in headers
    assert "server" not in headers


async def test_https_is_asked_for_where_it_is_meant() -> None:
    made = make_api(hsts=True)
    assert (await made.get("/healthz")).headers["strict-transport-security"].startswith("max-age=")


async def test_a_safe_request_id_is_kept(api: Api) -> None:
    answer = await api.get("/healthz", headers={"X-Request-ID": "shop-7.A_b"})
    assert answer.headers["x-request-id"] == "shop-7.A_b"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "a\tb", '"><script>', "ключ"])
async def test_an_unsafe_request_id_is_replaced(api: Api, given: str) -> None:
    answer = await api.http.get("/healthz", headers=[("X-Request-ID", given.encode())])
    assert answer.headers.get_list("x-request-id") != [given]
    assert len(answer.headers["x-request-id"]) == 16


async def test_an_address_has_its_limit(api: Api) -> None:
    assert_problem(await api.get("/v1/sessions?user_id=" + "x" * 9000), 414, "too_large")
    assert_problem(await api.get("/" + "x" * 9000), 414, "too_large")
    assert (await api.get("/healthz?x=" + "x" * 8000)).status_code == 200


async def test_headers_have_their_limit(api: Api) -> None:
    assert_problem(await api.get("/healthz", headers={"X-Large": "x" * 40_000}), 431, "too_large")


async def test_an_address_that_is_none(api: Api) -> None:
    for path in ("/nowhere", "/v1", "/v1/", "/v1/sessions/", "/V1/sessions", "//v1/sessions", "/v1/sessions/a/b/c"):
        assert_problem(await api.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/sessions", "GET, POST"),
        ("HEAD", "/v1/sessions", "GET, POST"),
        ("OPTIONS", "/v1/sessions/s1", "GET"),
        ("GET", "/v1/sessions/s1/cancel", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("BREW", "/v1/stats", "GET"),
    ],
)
async def test_a_method_that_is_not_taken(api: Api, method: str, path: str, allowed: str) -> None:
    answer = await api.call(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    if method != "HEAD":
        assert_problem(answer, 405, "method_not_allowed")


async def test_one_line_for_each_request_names_the_route_and_no_token(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="tulbur")
    session = await api.open()
    await api.call_back(session["id"], "?qpay_payment_id=1")
    await api.get(f"/v1/sessions/{session['id']}")
    await api.get("/nowhere/secret")
    await api.call("BREW", "/healthz")
    lines = [record for record in caplog.records if record.name == "tulbur.access"]
    told = [(line.method, line.route, line.status) for line in lines]  # type: ignore[attr-defined]
    assert told == [
        ("POST", "/v1/sessions", 201),
        ("GET", "/callbacks/qpay/{session_id}/{token}", 200),
        ("GET", "/v1/sessions/{session_id}", 200),
        ("GET", "-", 404),
        ("other", "/healthz", 405),
    ]
    token = api.callback_path(session["id"]).rpartition("/")[2]
    assert all(token not in str(vars(record)) for record in caplog.records)


# --- strange clients and servers -------------------------------------------------------------------------------------


async def test_a_client_gone_in_the_middle_of_its_body(api: Api) -> None:
    half = {"type": "http.request", "body": b'{"user_id"', "more_body": True}
    sent = await spoken(api.app, scope(), half, {"type": "http.disconnect"})
    assert sent[0]["status"] == 400
    assert api.store.calls == []


async def test_a_body_without_end(api: Api) -> None:
    piece = {"type": "http.request", "body": b" " * 10_000, "more_body": True}
    sent = await spoken(api.app, scope(), *([piece] * 100))
    assert sent[0]["status"] == 413


async def test_a_session_is_opened_though_its_client_has_gone(api: Api) -> None:
    body = b'{"user_id": "u", "amount": 1}'
    sent = await spoken(api.app, scope(), whole(body), {"type": "http.disconnect"})
    assert sent[0]["status"] == 201


async def test_errors_outside_of_any_route() -> None:
    async def gone(*_: object) -> None:
        raise ClientDisconnect

    async def broken(*_: object) -> None:
        raise RuntimeError("hunter2")

    for app, status in ((gone, 400), (broken, 500)):
        sent = await spoken(Edge(app), scope())
        assert sent[0]["status"] == status
        assert b"hunter2" not in sent[1]["body"]


async def test_a_response_that_has_begun_is_ended_by_the_server() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await spoken(Edge(app), scope())


async def test_the_request_id_is_bound_for_the_length_of_the_request() -> None:
    seen = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        seen.append(structlog.contextvars.get_contextvars())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    await spoken(Edge(app), scope(**{"x-request-id": "r1"}))
    assert seen == [{"request_id": "r1"}]
    assert structlog.contextvars.get_contextvars() == {}


async def test_a_websocket_is_closed(api: Api) -> None:
    said = scope() | {"type": "websocket", "subprotocols": []}
    sent = await spoken(api.app, said, {"type": "websocket.connect"})
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_it_can_be_mounted_under_another_application(api: Api) -> None:
    outer = Starlette(routes=[Mount("/tulbur", app=api.app)])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=outer), base_url="http://shop") as http:
        headers = {"Authorization": f"Bearer {KEYS['all']}"}
        answer = await http.post("/tulbur/v1/sessions", json=CART, headers=headers)
        assert answer.status_code == 201
        path = "/tulbur" + api.callback_path(answer.json()["id"])
        assert (await http.get(path)).text == "SUCCESS"
        assert_problem(await http.get("/tulbur/nowhere"), 404, "not_found")
        assert_problem(await http.get("/tulbur/v1/sessions"), 401, "unauthorized")
        assert_problem(await http.put("/tulbur/v1/sessions", headers=headers), 405, "method_not_allowed")
        assert (await http.get("/tulbur/docs")).status_code == 200
