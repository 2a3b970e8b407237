"""The disk under a spool: real files in a real directory, at virtual times, and failing as the run's faults say."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from proving.faults import Fault, Faults
from tulbur.ports import Spooled
from tulbur.spool import DISK_SECONDS, files
from tulbur.spool.files import NAME
from tulbur.spool.sealing import Seal

MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
"""Where a file costs no disk, if there is such a place: nothing here outlives its run."""

LONGEST_SECONDS: Final = 4 * DISK_SECONDS


class Disk:
    """One directory for all processes of a run; `close` takes it away."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        faults: Faults,
        keys: tuple[str, ...],
        filled: Callable[[], None],
    ) -> None:
        """`filled` hears when something lies there that did not."""
        self._loop, self._faults, self._seal, self._filled = loop, faults, Seal(keys), filled
        self._was_empty = True
        self._home = TemporaryDirectory(prefix="proving-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None)
        self.folder = Path(self._home.name) / "spool"

    def close(self) -> None:
        self._home.cleanup()

    def run(self, executor: object, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """Do it now or later; whoever waits may have given up by then. To start, in no pool yet, never fails."""
        future = self._loop.create_future()
        seconds, fails = 0.001, False
        if executor is not None:
            fails = self._faults.fires(Fault.SPOOL_FAILED)
            if self._faults.fires(Fault.SPOOL_SLOW):
                seconds = self._faults.rng.uniform(DISK_SECONDS / 2, LONGEST_SECONDS)
        self._loop.call_later(seconds, self._do, future, work, fails)
        return future

    def waiting(self) -> list[Spooled]:
        """The callbacks that lie there, the first to arrive first."""
        if not self.folder.is_dir():
            return []
        names = sorted(path.name for path in self.folder.iterdir() if NAME.fullmatch(path.name))
        opened = (self._seal.opened(name, files.read(self.folder / name)) for name in names)
        return [one for one in opened if one is not None]

    def is_empty(self) -> bool:
        return not self.folder.is_dir() or not any(NAME.fullmatch(path.name) for path in self.folder.iterdir())

    def _do(self, future: asyncio.Future[Any], work: Callable[[], Any], fails: bool) -> None:
        try:
            done = work() if not fails else None
            error: Exception | None = OSError(errno.EIO, os.strerror(errno.EIO)) if fails else None
        except Exception as raised:  # noqa: BLE001 - as a thread would hand it on
            done, error = None, raised
        if future.cancelled():
            pass
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(done)
        was_empty, self._was_empty = self._was_empty, self.is_empty()
        if was_empty and not self._was_empty:
            self._filled()
