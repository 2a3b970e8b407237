"""How a route of the API finds its parts, and answers with a shape."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Depends
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from tulbur.core.session import Session
from tulbur.web.parts import WebParts, parts_of
from tulbur.web.shapes import session_shape


async def _parts(request: Request) -> WebParts:
    return parts_of(request)


Parts: TypeAlias = Annotated[WebParts, Depends(_parts)]


def as_json(shape: BaseModel, status: int = 200) -> Response:
    # Straight to bytes: the models are built from what is stored, so there is nothing to validate once more.
    return Response(shape.model_dump_json(), status, media_type="application/json")


def as_session(parts: WebParts, session: Session, status: int = 200) -> Response:
    return as_json(session_shape(session, parts.links), status)
