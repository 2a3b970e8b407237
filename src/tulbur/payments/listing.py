"""QPay's payment list, read completely for a time, or with a reason why not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tulbur.core.session import SECOND, Micros, rank
from tulbur.core.settling import SeenPayment
from tulbur.errors import ProviderError
from tulbur.ports import Provider

EDGE_SECONDS: Final = 60
"""Read beyond either end: QPay's dates are whole seconds of its own clock."""

MOST_PAGES: Final = 20
"""Pages of one window; a longer list is read in halves, of which less can change while it is read."""

SHORTEST: Final = SECOND
"""A window is not halved any further: the list knows seconds only."""

MOST_PAGES_IN_ALL: Final = 2_000
"""Pages of one reading; QPay's own limit is 100 rows to a page."""


@dataclass(slots=True)
class Listing:
    """What was read; `trouble` says why some of it may be missing, and is "" when nothing is."""

    payments: dict[str, SeenPayment] = field(default_factory=dict)
    pages: int = 0
    trouble: str = ""

    @property
    def complete(self) -> bool:
        return not self.trouble

    def add(self, seen: SeenPayment) -> None:
        """Listed twice, a payment counts once, as far as it has come."""
        known = self.payments.get(seen.id)
        if known is None or rank(seen.status) > rank(known.status):
            self.payments[seen.id] = seen


async def read(provider: Provider, start: Micros, end: Micros) -> Listing:
    """Every payment from `start` to `end` and a little beyond.

    What may be cut off, or was changing while it was read, is read again in halves. Nothing is raised: what was seen
    until QPay fell silent is worth having.
    """
    listing = Listing()
    waiting = [(start - EDGE_SECONDS * SECOND, end + EDGE_SECONDS * SECOND)]
    while waiting and not listing.trouble:
        first, last = waiting.pop()
        try:
            whole = await _window(provider, listing, first, last)
        except ProviderError as error:
            listing.trouble = error.message
            break
        if whole or listing.trouble:
            continue
        middle = (first + last) // 2 // SECOND * SECOND
        if last - first <= SHORTEST or not first < middle < last:
            listing.trouble = "the list kept changing, or is cut off, within one second"
        elif listing.pages >= MOST_PAGES_IN_ALL:
            listing.trouble = f"the list has more than {MOST_PAGES_IN_ALL} pages: ask for a shorter time"
        waiting += [(middle, last), (first, middle)]
    return listing


async def _window(provider: Provider, listing: Listing, start: Micros, end: Micros) -> bool:
    """Read one window; False when it may not be all of it."""
    first = await _pages(provider, listing, start, end)
    if listing.trouble or not first.whole:
        return False
    if first.requests == 1:
        return True
    # Rows may have moved from one page to the next between two requests: what is read twice alike stood still.
    again = await _pages(provider, listing, start, end)
    return again.whole and again.ids == first.ids


@dataclass(slots=True)
class _Read:
    ids: set[str] = field(default_factory=set)
    requests: int = 0
    whole: bool = False


async def _pages(provider: Provider, listing: Listing, start: Micros, end: Micros) -> _Read:
    read = _Read()
    for number in range(1, MOST_PAGES + 1):
        page = await provider.list_payments(start, end, number)
        listing.pages += 1
        read.requests += page.requests
        if not page.complete:
            listing.trouble = "a row of the list, or a part of it, could not be read"
        for seen in page.payments:
            listing.add(seen)
        new = {seen.id for seen in page.payments} - read.ids
        read.ids |= new
        if not page.more:
            # An empty page behind a full one may be where QPay cuts a long list, whatever it counts.
            cut = bool(read.ids) and not page.payments
            read.whole = page.total in (None, len(read.ids)) and not cut
            break
        if not new or (page.total or 0) > MOST_PAGES * max(len(page.payments), 1) or listing.trouble:
            break
    return read
