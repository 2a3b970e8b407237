"""Who the shop's user is: its own JWT, signed as the settings say and in no other way.

The algorithm is ours to choose, never the token's: one reader knows one algorithm and only keys that fit it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any, Final, Protocol

from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import Key, OctKey
from joserfc.jwt import JWTClaimsRegistry, decode
from starlette.requests import Request

from tulbur.core.session import SECOND
from tulbur.errors import Unauthorized
from tulbur.ports import Clock

COOKIE: Final = "access_token"
LONGEST_TOKEN: Final = 8 * 1024
LONGEST_USER: Final = 100
EARLY_SECONDS: Final = 5
"""How far the clock that wrote `nbf` may be ahead of ours; `exp` has no such grace."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class KeySource(Protocol):
    """Where the keys of one algorithm come from."""

    @property
    def algorithm(self) -> str: ...

    async def key(self, kid: str | None) -> Key | None:
        """The key a token names, or the only one there is where it names none.

        Raises:
            ShopUnavailable: the keys cannot be fetched.
        """


class SecretKeys:
    """The one secret of HS256, whatever key a token names."""

    algorithm: Final = "HS256"

    def __init__(self, secret: str) -> None:
        with warnings.catch_warnings():
            # A short secret is for `doctor` to tell of: the shop has chosen it long ago.
            warnings.simplefilter("ignore", SecurityWarning)
            self._key = OctKey.import_key(secret.encode())

    async def key(self, kid: str | None) -> Key | None:
        del kid
        return self._key


class Tokens:
    """Reads tokens; without a key source every one is refused."""

    def __init__(self, keys: KeySource | None, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    async def user(self, request: Request) -> str:
        """The user a request comes from.

        Raises:
            Unauthorized: no token, or one that is not valid now.
            ShopUnavailable: the keys cannot be fetched.
        """
        claims = await self._claims(_token_of(request))
        user = next((claims[name] for name in ("id", "sub") if claims.get(name) not in (None, "")), None)
        if isinstance(user, bool) or not isinstance(user, str | int):
            raise Unauthorized("the token names no user")
        text = str(user)
        if not 0 < len(text) <= LONGEST_USER or not text.isprintable():
            raise Unauthorized("the token names no user")
        return text

    async def _claims(self, token: str) -> Mapping[str, Any]:
        if self._keys is None:
            raise Unauthorized("this service knows no key to check tokens with")
        registry = jws.JWSRegistry(algorithms=[self._keys.algorithm], strict_check_header=False)
        try:
            header = jws.extract_compact(token.encode(), registry=registry).headers()
            if header.get("alg") != self._keys.algorithm:
                raise _invalid()
            key = await self._keys.key(_text(header.get("kid")))
            if key is None:
                raise _invalid()
            claims = decode(token, key, registry=registry).claims
            now = self._clock() // SECOND
            JWTClaimsRegistry(now).validate({"exp": claims["exp"]} if "exp" in claims else {})
            JWTClaimsRegistry(now, EARLY_SECONDS).validate({"nbf": claims["nbf"]} if "nbf" in claims else {})
        except (JoseError, ValueError, TypeError, AttributeError, RecursionError):
            # Whatever a made-up token breaks in its reader, it is no token.
            raise _invalid() from None
        return claims


def _invalid() -> Unauthorized:
    return Unauthorized("the token is not valid")


def _text(kid: object) -> str | None:
    return kid if isinstance(kid, str) else None


def _token_of(request: Request) -> str:
    """The token of the Authorization header, else of the cookie, which no other site may make a browser send."""
    headers = request.headers.getlist("authorization")
    scheme, _, value = headers[0].partition(" ") if headers else ("", "", "")
    if headers and scheme.lower() == "bearer":
        token = value.strip() if len(headers) == 1 else ""
    elif request.headers.get("sec-fetch-site") == "cross-site":
        token = ""
    else:
        token = request.cookies.get(COOKIE, "")
    if not token or len(token) > LONGEST_TOKEN or not _TOKEN.fullmatch(token):
        raise Unauthorized("Authentication required")
    return token
