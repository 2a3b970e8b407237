"""Requests to the shop's own services, its public keys and its prices: bounded in time and size, never redirected."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from tulbur.errors import BadRequest, ShopUnavailable
from tulbur.web.body import parse

SECONDS: Final = 5.0
MOST_BYTES: Final = 256 * 1024
MOST_CONNECTIONS: Final = 20

_CHUNK_BYTES: Final = 64 * 1024


class ShopHttp:
    """One pool of connections, opened by the first request. `seconds` bounds a whole exchange."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._session: aiohttp.ClientSession | None = None

    async def stop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def exchange(self, url: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """GET, or POST of a JSON `body`: the status and the JSON of the answer, None where it holds none.

        Raises:
            ShopUnavailable: no answer in time, or one that is too long.
        """
        data = None if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            async with self._opened().request(
                "GET" if data is None else "POST",
                url,
                data=data,
                headers={} if data is None else {"Content-Type": "application/json"},
                allow_redirects=False,
            ) as answer:
                return answer.status, _json(await _capped(answer))
        except TimeoutError:
            failure = f"the shop's service did not answer within {self._seconds:g} s"
        except (aiohttp.ClientError, OSError) as error:
            failure = f"the connection to the shop's service failed ({type(error).__name__})"
        raise ShopUnavailable(failure)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MOST_CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._seconds),
                trust_env=False,
                headers={"User-Agent": "tulbur", "Accept": "application/json"},
            )
        return self._session


async def _capped(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > MOST_BYTES:
            answer.close()  # the rest is not wanted, so the connection cannot be used again
            raise ShopUnavailable("the answer of the shop's service is too long to be one")
    return bytes(body)


def _json(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return parse(body)
    except BadRequest:
        return None
