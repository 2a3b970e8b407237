"""What the old shop's routes are made of, who may use them, and how they answer errors."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tulbur.errors import Invalid, ProviderError, ShopUnavailable, StoreUnavailable, TulburError
from tulbur.ports import Clock
from tulbur.settings import Network, OldShop
from tulbur.web.jwks import PublicKeys
from tulbur.web.jwt import KeySource, SecretKeys, Tokens
from tulbur.web.prices import Prices
from tulbur.web.shop_http import ShopHttp

INTERNAL_HEADER: Final = "x-internal-request"
RETRY_SECONDS: Final = 5
QPAY_SILENT: Final = "QPay service unavailable"

_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip")

_log: Final = logging.getLogger("tulbur.web")

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedParts:
    """`prices` None: nobody verifies what a browser says a cart costs, which `unverified_prices` may allow."""

    tokens: Tokens
    networks: tuple[Network, ...] = ()
    prices: Prices | None = None
    unverified_prices: bool = False
    http: ShopHttp

    @classmethod
    def of(cls, settings: OldShop, clock: Clock) -> SeedParts:
        http = ShopHttp()
        keys: KeySource | None = None
        if settings.jwt_secret:
            keys = SecretKeys(settings.jwt_secret)
        elif settings.jwks_url:
            keys = PublicKeys(settings.jwks_url, http, clock)
        return cls(
            tokens=Tokens(keys, clock),
            networks=settings.networks,
            prices=Prices(settings.price_url, http) if settings.price_url else None,
            unverified_prices=settings.unverified_prices,
            http=http,
        )

    async def stop(self) -> None:
        await self.http.stop()

    def is_internal(self, request: Request, trusted_proxies: str) -> bool:
        """Whether the gateway asks: its header, from one of its networks.

        What a proxy forwarded has that proxy's address unless TRUSTED_PROXIES lists it; so without that list nothing
        that was forwarded is internal.
        """
        if request.headers.getlist(INTERNAL_HEADER) != ["true"]:
            return False
        if not trusted_proxies and any(name in request.headers for name in _FORWARDED):
            return False
        address = _address(request)
        return address is not None and any(address in network for network in self.networks)


def _address(request: Request) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(request.client.host if request.client else "")
    except ValueError:
        return None
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address


def failures(flag: str, endpoint: Endpoint) -> Endpoint:
    """Answer errors as the old shop did: `{<flag>: false, error}`, where `flag` is its word for success."""

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except TulburError as error:
            return _failure(flag, error)
        except Exception as error:  # noqa: BLE001 - its front end reads JSON of this shape, whatever broke
            _log.error("a request failed", exc_info=error)
            return JSONResponse({flag: False, "error": "Something went wrong here"}, 500)

    return answered


def _failure(flag: str, error: TulburError) -> Response:
    body: dict[str, Any] = {flag: False, "error": error.message}
    if isinstance(error, ProviderError):
        body["error"] = QPAY_SILENT
        if error.session_id is not None:
            body["sessionId"] = error.session_id
    status = 400 if isinstance(error, Invalid) else error.http_status
    again = isinstance(error, ShopUnavailable | StoreUnavailable)
    return JSONResponse(body, status, {"Retry-After": str(RETRY_SECONDS)} if again else None)
