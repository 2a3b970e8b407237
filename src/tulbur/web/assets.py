"""Our own style, script and icon files: named by their content, kept by browsers for a year."""

from __future__ import annotations

import os
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC: Final = Path(__file__).parent / "static"

_FOR_EVER: Final = "public, max-age=31536000, immutable"
_ASK_AGAIN: Final = "no-cache"


@cache
def asset(name: str) -> str:
    """The name of a file below `/static/`, with the hash of its content; relative, so that any prefix will do."""
    return f"static/{name}?v={_digest(name)}"


@cache
def _digest(name: str) -> str:
    return sha256((STATIC / name).read_bytes()).hexdigest()[:12]


class Assets(StaticFiles):
    """Files that never change under the address that names their content."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        name = Path(full_path).relative_to(STATIC).as_posix()
        named = scope.get("query_string", b"") == f"v={_digest(name)}".encode()
        response.headers["Cache-Control"] = _FOR_EVER if named else _ASK_AGAIN
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def static_mount() -> Mount:
    return Mount("/static", Assets(directory=STATIC), name="static")
