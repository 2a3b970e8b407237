"""What people decide about money, as they send it."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Literal, TypeAlias

from tulbur.web.fields import Id, Money, Note, Reference
from tulbur.web.intake import Taken, body_digest

Decision: TypeAlias = Literal["accept", "refund"]


class Review(Taken):
    """`accept` makes the orders of the money there is, `refund` gives it back."""

    decision: Decision
    note: Note = ""


class RefundRequest(Taken):
    """A payment to give back, all that is due of it unless `amount` says otherwise.

    With a `reference` a person has paid it back already.
    """

    payment_id: Id
    amount: Money | None = None
    reference: Reference | None = None
    note: Note = ""


class Assign(Taken):
    """The session that a payment belongs to."""

    session_id: Id
    note: Note = ""


class Close(Taken):
    """How a person has dealt with a payment: the bank's reference, or another by which it can be found again."""

    reference: Reference
    note: Note = ""


def refund_key(scope: str, idempotency_key: str | None, body: RefundRequest) -> str:
    """What makes a repeated request known: whose key it is, and for which body. "" without a key."""
    if idempotency_key is None:
        return ""
    own = sha256(json.dumps([scope, idempotency_key]).encode()).hexdigest()
    return f"{own[:32]}:{body_digest(body)[:16]}"
