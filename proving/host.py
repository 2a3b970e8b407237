"""The process a port belongs to, as the port sees it."""

from __future__ import annotations

from typing import Protocol


class Host(Protocol):
    """The process a port belongs to."""

    async def may_go_on(self) -> None:
        """Wait while the process is stopped; here it may be killed, and a killed one ends."""

    @property
    def dead(self) -> bool: ...
