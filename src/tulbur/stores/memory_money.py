"""The memory store's payments: those without a session, and the list of work."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from tulbur.core.session import Micros
from tulbur.ports import Disposition, ListedPayment, PaymentQuery, Unmatched
from tulbur.stores import rows
from tulbur.stores.memory_data import MemoryPart, Row
from tulbur.stores.rows import page


class MemoryMoney(MemoryPart):
    """The payments' part of `ports.Store`."""

    async def record_unmatched(self, unmatched: Unmatched) -> bool:
        await asyncio.sleep(0)
        row = self.data.payments.get(unmatched.payment_id)
        if row is None:
            self.data.payments[unmatched.payment_id] = {**rows.unmatched_row(unmatched), "note": None}
        elif row["session_id"] is None:
            row.update(rows.unmatched_row(rows.merged(rows.read_unmatched(row), unmatched)))
        return row is None

    async def unmatched(self, limit: int) -> list[Unmatched]:
        await asyncio.sleep(0)
        mine = [row for row in self.data.payments.values() if _is_open(row)]
        mine.sort(key=lambda row: (row["seen_at"], row["payment_id"]))
        return [rows.read_unmatched(row) for row in mine[: page(limit)]]

    async def unmatched_payment(self, payment_id: str) -> Unmatched | None:
        await asyncio.sleep(0)
        row = self.data.payments.get(payment_id)
        return rows.read_unmatched(row) if row and row["session_id"] is None else None

    async def unmatched_due(self, now: Micros, limit: int) -> list[Unmatched]:
        await asyncio.sleep(0)
        due = [r for r in self.data.payments.values() if _is_open(r) and r["due_at"] is not None and r["due_at"] <= now]
        due.sort(key=lambda row: (row["due_at"], row["seen_at"], row["payment_id"]))
        return [rows.read_unmatched(row) for row in due[: page(limit)]]

    async def unmatched_looked(self, unmatched: Unmatched, before_due_at: Micros | None) -> bool:
        await asyncio.sleep(0)
        row = self.data.payments.get(unmatched.payment_id)
        if row is None or not _is_open(row) or row["due_at"] != before_due_at:
            return False
        row.update(rows.unmatched_row(rows.looked(rows.read_unmatched(row), unmatched)))
        return True

    async def close_unmatched(self, payment_id: str, *, now: Micros, note: Mapping[str, str]) -> bool:
        return await self._sent(lambda: self._close(payment_id, now, rows.written(note)))

    def _close(self, payment_id: str, now: Micros, note: str) -> bool:
        row = self.data.payments.get(payment_id)
        if row is None or row["session_id"] is not None:
            return False
        if row.get("closed_at") is not None:
            return rows.is_closed_so(row, now, note)
        row.update(closed_at=now, due_at=None, note=note)
        return True

    async def closed_unmatched(self, closed_before: Micros, limit: int) -> list[str]:
        await asyncio.sleep(0)
        mine = [row for row in self.data.payments.values() if _is_closed(row) and row["closed_at"] < closed_before]
        mine.sort(key=lambda row: (row["seen_at"], row["payment_id"]))
        return [row["payment_id"] for row in mine if row["raw"]][: page(limit)]

    async def blank_unmatched(self, payment_ids: Sequence[str]) -> None:
        await asyncio.sleep(0)
        for row in map(self.data.payments.get, payment_ids):
            if row and _is_closed(row):
                row["raw"] = ""

    async def payments(self, query: PaymentQuery) -> list[ListedPayment]:
        await asyncio.sleep(0)
        matching = [row for row in self.data.payments.values() if _matches(row, query)]
        matching.sort(key=lambda row: (row["seen_at"], row["payment_id"]))
        return [rows.read_payment(row) for row in matching[: page(query.limit)]]


def _is_open(row: Row) -> bool:
    return row["session_id"] is None and row.get("closed_at") is None


def _is_closed(row: Row) -> bool:
    return row["session_id"] is None and row.get("closed_at") is not None


def _matches(row: Row, query: PaymentQuery) -> bool:
    if query.cursor is not None and (row["seen_at"], row["payment_id"]) <= query.cursor:
        return False
    if query.disposition is Disposition.UNMATCHED:
        return _is_open(row)
    return bool(row[query.disposition.value] > 0)
