"""Who asks: `Authorization: Bearer <key>` against the digests of TULBUR_API_KEYS."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Annotated, Final, TypeAlias

from fastapi import Security
from fastapi.security import HTTPBearer
from starlette.requests import Request

from tulbur.errors import Forbidden, Unauthorized
from tulbur.settings import ApiKey
from tulbur.web.parts import parts_of

LONGEST_KEY: Final = 512

_SCHEME: Final = HTTPBearer(
    auto_error=False, scheme_name="ApiKey", description="An API key, made with `tulbur keys new`."
)


def key_of(headers: Sequence[str], keys: Sequence[ApiKey]) -> ApiKey:
    """The entry whose key the Authorization header carries; every entry is compared, whichever fits.

    Raises:
        Unauthorized: none, more than one header, or a key that is not listed.
    """
    if len(headers) != 1:
        raise Unauthorized
    scheme, _, key = headers[0].partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key or len(key) > LONGEST_KEY:
        raise Unauthorized
    # Starlette decodes headers as Latin-1; encoded the same way, these are the bytes that were sent.
    digest = sha256(key.encode("latin-1", errors="replace")).hexdigest()
    found = None
    for entry in keys:
        if hmac.compare_digest(entry.digest, digest):
            found = entry
    if found is None:
        raise Unauthorized
    return found


def needs(scope: str) -> Callable[[Request, object], Awaitable[ApiKey]]:
    """A dependency: the API key of the request, which must hold `scope`; `admin` holds all.

    Raises:
        Unauthorized, Forbidden
    """

    async def key(request: Request, _: Annotated[object, Security(_SCHEME)]) -> ApiKey:
        found = key_of(request.headers.getlist("authorization"), parts_of(request).api_keys)
        if not found.scopes & {scope, "admin"}:
            raise Forbidden(f"this API key lacks the scope {scope}")
        return found

    return key


Reader: TypeAlias = Annotated[ApiKey, Security(needs("read"))]
Writer: TypeAlias = Annotated[ApiKey, Security(needs("write"))]
Refunder: TypeAlias = Annotated[ApiKey, Security(needs("refund"))]
