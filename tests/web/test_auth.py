"""Who may do what."""

from __future__ import annotations

import pytest
from tests.web.api_world import CART, KEYS, Api, assert_problem
from tests.web.api_world import api as make_api

pytestmark = pytest.mark.anyio

READ = ["/v1/sessions", "/v1/sessions/s1", "/v1/orders/o1", "/v1/orders?session_id=s1", "/v1/events", "/v1/stats"]
WRITE = ["/v1/sessions", "/v1/sessions/s1/cancel", "/v1/sessions/s1/check"]
ROUTES = [("GET", path) for path in READ] + [("POST", path) for path in WRITE]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_each_scope_opens_its_routes(api: Api, method: str, path: str) -> None:
    body = CART if (method, path) == ("POST", "/v1/sessions") else None
    needed = "reader" if method == "GET" else "writer"
    for key in ("reader", "writer", "refunds", "admin", "all"):
        answer = await api.call(method, path, key=key, json=body)
        if key in (needed, "admin", "all"):
            assert answer.status_code in (200, 201, 404), answer.text
        else:
            assert_problem(answer, 403, "forbidden")


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_without_a_key_nothing_is_read(api: Api, method: str, path: str) -> None:
    answer = await api.call(method, path, key=None, content=b"{")
    assert_problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert api.store.calls == api.cache.calls == []


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Basic {KEYS['all']}",
        KEYS["all"],
        f"Bearer {KEYS['all']}x",
        f"Bearer {KEYS['all'].upper()}",
        f"Bearer {KEYS['all']}, Bearer {KEYS['admin']}",
        "Bearer ключ",
        "Bearer " + "x" * 10_000,
    ],
)
async def test_a_header_that_is_no_key(api: Api, header: str) -> None:
    answer = await api.http.get("/v1/sessions", headers=[("Authorization", header.encode())])
    assert_problem(answer, 401, "unauthorized")


async def test_two_headers_are_no_key(api: Api) -> None:
    header = ("Authorization", f"Bearer {KEYS['all']}")
    assert_problem(await api.http.get("/v1/sessions", headers=[header, header]), 401, "unauthorized")


async def test_the_name_of_the_scheme_is_not_case_sensitive(api: Api) -> None:
    answer = await api.get("/v1/sessions", headers={"Authorization": f"bearer  {KEYS['reader']}"})
    assert answer.status_code == 200


async def test_a_key_in_the_query_is_no_key(api: Api) -> None:
    answer = await api.get(f"/v1/sessions?api_key={KEYS['all']}&access_token={KEYS['all']}", key=None)
    assert_problem(answer, 401, "unauthorized")


async def test_with_no_key_configured_no_key_fits() -> None:
    made = make_api(api_keys=())
    for method, path in ROUTES:
        assert_problem(await made.call(method, path), 401, "unauthorized")
    assert (await made.get("/healthz", key=None)).status_code == 200
