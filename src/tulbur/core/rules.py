"""What a shop decides about money that comes late."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """LATE_PAYMENTS=review: money after the deadline or after cancelling is held until a person decides.

    EXPIRED_INVOICES=cancel: an unpaid session's invoices are cancelled at QPay before it expires.
    """

    review_late: bool = False
    cancel_expired: bool = False
