"""Sessions that lived in the old shop's Redis alone, once they are gone there."""

from __future__ import annotations

from collections.abc import Mapping

from tulbur.core.custody import Custody
from tulbur.core.old_orders import is_complete, paid_before, unclear
from tulbur.core.session import ExceptionName, Micros, Session, Status
from tulbur.core.steps import with_exceptions
from tulbur.core.values import replace


def ended(stored: Session, orders: Mapping[str, str], processed_at: Micros | None, now: Micros, doubt: str) -> Session:
    """What lived in Redis alone and ended there, with the orders that the old shop's database shows for it."""
    claim = stored.claim
    if stored.custody is not Custody.FOLLOWED or claim is None or claim.review:
        return stored
    made = {**claim.orders, **orders}
    review = doubt or unclear(made, stored.items)
    if stored.status is Status.PAID or (made == claim.orders and not review):
        return stored
    metadata = {**stored.metadata, "old_order_ids": made} if made else stored.metadata
    after = replace(stored, claim=replace(claim, orders=made, review=review), metadata=metadata)
    if review:
        after = with_exceptions(replace(after, looks=()), after.exceptions | {ExceptionName.REVIEW}, now)
    if not review and is_complete(made, after.items):
        after = paid_before(after, processed_at or now)
    return after.with_news("session.imported", now, status=claim.status, review=review)
