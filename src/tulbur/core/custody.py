"""Whose session it is while a shop moves between the old system and this one, and what the old one said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tulbur.core.later import Later


class Custody(StrEnum):
    """Who may make the orders of a session: never two systems at once.

    FOLLOWED: imported, and still the old shop's. Nothing is asked, nothing expires, no order is made; a callback's hint
    is kept, and makes a session ours that lives in the old shop's Redis alone. HANDED_OVER: given to the old shop.
    Payments that are seen are held and named, no order is made, and it never expires; so the step that hands it over
    has to take its looks away.
    """

    OURS = "ours"
    FOLLOWED = "followed"
    HANDED_OVER = "handed_over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What the old shop said of a session it gave us.

    Attributes:
        status: its own word, such as PROCESSED.
        digest: over everything that was read of it; another digest means that the old shop went on working.
        source: where it was read, "database" or "redis".
        orders: the orders it made, by shop ("" where the shop is not known); these are never announced again.
        payment_id: a payment it named; looked up like a callback's, never believed.
        token_digest: SHA-256 of the token in the callback address QPay has for it.
        review: why a person has to decide before it is taken over; "" when nobody has to.
        checked: its processed invoices and orders were read with it; a key that is read alone does not replace that.
        taken_at: when it was taken over, None while it is followed.
    """

    status: str
    digest: str
    source: str = "database"
    orders: Mapping[str, str] = field(default_factory=dict)
    payment_id: str = ""
    token_digest: str = ""
    review: str = ""
    checked: bool = False
    taken_at: int | None = None
    later: Later = ()


def is_adoptable(custody: Custody, claim: Claim | None) -> bool:
    """Whether a callback that reaches us makes a session ours: it was in the old shop's Redis alone, and is in order.

    QPay calls one address, so the old shop does not hear of it.
    """
    return custody is Custody.FOLLOWED and claim is not None and claim.source == "redis" and not claim.review
