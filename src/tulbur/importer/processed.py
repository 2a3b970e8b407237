"""Processed invoices and the orders they name: which of them are a session's, and which of those exist."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from tulbur.importer.rows import OrderRows, Row, order_ids, plain
from tulbur.importer.sources import Source

ANOTHER: Final = "a processed invoice with its QPay invoice names another session"


async def processed_of(source: Source, invoice_ids: Sequence[str], session_ids: Sequence[str]) -> Sequence[Row]:
    """The processed invoices of these, in one order however the database returned them."""
    found = await source.processed_for(invoice_ids, session_ids) if invoice_ids or session_ids else []
    return sorted(found, key=lambda row: (str(row.get("processedAt")), str(row.get("invoiceId"))))


async def order_rows(source: Source, processed: Iterable[Row]) -> OrderRows:
    """Those orders of these processed invoices that exist."""
    rows = await source.orders(order_ids(processed))
    return OrderRows(rows or {}, readable=rows is not None)


def belonging(
    processed: Iterable[Row], session_id: object, invoice_ids: Collection[object]
) -> tuple[Sequence[Row], str]:
    """A session's own, by the session they name or by its invoice, and why that needs a person ("" when it does not).

    The old shop went by the invoice; where it names another session, the money may have made that one's orders.
    """
    own = [row for row in processed if belongs(row, session_id, invoice_ids)]
    named = {plain(row.get("sessionId")) or session_id for row in own}
    return own, ANOTHER if named - {session_id} else ""


def belongs(processed: Row, session_id: object, invoice_ids: Collection[object]) -> bool:
    """Whether it names this session or one of these invoices."""
    named, invoice = plain(processed.get("sessionId")), plain(processed.get("invoiceId"))
    return bool(named and named == session_id) or bool(invoice and invoice in invoice_ids)
