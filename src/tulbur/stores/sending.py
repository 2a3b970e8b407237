"""What a store does when the answer to a commit is lost: it sends the same commit again, until one is answered."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tulbur.errors import CommitUnknown, StoreUnavailable

MOST_SENDS: Final = 4
"""Times one commit is sent before its outcome is called unknown."""

T = TypeVar("T")


def new_commit_id() -> str:
    return secrets.token_hex(16)


async def sent(send: Callable[[], Awaitable[T]]) -> T:
    """The answer to `send`, which must recognise what an earlier sending of its own has committed.

    Raises:
        CommitUnknown: no sending was answered after one whose answer was lost.
        StoreUnavailable: the first sending did not happen.
    """
    lost: CommitUnknown | None = None
    for _ in range(MOST_SENDS):
        try:
            return await send()
        except CommitUnknown as unknown:
            lost = unknown
        except StoreUnavailable as silent:
            if lost is None:
                raise
            raise CommitUnknown from silent
    raise lost or CommitUnknown
