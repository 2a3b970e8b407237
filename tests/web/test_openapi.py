"""/openapi.json describes every route truthfully, and /docs shows it without a foreign request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.openapi.models import OpenAPI
from fastapi.routing import APIRoute
from starlette.routing import Mount, Route
from tests.web.api_world import CART, Api

from tulbur.web import api as sessions_api
from tulbur.web import money_api

pytestmark = pytest.mark.anyio

UNLISTED = {"/openapi.json", "/docs"}
OPERATIONS = [
    ("post", "/v1/sessions"),
    ("get", "/v1/sessions"),
    ("get", "/v1/sessions/{session_id}"),
    ("get", "/v1/sessions/{session_id}/why"),
    ("post", "/v1/sessions/{session_id}/cancel"),
    ("post", "/v1/sessions/{session_id}/check"),
    ("post", "/v1/sessions/{session_id}/review"),
    ("post", "/v1/sessions/{session_id}/refunds"),
    ("get", "/v1/payments"),
    ("post", "/v1/payments/{payment_id}/assign"),
    ("post", "/v1/payments/{payment_id}/close"),
    ("get", "/v1/orders"),
    ("get", "/v1/orders/{order_id}"),
    ("get", "/v1/events"),
    ("get", "/v1/stats"),
]


@pytest.fixture
async def document(api: Api) -> dict[str, Any]:
    answer = await api.get("/openapi.json", key=None)
    assert answer.headers["content-type"] == "application/json"
    return dict(answer.json())


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


async def test_it_is_a_valid_document(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    OpenAPI.model_validate(document)
    names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= names
    assert "HTTPValidationError" not in str(document)
    operations = [
        operation for path in document["paths"].values() for operation in path.values() if isinstance(operation, dict)
    ]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))


async def test_every_route_is_described(api: Api, document: dict[str, Any]) -> None:
    plain = {route.path for route in api.app.routes if isinstance(route, Route)} - UNLISTED
    ours = {
        route.path for api_ in (sessions_api, money_api) for route in api_.router.routes if isinstance(route, APIRoute)
    }
    assert set(document["paths"]) == plain | ours
    assert [route.path for route in api.app.routes if isinstance(route, Mount)] == ["/static"]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_every_operation_names_its_key_and_its_problems(document: dict[str, Any], method: str, path: str) -> None:
    operation = document["paths"][path][method]
    assert operation["security"] == [{"ApiKey": []}]
    assert operation["summary"]
    assert {"401", "403", "503"} <= set(operation["responses"])
    for status, response in operation["responses"].items():
        kind = "application/json" if status.startswith("2") else "application/problem+json"
        assert set(response["content"]) == {kind}
        assert "$ref" in response["content"][kind]["schema"]
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"


async def test_the_body_and_the_key_of_a_new_session(document: dict[str, Any]) -> None:
    operation = document["paths"]["/v1/sessions"]["post"]
    assert "Idempotency-Key" in [parameter["name"] for parameter in operation["parameters"]]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/SessionOpen"}
    schema = document["components"]["schemas"]["SessionOpen"]
    assert set(CART) < set(schema["properties"])
    assert schema["additionalProperties"] is False
    assert sorted(schema["required"]) == ["amount", "user_id"]


async def test_the_answer_is_the_schema(api: Api, document: dict[str, Any]) -> None:
    session = await api.open()
    schema = document["components"]["schemas"]["Session"]
    assert list(schema["properties"]) == list(session)
    assert schema["properties"]["amount"]["type"] == "string"


async def test_the_reference_stands_alone(api: Api, document: dict[str, Any]) -> None:
    answer = await api.get("/docs", key=None)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", answer.text)
    assert "<script" not in answer.text
    assert 'href="openapi.json"' in answer.text
    for path in document["paths"]:
        assert path in answer.text
    for name in document["components"]["schemas"]:
        assert f'id="schema-{name}"' in answer.text
    targets = set(re.findall(r'href="#([^"]+)"', answer.text))
    assert targets <= set(re.findall(r'id="([^"]+)"', answer.text))


async def test_fastapis_own_pages_are_not_there(api: Api) -> None:
    for path in ("/redoc", "/docs/oauth2-redirect"):
        assert (await api.get(path)).status_code == 404
