"""What goes wrong in a run, each counted as it strikes; a listed fault that never struck shows nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from testbed.proxy import Strike


class Fault(StrEnum):
    DATABASE_KILLED = "database: killed, started again"
    DATABASE_STOPPED = "database: stopped for seconds, then on"
    DATABASE_REFUSES = "database: connections refused"
    DATABASE_RESETS = "database: reset in the middle of an answer"
    DATABASE_LOSES = "database: commit sent, its answer lost"
    DATABASE_SLOW = "database: slow"
    DATABASE_SILENT = "database: connections half-open"
    FILE_LOCKED = "database file: locked by somebody else"
    FILE_AWAY = "database file: away for seconds"
    FAILOVER = "database: primary killed, another takes over"
    CACHE_KILLED = "cache: killed, started again"
    CACHE_STOPPED = "cache: stopped for seconds, then on"
    CACHE_REFUSES = "cache: connections refused"
    CACHE_RESETS = "cache: reset in the middle of an answer"
    CACHE_LOSES = "cache: written, the answer lost"
    CACHE_SLOW = "cache: slow"
    CACHE_SILENT = "cache: connections half-open"
    CACHE_FLUSHED = "cache: flushed"
    CACHE_FAILOVER = "cache: a master killed, its replica takes over"
    QPAY_REFUSES = "qpay: connections refused"
    QPAY_RESETS = "qpay: reset in the middle of an answer"
    QPAY_LOSES = "qpay: invoice made, the answer lost"
    QPAY_SLOW = "qpay: slow"
    QPAY_SILENT = "qpay: connections half-open"
    QPAY_AWAY = "qpay: 503 for everything"
    QPAY_SHOWS_LATER = "qpay: a payment shows only after its callback"
    SERVE_KILLED = "serve: killed, started again"
    SERVE_STOPPED = "serve: stopped for seconds, then on"
    WORKER_KILLED = "worker: killed, started again"
    WORKER_STOPPED = "worker: stopped for seconds, then on"
    CALLBACK_LOST = "callback: lost"
    CALLBACK_TWICE = "callback: twice at once"
    CALLBACK_LATE = "callback: late"
    CALLBACK_AGAIN = "callback: sent again after another answer than SUCCESS"
    PAYER_LATE = "payer: pays after the deadline"
    PAYER_TWICE = "payer: pays twice"
    PAYER_SHORT = "payer: pays too little"
    PAYER_NEVER = "payer: never pays"
    SHOP_AGAIN = "shop: opens again with the same key"


PROXIED: Final[Mapping[tuple[str, Strike], Fault]] = {
    ("database", Strike.REFUSED): Fault.DATABASE_REFUSES,
    ("database", Strike.RESET): Fault.DATABASE_RESETS,
    ("database", Strike.LOST): Fault.DATABASE_LOSES,
    ("database", Strike.SLOW): Fault.DATABASE_SLOW,
    ("database", Strike.SILENT): Fault.DATABASE_SILENT,
    ("cache", Strike.REFUSED): Fault.CACHE_REFUSES,
    ("cache", Strike.RESET): Fault.CACHE_RESETS,
    ("cache", Strike.LOST): Fault.CACHE_LOSES,
    ("cache", Strike.SLOW): Fault.CACHE_SLOW,
    ("cache", Strike.SILENT): Fault.CACHE_SILENT,
    ("qpay", Strike.REFUSED): Fault.QPAY_REFUSES,
    ("qpay", Strike.RESET): Fault.QPAY_RESETS,
    ("qpay", Strike.LOST): Fault.QPAY_LOSES,
    ("qpay", Strike.SLOW): Fault.QPAY_SLOW,
    ("qpay", Strike.SILENT): Fault.QPAY_SILENT,
}
"""What a strike of the proxy on one of the three ways is."""

OF_PAYERS: Final = tuple(fault for fault in Fault if fault.partition(":")[0] in ("callback", "payer", "shop"))
"""They come with the payers; the others come one after the other."""


class Board:
    """How often each fault has struck."""

    def __init__(self) -> None:
        self.counts: Counter[Fault] = Counter()
        self._news = asyncio.Event()

    def strike(self, fault: Fault) -> None:
        self.counts[fault] += 1
        self._news.set()

    async def until(self, fault: Fault, count: int, seconds: float) -> bool:
        """Wait until it has struck more than `count` times; False when it did not in so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while self.counts[fault] <= count:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True
