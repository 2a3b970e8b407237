"""The whole HTTP application, to serve by itself or to mount under another."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.routing import Route

from tulbur.web import api, money_api
from tulbur.web.callbacks import callback_routes
from tulbur.web.checkout import checkout_routes
from tulbur.web.edge import Edge
from tulbur.web.openapi import document
from tulbur.web.operations import operation_routes
from tulbur.web.parts import WebParts
from tulbur.web.problems import handle_problems
from tulbur.web.reference import reference_routes
from tulbur.web.seed_api import seed_routes

__all__ = ["WebParts", "create_app"]


class _Application(FastAPI):
    """FastAPI, with our own document and without its pages, which load scripts from elsewhere."""

    def __init__(self, parts: WebParts) -> None:
        super().__init__(
            title="tulbur",
            openapi_url=None,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            generate_unique_id_function=lambda route: route.name,
        )
        self.state.parts = parts

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = document(self, self.state.parts.links.public_url)
        return self.openapi_schema


def create_app(parts: WebParts) -> FastAPI:
    """Put the parts behind their routes. Whoever builds the parts starts and stops them: there is no lifespan."""
    app = _Application(parts)
    # What is asked most often is matched first.
    first = [*callback_routes(parts), *checkout_routes(parts)]
    last = [*operation_routes(parts), *reference_routes(app), *seed_routes(parts)]
    app.router.routes.extend(first)
    app.include_router(api.router)
    app.include_router(money_api.router)
    app.router.routes.extend(last)
    handle_problems(app)
    paths = {route.endpoint: route.path for route in (*first, *last) if isinstance(route, Route)}
    app.add_middleware(Edge, hsts=parts.hsts, paths=paths)
    return app
