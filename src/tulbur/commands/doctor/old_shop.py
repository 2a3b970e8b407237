"""The old shop's routes and sessions: holes in the one, and which of the others still wait to be taken over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Final

from tulbur.commands.doctor.finding import Finding, fine, of_sentence, problem, remark
from tulbur.commands.doctor.own_settings import SHORTEST_KEY
from tulbur.core.custody import Custody
from tulbur.core.session import SECOND, Micros, Status
from tulbur.errors import SettingsError
from tulbur.ports import MOST_ROWS, SessionQuery, Store
from tulbur.settings import OldShop, Settings

PATIENCE_SECONDS: Final = 3600
"""How long after its end a session of the old shop may still be followed: that shop may be finishing it."""


def routes(settings: Settings) -> Iterator[Finding]:
    """The holes of the old shop's routes, each a finding of its own; nothing while they are off."""
    try:
        old_shop = settings.old_shop()
    except SettingsError as wrong:
        yield of_sentence("seed api", wrong.message)
        return
    if old_shop is None:
        return
    holes = list(_holes(old_shop))
    for detail, remedy in holes:
        yield problem("seed api", detail, remedy)
    if not holes:
        by_browser = "" if old_shop.price_url else "; checkouts by a browser are refused (no PRICE_URL)"
        yield fine("seed api", f"on{by_browser}")


def _holes(old_shop: OldShop) -> Iterator[tuple[str, str]]:
    if old_shop.unverified_prices and not old_shop.price_url:
        detail = "SEED_API_UNVERIFIED_PRICES=on is a hole: whoever pays names the price"
        yield detail, "set PRICE_URL to where the shop tells its prices, and turn it off"
    if not (old_shop.jwt_secret or old_shop.jwks_url):
        yield "no key to check tokens with: every route with a token answers 401", "set TULBUR_JWT_SECRET"
    if 0 < len(old_shop.jwt_secret) < SHORTEST_KEY:
        detail = f"TULBUR_JWT_SECRET is shorter than {SHORTEST_KEY} characters: it can be guessed from any token"
        yield detail, "give the shop and tulbur a longer random secret"
    if any(network.prefixlen == 0 for network in old_shop.networks):
        detail = "SEED_API_TRUSTED_NETWORKS holds every address: anybody may open checkouts for any user"
        yield detail, "name the gateway's own network"


async def sessions(settings: Settings, store: Store | None, now: Micros) -> AsyncIterator[Finding]:
    """Of the newest pending ones, those that ended long ago and are still the old shop's: nobody makes their orders."""
    if settings.seed_api != "on" or store is None:
        return
    newest = await store.find(SessionQuery(status=Status.PENDING, limit=MOST_ROWS))
    ended = now - PATIENCE_SECONDS * SECOND
    followed = [s for s in newest if s.custody is Custody.FOLLOWED and s.expires_at < ended]
    for_a_person = sum(bool(s.claim and s.claim.review) for s in followed)
    waiting = len(followed) - for_a_person
    if waiting:
        detail = f"{waiting} sessions of the old shop wait to be taken over" if waiting > 1 else _ONE
        yield problem("old sessions", detail, "stop the old shop, then run: tulbur import --take-over")
    if for_a_person:
        detail = f"sessions of the old shop that a person has to look at first: {for_a_person}"
        yield remark("old sessions", detail, "see what tulbur import says of each, and docs/move-in.md")
    if not followed:
        yield fine("old sessions", f"none of the newest {MOST_ROWS} pending sessions waits to be taken over")


_ONE: Final = "1 session of the old shop waits to be taken over"
