"""Callbacks that came while the database was away: kept in the spool, and replayed through the door they came to."""

from __future__ import annotations

from typing import Final

from tulbur.core.moving import is_old_digest
from tulbur.errors import SourceUnavailable
from tulbur.payments.desk import Desk
from tulbur.payments.following import known
from tulbur.payments.service import Payments
from tulbur.ports import Spooled

MOST_LOOKS: Final = 8
"""Looks under way, past which the next callback waits for one to end: a full spool must not storm QPay."""


async def replay(payments: Payments, spooled: Spooled) -> None:
    """When this returns, the spooled callback is durable in the database, or is known to be forged.

    Raises:
        StoreUnavailable: it is not, and has to stay in the spool.
    """
    if spooled.token_digest and not await _may_call(payments, spooled):
        return
    await payments.room(MOST_LOOKS)
    await payments.hear(spooled.session_id, spooled.payment_id, seconds=0)


async def _may_call(payments: Payments, spooled: Spooled) -> bool:
    """Whether the old shop gave QPay that token; while nobody can tell, or can any more, only the payment is kept.

    SUCCESS was said: a session whose key in the old shop's Redis has ended meanwhile must not take the payment along.
    """
    desk: Desk = payments.desk
    try:
        session = await known(desk, spooled.session_id)
    except SourceUnavailable:
        session = None
    if session is None:
        await payments.keep_unmatched("", spooled.payment_id)
        return False
    return is_old_digest(session, spooled.token_digest)
