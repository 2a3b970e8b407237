"""The API reference: /openapi.json, and /docs as a page made from it without a script or a foreign request."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

_CSP: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_METHODS: Final = ("get", "post", "put", "patch", "delete")
_CODE: Final = re.compile(r"`([^`]+)`")


def reference_routes(app: FastAPI) -> list[BaseRoute]:
    """Both are made once, when first asked for: the routes of an application do not change."""

    @cache
    def written() -> bytes:
        return json.dumps(app.openapi(), ensure_ascii=False, separators=(",", ":")).encode()

    @cache
    def page() -> str:
        return _page(app.openapi())

    async def openapi(_: Request) -> Response:
        return Response(written(), media_type="application/json")

    async def docs(_: Request) -> Response:
        return HTMLResponse(page(), headers={"Content-Security-Policy": _CSP})

    return [
        Route("/openapi.json", openapi, methods=["GET"]),
        Route("/docs", docs, methods=["GET"]),
    ]


def _page(document: dict[str, Any]) -> str:
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters["prose"] = _prose
    operations = [
        {"method": method, "path": path, "shared": item.get("parameters", []), **item[method]}
        for path, item in document["paths"].items()
        for method in _METHODS
        if method in item
    ]
    return pages.get_template("docs.html").render(
        info=document["info"],
        tags=[{**tag, "operations": [o for o in operations if tag["name"] in o["tags"]]} for tag in document["tags"]],
        schemas={name: _fields(schema) for name, schema in document["components"]["schemas"].items()},
        schema_of=_schema_of,
    )


def _prose(text: object) -> Markup:
    """Paragraphs, with `code` marked; nothing for what is missing."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in str(text).split("\n\n") if paragraph)
    return Markup("").join(
        Markup("<p>{}</p>").format(Markup(_CODE.sub(r"<code>\1</code>", str(escape(paragraph)))))  # noqa: S704 - escaped
        for paragraph in paragraphs
    )


def _fields(schema: dict[str, Any]) -> dict[str, Any]:
    """What the page shows of a schema: its sentence, its values, or its fields with their types."""
    required = schema.get("required", [])
    fields = [
        {
            "name": name,
            "type": _type(field),
            "required": name in required,
            "description": field.get("description", ""),
        }
        for name, field in schema.get("properties", {}).items()
    ]
    return {"description": schema.get("description", ""), "values": schema.get("enum", []), "fields": fields}


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _schema_name(schema)
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " | ".join(dict.fromkeys(_type(option) for option in schema[key]))
    if schema.get("type") == "array":
        return f"[{_type(schema.get('items', {}))}]"
    return str(schema.get("format") or schema.get("type") or "any")


def _schema_name(schema: dict[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _schema_of(body: dict[str, Any]) -> str:
    """The name of the schema a request or a response carries, "" when it is none of ours."""
    for media in body.get("content", {}).values():
        if "$ref" in media.get("schema", {}):
            return _schema_name(media["schema"])
    return ""
