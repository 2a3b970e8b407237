"""What the HTTP application is made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from starlette.requests import Request

from tulbur.links import Links
from tulbur.payments import Payments, Policy
from tulbur.ports import Cache, Clock, Provider, Store
from tulbur.settings import ApiKey
from tulbur.telemetry import Telemetry
from tulbur.web.live import LiveSessions
from tulbur.web.seed_parts import SeedParts


@dataclass(frozen=True, kw_only=True)
class WebParts:
    """Everything the routes need, built elsewhere.

    `ping_store` raises SettingsError where the schema cannot be used, StoreUnavailable where nobody answers.
    `shared_cache_or_single` False says that the processes keep no sessions in common: the fallback rate means nothing.
    `cache_kind` says what keeps them, such as "redis".
    `hsts` tells browsers to use HTTPS alone, for a public address that has it. `seed` None: the old shop's routes do
    not exist. `delivering`: events are sent to the shop, too.
    """

    payments: Payments
    store: Store
    ping_store: Callable[[], Awaitable[None]]
    cache: Cache
    provider: Provider
    links: Links
    clock: Clock
    api_keys: tuple[ApiKey, ...]
    telemetry: Telemetry
    live: LiveSessions
    policy: Policy
    shared_cache_or_single: bool = True
    cache_kind: str = "in-process"
    trusted_proxies: str = ""
    hsts: bool = False
    seed: SeedParts | None = None
    delivering: bool = False


def parts_of(request: Request) -> WebParts:
    """The parts of the application that serves this request, mounted under another or not."""
    return cast("WebParts", request.app.state.parts)
