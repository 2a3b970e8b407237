"""What a reader of the old shop's database offers, and how long it may take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from tulbur.errors import SourceUnavailable
from tulbur.importer.rows import Row

T = TypeVar("T")

BATCH: Final = 200
"""Rows read at once; with a megabyte for the largest payload this bounds the memory, too."""

READ_SECONDS: Final = 60.0
"""Longest wait for one batch."""

MOST_ORDERS: Final = 20_000
"""Orders of one batch's payers that are looked at."""

SESSIONS: Final = "QPayPaymentSession"
PROCESSED: Final = "QPayProcessedInvoice"
ORDERS: Final = "orders"


class Source(Protocol):
    """The old shop's database. Nothing here writes; every method raises SourceUnavailable."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def count(self) -> int:
        """How many sessions there are, about."""

    def sessions(self) -> AsyncIterator[Sequence[Row]]:
        """Every session in batches, in a stable order."""

    def processed(self) -> AsyncIterator[Sequence[Row]]:
        """Every processed invoice in batches, in a stable order."""

    async def processed_for(self, invoice_ids: Sequence[str], session_ids: Sequence[str]) -> Sequence[Row]:
        """The processed invoices of these."""

    async def known_sessions(self, invoice_ids: Sequence[str], session_ids: Sequence[str]) -> Sequence[Row]:
        """The sessions of these, no more of each than its ids."""

    async def orders(self, ids: Sequence[str]) -> Mapping[str, Row] | None:
        """The orders with these ids that exist; None where there is no table of them."""

    async def orders_of(self, user_ids: Sequence[str]) -> Sequence[Row]:
        """Orders of these payers, up to `MOST_ORDERS`; none where they lack payer, shop, total or time."""

    async def named(self, order_ids: Sequence[str]) -> Sequence[str]:
        """Those of these orders that a processed invoice names."""


async def bounded(reading: Awaitable[T], errors: tuple[type[BaseException], ...], seconds: float = READ_SECONDS) -> T:
    """Wait so long for one read; an error is told by its kind alone, for its text may hold the URL."""
    try:
        async with asyncio.timeout(seconds):
            return await reading
    except TimeoutError:
        raise SourceUnavailable(f"the old shop's data did not answer within {seconds:g} s") from None
    except errors as error:
        kind = type(getattr(error, "orig", None) or error).__name__
        raise SourceUnavailable(f"the old shop's data cannot be read ({kind}); run it again, it goes on") from None
