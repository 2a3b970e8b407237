"""The shop's address for events: may they go there, does it answer, and is anything parked. No event is sent."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlsplit

from tulbur.commands.doctor.finding import Finding, fine, of_sentence, problem
from tulbur.commands.doctor.reaching import CONNECT_SECONDS, aside, reach
from tulbur.core.session import Micros
from tulbur.errors import SettingsError, StoreUnavailable
from tulbur.events.addresses import is_forbidden
from tulbur.ports import Store
from tulbur.settings import Settings, WebhookSettings

CHECK: Final = "webhook"

_PRIVATE: Final = "correct WEBHOOK_URL; for a shop on your own network set WEBHOOK_ALLOW_PRIVATE=on"
_PARKED: Final = (
    "see why: tulbur events list --parked; when the shop takes them: tulbur events replay --parked-only --since …"
)


async def examine_webhook(settings: Settings, store: Store | None, now: Micros) -> AsyncIterator[Finding]:
    """`store` None where it cannot be used."""
    try:
        webhook = settings.webhook()
    except SettingsError as wrong:
        yield of_sentence(CHECK, wrong.message)
    else:
        yield await _reached(webhook) if webhook else fine(CHECK, "off: the shop reads GET /v1/events (WEBHOOK_URL)")
    parked = (await store.stats(now)).events_parked if store is not None else 0
    if parked:
        yield problem(CHECK, f"parked, since the shop never took them: {parked} events", _PARKED)


async def _reached(webhook: WebhookSettings) -> Finding:
    """The host alone is shown: path and query may be a secret."""
    parts = urlsplit(webhook.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if await _private(webhook, host):
        return problem(CHECK, f"{host} is an address of a private network: nothing is sent there", _PRIVATE)
    trouble = await reach([(host, port)], "WEBHOOK_URL")
    if trouble is not None:
        return problem(CHECK, trouble.detail, trouble.remedy)
    if parts.scheme == "https":
        wrong = await _untrusted(host, port)
        if wrong is not None:
            return wrong
    return fine(CHECK, f"{host} answers, {len(webhook.keys)} secret{'s' if len(webhook.keys) > 1 else ''}")


async def _private(webhook: WebhookSettings, host: str) -> bool:
    """Whether all that the name leads to is refused; nothing is connected to for that."""
    try:
        found = await aside(lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM), CONNECT_SECONDS)
    except (OSError, UnicodeError, StoreUnavailable):
        return False
    return all(is_forbidden(str(one[4][0]), allow_private=webhook.allow_private) for one in found)


async def _untrusted(host: str, port: int) -> Finding | None:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=ssl.create_default_context())
    except ssl.SSLCertVerificationError as wrong:
        detail = f"the certificate of {host} is not valid ({wrong.verify_message})"
        return problem(CHECK, detail, "renew it, or get one of a public authority for the name in WEBHOOK_URL")
    except ssl.SSLError:
        return problem(CHECK, f"{host} speaks no TLS on port {port}", "put a TLS certificate in front of the shop")
    except (OSError, TimeoutError) as error:
        detail = f"{host} does not answer over TLS ({type(error).__name__})"
        return problem(CHECK, detail, "see that the shop runs, or correct WEBHOOK_URL")
    # Not waited for: a peer may take its time over the goodbye.
    writer.transport.abort()
    return None
