"""The spool as one process has it: the real one, judged whenever a file goes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from proving.disk import Disk
from proving.host import Host
from proving.uses import Deed
from tulbur.ports import Spooled
from tulbur.spool import FileSpool

if TYPE_CHECKING:
    from proving.oracle import Oracle


class JudgedSpool(FileSpool):
    """A callback's file may go once the callback is in the database, and no earlier."""

    def __init__(
        self, disk: Disk, keys: tuple[str, ...], host: Host, oracle: Oracle, new_id: Callable[[], str]
    ) -> None:
        super().__init__(disk.folder, keys, suffix=lambda: new_id()[-16:])
        self._host, self._oracle = host, oracle
        self._known: dict[str, Spooled] = {}

    async def keep(self, session_id: str, payment_id: str, received_at: int, token_digest: str = "") -> None:
        await self._host.may_go_on()
        await super().keep(session_id, payment_id, received_at, token_digest)
        await self._host.may_go_on()
        self._oracle.did(Deed.SPOOLED)

    async def waiting(self, limit: int, without: Collection[str] = ()) -> list[Spooled]:
        await self._host.may_go_on()
        found = await super().waiting(limit, without)
        self._known.update((one.name, one) for one in found)
        return found

    async def done(self, name: str) -> bool:
        await self._host.may_go_on()
        one = self._known[name]
        self._oracle.replayed(one.session_id, one.payment_id)
        gone = await super().done(name)
        if gone:
            self._oracle.did(Deed.REPLAYED)
        await self._host.may_go_on()
        return gone
