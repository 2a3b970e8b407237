"""One HTTP exchange with QPay: bounded in time and size, never repeated, and read as far as its meaning allows.

What comes out is the JSON of a success, ProviderRefused for a key, or ProviderUnavailable for everything else: what
QPay did is then unknown. No error holds a token, a password or the headers of a request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp.client_middlewares import ClientHandlerType, ClientMiddlewareType
from yarl import URL

from tulbur.errors import ProviderRefused, ProviderUnavailable, SettingsError
from tulbur.qpay.reading import Unreadable, loads
from tulbur.qpay.wire import Problem, problem

MOST_BYTES: Final = 1024 * 1024
"""The longest answer that is read, after decompression; the longest real one has some 20 kB."""

MOST_CONNECTIONS: Final = 100
KEEP_ALIVE_SECONDS: Final = 30
"""QPay's nginx keeps idle connections longer, so a request rarely meets one that is just being closed."""

_CHUNK_BYTES: Final = 64 * 1024
_NO_ANSWER: Final = frozenset({408, 425, 429})
_NOT_FOUND: Final = frozenset({404, 422})


class SystemBusy(ProviderUnavailable):
    """QPay answered SYSTEM_BUSY, as it does to pages that are too large for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long is waited, in seconds.

    `token`, `invoice` and `question` bound one HTTP exchange, `connect` and `read` the silence within it;
    `whole_invoice` and `whole_question` bound a call with the login and the resend it may need.
    """

    token: float = 10
    invoice: float = 15
    question: float = 8
    connect: float = 5
    read: float = 8
    whole_invoice: float = 25
    whole_question: float = 12


class Transport:
    """Sends requests to one QPay host; `base_url` may end in `/v2` or a slash, and holds no login."""

    def __init__(self, base_url: str, timeouts: Timeouts) -> None:
        self.base_url = _checked(base_url)
        self._timeouts = timeouts
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        if self._session is not None:
            return
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MOST_CONNECTIONS, keepalive_timeout=KEEP_ALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            headers={"User-Agent": "tulbur", "Accept": "application/json"},
        )

    async def stop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def send(
        self,
        method: str,
        path: str,
        *,
        authorization: str,
        seconds: float,
        body: Mapping[str, object] | None = None,
    ) -> object:
        """The JSON of QPay's success; `path` is what follows `/v2/`, already safe inside a URL.

        Raises:
            ProviderRefused: QPay said no, with a key.
            ProviderUnavailable: there was no answer, or none that can be read.
        """
        status, answer = await self._exchange(method, path, authorization, seconds, body)
        return _understood(status, answer, authorization)

    async def _exchange(
        self, method: str, path: str, authorization: str, seconds: float, body: Mapping[str, object] | None
    ) -> tuple[int, bytes]:
        if self._session is None:
            raise RuntimeError("start() the QPay client first")
        headers = {"Authorization": authorization}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            async with self._session.request(
                method,
                URL(f"{self.base_url}/v2/{path}", encoded=True),
                headers=headers,
                data=data,
                timeout=self._bounds(seconds),
                allow_redirects=False,
                middlewares=(_sent_once(),),
            ) as response:
                return response.status, await _capped(response)
        except TimeoutError:
            failure = f"QPay did not answer within {seconds:g} s"
        except (aiohttp.ClientError, OSError) as error:
            failure = f"the connection to QPay failed ({type(error).__name__})"
        # Raised out here: the library's error holds the request with its headers and must not travel along.
        raise ProviderUnavailable(failure)

    def _bounds(self, seconds: float) -> aiohttp.ClientTimeout:
        connect, read = min(self._timeouts.connect, seconds), min(self._timeouts.read, seconds)
        return aiohttp.ClientTimeout(total=seconds, connect=connect, sock_connect=connect, sock_read=read)


def _checked(base_url: str) -> str:
    try:
        url = URL(base_url.strip())
        complete = url.scheme in ("http", "https") and url.host and not url.user and not url.query_string
    except ValueError:
        complete = False
    if not complete:
        raise SettingsError("QPAY_BASE_URL is the address of QPay, such as https://merchant.qpay.mn")
    return str(url).rstrip("/").removesuffix("/v2").rstrip("/")


def _sent_once() -> ClientMiddlewareType:
    """Stop aiohttp from sending a DELETE again by itself when an idle connection turns out to be closed."""
    sent = False

    async def send(request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
        nonlocal sent
        if sent:
            raise aiohttp.ClientError
        sent = True
        return await handler(request)

    return send


async def _capped(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > MOST_BYTES:
            response.close()  # the rest is not wanted, so the connection cannot be used again
            raise ProviderUnavailable("QPay's answer is too long to be one")
    return bytes(body)


def _understood(status: int, body: bytes, authorization: str) -> object:
    try:
        document = loads(body)
    except Unreadable:
        raise ProviderUnavailable(f"QPay answered {status} with something that is not JSON") from None
    if 200 <= status < 300:
        return document
    told = _scrubbed(problem(document), authorization.rpartition(" ")[2])
    if not 400 <= status < 500 or status in _NO_ANSWER:
        kind = SystemBusy if told.key == "SYSTEM_BUSY" else ProviderUnavailable
        raise kind(f"QPay answered {status} {told.key}".strip())
    if not told.key and status not in _NOT_FOUND:
        raise ProviderUnavailable(f"QPay answered {status} without a key")
    raise ProviderRefused(told.key or f"HTTP_{status}", told.message, provider_status=status, fields=told.fields)


def _scrubbed(told: Problem, secret: str) -> Problem:
    """Without our own token, should an answer repeat the request."""
    fields = {name.replace(secret, "…"): said.replace(secret, "…") for name, said in told.fields.items()}
    return Problem(told.key.replace(secret, "…"), told.message.replace(secret, "…"), fields)
