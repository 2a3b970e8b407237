"""What shops, payers and QPay were told, and what QPay took: the verdict holds it against the books."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Taken:
    """A payment at QPay; the amount in möngö."""

    id: str
    sender_invoice_no: str
    amount: int
    currency: str
    status: str


@dataclass
class Witness:
    """What people were told."""

    opened: dict[str, set[str]] = field(default_factory=dict)
    """The session ids that were answered to each key."""
    acknowledged: dict[str, str] = field(default_factory=dict)
    """Payment ids whose callback was answered SUCCESS, and their sessions."""
    told_paid: set[str] = field(default_factory=set)
    surprises: list[str] = field(default_factory=list)
    """Answers nobody should get."""
    answers: Counter[str] = field(default_factory=Counter)
    """Callbacks by what they were answered."""
    paid: int = 0
