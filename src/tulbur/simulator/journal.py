"""What happened, kept within bounds: requests, callbacks, and complaints about polling."""

from __future__ import annotations

import logging
from collections import Counter, deque
from typing import Any

from tulbur.simulator.wire import iso

BODY_BYTES = 64 * 1024
MAX_ITEMS = 10_000
MAX_BYTES = 32 * 1024 * 1024
MAX_WARNINGS = 200
logger = logging.getLogger("tulbur.simulator")


def clipped(body: bytes) -> str:
    """At most 64 KiB of a body as text."""
    return body[:BODY_BYTES].decode(errors="replace")


class Log:
    """The newest entries, bounded by number and by bytes of their texts."""

    def __init__(self) -> None:
        self._items: deque[tuple[int, dict[str, Any]]] = deque()
        self._bytes = 0

    def add(self, item: dict[str, Any]) -> None:
        size = sum(len(value) for value in item.values() if isinstance(value, str))
        self._items.append((size, item))
        self._bytes += size
        while len(self._items) > MAX_ITEMS or self._bytes > MAX_BYTES:
            self._bytes -= self._items.popleft()[0]

    def items(self) -> list[dict[str, Any]]:
        """Oldest first."""
        return [item for _, item in self._items]


class Journal:
    """Everything the control plane tells about the past; times are passed in."""

    def __init__(self) -> None:
        self.requests = Log()
        self.callbacks = Log()
        self.counts: Counter[str] = Counter()
        self._warnings: dict[tuple[str, str], dict[str, Any]] = {}

    @property
    def warnings(self) -> list[dict[str, Any]]:
        return list(self._warnings.values())

    def polling(self, invoice_id: str, checks: int, reason: str, now: float) -> None:
        """One warning per invoice and reason; further looks only move its count."""
        known = self._warnings.get((invoice_id, reason))
        if known is not None:
            known["checks"] = checks
            return
        message = f"invoice {invoice_id} was checked {reason}: QPay forbids polling, wait for the callback"
        logger.warning(message)
        self._warnings[invoice_id, reason] = {
            "at": iso(now),
            "invoice_id": invoice_id,
            "checks": checks,
            "message": message,
        }
        if len(self._warnings) > MAX_WARNINGS:
            self._warnings.pop(next(iter(self._warnings)))
