"""The process a port belongs to, as the port sees it, and the secrets all of them share."""

from __future__ import annotations

from typing import Final, Protocol

from tulbur.core.session import Reason, Session
from tulbur.links import Links
from tulbur.ports import SweepRun

KEYS: Final = ("a-key-only-for-tests-0123456789abcdef",)
LINKS: Final = Links("http://127.0.0.1:9", KEYS)


class Host(Protocol):
    """The process a port belongs to."""

    async def may_go_on(self) -> None:
        """Wait while the process is stopped; here it may be killed, and a killed one ends."""

    @property
    def dead(self) -> bool: ...

    @property
    def in_danger(self) -> bool:
        """Whether `may_go_on` has anything to do at all; where it has not, asking it is only slow."""


class Silent:
    """Hears everything and says nothing."""

    def loaded(self, session_id: str, source: str) -> None: ...

    def called_back(self, outcome: str, seconds: float) -> None: ...

    def asked(self, reason: Reason) -> None: ...

    def changed(self, session: Session) -> None: ...

    def unmatched(self, session_id: str, payment_id: str) -> None: ...

    def swept(self, run: SweepRun) -> None: ...


SILENT: Final = Silent()
