"""Whatever is sent, nothing breaks, and nothing changes unless the answer says so."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.web.api_world import CART, KEYS, Api, scope, spoken, whole

pytestmark = pytest.mark.anyio

fuzzed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

CHANGES = {"add", "commit", "commit_many", "record_unmatched", "tally", "blank", "close_unmatched"}
ROUTES = [
    "/v1/sessions",
    "/v1/sessions/{}",
    "/v1/sessions/{}/cancel",
    "/v1/sessions/{}/check",
    "/v1/sessions/{}/review",
    "/v1/sessions/{}/refunds",
    "/v1/payments",
    "/v1/payments/{}/assign",
    "/v1/payments/{}/close",
    "/v1/orders",
    "/v1/orders/{}",
    "/v1/events",
    "/v1/stats",
    "/callbacks/qpay/{}/{}",
    "/pay/{}/{}",
    "/pay/{}/{}/status",
    "/healthz",
    "/readyz",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/{}",
]
WEIRD = ["", "\x00", "\ud800", "\ufffd", "../..", "NaN", "1e400", "-0", "' OR 1=1 --", "{{7*7}}", "<script>", "x" * 400]

texts = st.text() | st.sampled_from(WEIRD)
numbers = st.integers() | st.floats() | st.sampled_from([2**63, -(2**63) - 1, 10**30, 0, -1])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
names = st.sampled_from([*CART, "discount", "shipping", "metadata", "return_url", "expires_in", "description"]) | texts
bodies = st.binary(max_size=200) | st.builds(lambda value: json.dumps(value).encode(), values)
queries = st.binary(max_size=200) | st.builds(
    lambda name, value: f"{name}={value}".encode(errors="surrogateescape"),
    st.sampled_from(
        ["status", "exception", "user_id", "created_after", "cursor", "limit", "after", "session_id", "disposition"]
    ),
    st.text(max_size=50) | st.integers().map(str),
)
payment_ids = texts.map(lambda text: b"qpay_payment_id=" + text.encode(errors="replace"))
methods = st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "\x00", "get"])
header_names = st.sampled_from(
    ["authorization", "content-type", "content-length", "idempotency-key", "x-request-id", "accept"]
)
header_values = st.binary(max_size=100) | st.sampled_from([f"Bearer {key}".encode() for key in KEYS.values()])


async def asked(api: Api, said: dict[str, Any], body: bytes = b"") -> tuple[int, bytes]:
    api.store.calls.clear()
    sent = await spoken(api.app, said, whole(body))
    status = sent[0]["status"]
    assert status < 500, sent
    if status >= 400:
        assert not CHANGES & set(api.store.calls)
    return status, b"".join(message.get("body", b"") for message in sent)


@fuzzed
@given(body=bodies)
async def test_any_body(api: Api, body: bytes) -> None:
    status, _ = await asked(api, scope(), body)
    assert status in (400, 422)


@fuzzed
@given(name=names, value=values)
async def test_any_value_of_any_field(api: Api, name: str, value: Any) -> None:
    status, answer = await asked(api, scope(), json.dumps(CART | {name: value}).encode())
    assert status in (201, 400, 422)
    if status == 201:
        session_id = json.loads(answer)["id"]
        status, again = await asked(api, scope("GET", f"/v1/sessions/{session_id}"))
        assert (status, again) == (200, answer)


@fuzzed
@given(name=st.sampled_from([*CART["items"][0], "x"]), value=values)
async def test_any_value_in_an_item(api: Api, name: str, value: Any) -> None:
    items = [CART["items"][0] | {name: value}, CART["items"][1]]
    status, _ = await asked(api, scope(), json.dumps(CART | {"items": items}).encode())
    assert status in (201, 400, 422)


@fuzzed
@given(
    method=methods,
    route=st.sampled_from(ROUTES),
    part=texts,
    query=queries,
    headers=st.dictionaries(
        st.sampled_from(
            ["authorization", "content-type", "content-length", "idempotency-key", "x-request-id", "accept"]
        ),
        header_values,
    ),
    body=st.binary(max_size=100),
)
async def test_any_request(
    api: Api, method: str, route: str, part: str, query: bytes, headers: dict[str, bytes], body: bytes
) -> None:
    path = route.replace("{}", part)
    status, _ = await asked(api, scope(method, path, query, **headers), body)
    if route.startswith(("/callbacks", "/pay")):
        assert status in (404, 405, 413, 414)
        assert api.store.calls == []


@fuzzed
@given(token=texts, session_id=texts, body=st.binary(max_size=100))
async def test_any_token(api: Api, token: str, session_id: str, body: bytes) -> None:
    api.cache.calls.clear()
    await asked(api, scope("POST", f"/callbacks/qpay/{session_id}/{token}", b"qpay_payment_id=1"), body)
    assert api.store.calls == api.cache.calls == []


@fuzzed
@given(
    query=st.binary(max_size=60) | texts.map(lambda text: b"qpay_payment_id=" + text.encode(errors="replace")),
    body=bodies,
)
async def test_anything_with_a_right_token(api: Api, query: bytes, body: bytes) -> None:
    path = api.callback_path("a" * 32)
    status, answer = await asked(api, scope("POST", path, query), body)
    assert status in (200, 400)
    assert (answer == b"SUCCESS") == (status == 200)
