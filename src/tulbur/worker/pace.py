"""What the loops have in common: how often they look, and how long they wait after a failure."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from tulbur.errors import TulburError

LEASE_SECONDS: Final = 60.0

IDLE_SECONDS: Final = 1.0

LONGEST_PAUSE_SECONDS: Final = 30.0

EVENTS: Final = 200

log: Final = logging.getLogger("tulbur.worker")


async def keep_on(
    once: Callable[[], Awaitable[bool | None]],
    stopping: asyncio.Event,
    doing: str,
    longest_seconds: float = LONGEST_PAUSE_SECONDS,
) -> None:
    """Do `once` again and again until `stopping`; neither a failure nor a defect ends it.

    True: at once again. False: after a second. None, or a failure: later each time, up to `longest_seconds`.
    """
    pause = IDLE_SECONDS
    while not stopping.is_set():
        try:
            busy = await once()
        except TulburError as error:
            log.warning("%s waits", doing, extra={"error": error.message, "seconds": pause})
            busy = None
        except Exception:
            log.exception("%s failed", doing)
            busy = None
        if busy:
            pause = IDLE_SECONDS
            continue
        pause = IDLE_SECONDS if busy is False else min(pause * 2, longest_seconds)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), pause)
