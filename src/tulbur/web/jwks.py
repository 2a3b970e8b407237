"""The shop's public keys, fetched when they are needed and kept for a while."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Mapping
from typing import Any, Final

from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import Key, RSAKey

from tulbur.core.session import SECOND, Micros
from tulbur.errors import ShopUnavailable
from tulbur.ports import Clock
from tulbur.web.shop_http import ShopHttp

FRESH_SECONDS: Final = 600
"""Keys older than this are fetched again, so that one that was withdrawn goes."""

STALE_SECONDS: Final = 86_400
"""Keys serve at most this long while no newer ones can be fetched."""

UNKNOWN_SECONDS: Final = 60
"""A token that names an unknown key makes us fetch at most this often."""

FAILED_SECONDS: Final = 5
"""A failed fetch is repeated at most this often."""

MOST_KEYS: Final = 50
SMALLEST_BITS: Final = 2048

_log: Final = logging.getLogger("tulbur.web")


class PublicKeys:
    """RS256 keys of a JWKS document. Keys for other purposes, secrets among them, are left out."""

    algorithm: Final = "RS256"

    def __init__(self, url: str, http: ShopHttp, clock: Clock) -> None:
        self._url = url
        self._http = http
        self._clock = clock
        self._keys: tuple[RSAKey, ...] = ()
        self._fetched_at: Micros | None = None
        self._tried_at: Micros | None = None
        self._failed = False
        self._fetching = asyncio.Lock()

    async def key(self, kid: str | None) -> Key | None:
        if self._older_than(FRESH_SECONDS):
            await self._fetch()
        if self._older_than(STALE_SECONDS):
            raise ShopUnavailable("the keys to check tokens with cannot be fetched")
        found = self._find(kid)
        if found is None:
            await self._fetch()
            found = self._find(kid)
        return found

    def _find(self, kid: str | None) -> Key | None:
        if kid is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.kid == kid), None)

    def _older_than(self, seconds: int) -> bool:
        return self._fetched_at is None or self._clock() - self._fetched_at >= seconds * SECOND

    async def _fetch(self) -> None:
        async with self._fetching:
            pause = FAILED_SECONDS if self._failed else UNKNOWN_SECONDS
            if self._tried_at is not None and self._clock() - self._tried_at < pause * SECOND:
                return
            self._tried_at = self._clock()
            self._failed = True
            try:
                status, document = await self._http.exchange(self._url)
            except ShopUnavailable as silent:
                _log.warning("the keys at TULBUR_JWKS_URL cannot be fetched: %s", silent.message)
                return
            keys = document.get("keys") if isinstance(document, dict) else None
            if status != 200 or not isinstance(keys, list):
                _log.warning("TULBUR_JWKS_URL answers no JWKS")
                return
            found = (_rsa(entry) for entry in keys[:MOST_KEYS])
            self._keys = tuple(key for key in found if key is not None)
            self._fetched_at = self._tried_at
            self._failed = False


def _rsa(entry: Any) -> RSAKey | None:  # noqa: ANN401 - whatever the document holds
    """The public key of an entry, if it may check RS256 signatures."""
    if not isinstance(entry, Mapping) or entry.get("kty") != "RSA" or entry.get("use") not in (None, "sig"):
        return None
    if entry.get("alg") not in (None, PublicKeys.algorithm):
        return None
    parts = {name: entry[name] for name in ("kty", "n", "e", "kid") if isinstance(entry.get(name), str)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)
            key = RSAKey.import_key(parts)
        return key if key.public_key.key_size >= SMALLEST_BITS else None
    except (JoseError, ValueError, TypeError, KeyError):
        return None
