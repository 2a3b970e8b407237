"""Callbacks kept in a directory while the database cannot be written: one file for each, durable before it counts.

A file is written under a temporary name, fsynced, renamed, and the directory fsynced. So under its own name there is
never half of one: what does not carry our MAC was damaged later or put there by somebody else, and is set aside.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from tulbur.core.session import Micros
from tulbur.errors import SettingsError, SpoolUnavailable
from tulbur.ports import Spooled
from tulbur.spool import files
from tulbur.spool.files import NAME
from tulbur.spool.sealing import Seal

MOST_FILES: Final = 10_000
"""Callbacks that may wait; past this they are refused."""

RECOUNT: Final = 100
"""Files are counted anew after so many were added; each process on one directory may pass its bound by that."""

RECOUNT_SECONDS: Final = 1.0
"""A full directory is counted anew at most this often."""

WRITERS: Final = 4
MOST_WRITING: Final = 256
"""Callbacks that wait for the disk at once."""

DISK_SECONDS: Final = 5.0
"""How long the disk may take; a callback that becomes durable later is one too many, which does no harm."""

_OTHERS_WRITE: Final = 0o022

T = TypeVar("T")
Told: TypeAlias = Callable[[str, int, str], None]


def _suffix() -> str:
    return secrets.token_hex(8)


class FileSpool:
    """Any number of processes share one directory; each keeps its own callbacks there and replays anybody's."""

    def __init__(
        self,
        folder: Path,
        secret_keys: Sequence[str],
        *,
        most: int = MOST_FILES,
        on_change: Told | None = None,
        suffix: Callable[[], str] = _suffix,
    ) -> None:
        """`on_change` hears "kept", "replayed", "set_aside", "failed" or "counted", how many wait, and which file.

        `suffix` returns 16 hex digits that no other process returns: the end of a file's name.
        """
        self._folder = folder
        self._seal = Seal(secret_keys)
        self._most = most
        self._on_change = on_change
        self._suffix = suffix
        self._pool: ThreadPoolExecutor | None = None
        self._working = 0
        self._count = 0
        self._keeping = 0
        self._added = 0
        self._recounted_at = float("-inf")

    async def start(self) -> None:
        """Make the directory if it is not there, and take back what was set aside but is ours after all.

        Raises:
            SettingsError: it cannot be used; the sentence says why.
        """
        await asyncio.to_thread(self._prepare)
        self._pool = self._pool or ThreadPoolExecutor(WRITERS, thread_name_prefix="tulbur-spool")
        with contextlib.suppress(SpoolUnavailable):
            await self._recount()

    async def stop(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown)

    async def ping(self) -> bool:
        """Whether a callback could be kept now: tried with a file that is taken away again."""
        try:
            await self._run(lambda: files.probe(self._folder))
        except SpoolUnavailable:
            return False
        return self._count < self._most

    async def keep(self, session_id: str, payment_id: str, received_at: Micros, token_digest: str = "") -> None:
        """When this returns, the callback is durable.

        Raises:
            SpoolUnavailable: it is not; the disk is full, failed or slow, or too many callbacks wait.
        """
        try:
            await self._keep(session_id, payment_id, received_at, token_digest)
        except SpoolUnavailable:
            self._tell("failed")
            raise
        self._tell("kept")

    async def _keep(self, session_id: str, payment_id: str, received_at: Micros, token_digest: str) -> None:
        await self._make_room()
        name = f"{received_at:016d}-{self._suffix()}.hint"
        spooled = Spooled(name, session_id, payment_id, received_at, token_digest)
        content = self._seal.sealed(spooled)
        self._count, self._keeping, self._added = self._count + 1, self._keeping + 1, self._added + 1
        try:
            await self._run(lambda: files.write(self._folder, spooled.name, content))
        except BaseException:
            self._count -= 1
            raise
        finally:
            self._keeping -= 1

    async def waiting(self, limit: int, without: Collection[str] = ()) -> list[Spooled]:
        """Callbacks that wait, oldest first, but for the named ones. What is none of ours is set aside.

        Raises:
            SpoolUnavailable: the directory cannot be read.
        """
        names = await self._recount()
        wanted = [name for name in names if name not in without]
        found, foreign = await self._run(lambda: self._read_many(wanted, limit))
        for name in foreign:
            self._count -= 1
            self._tell("set_aside", name)
        return found

    async def done(self, name: str) -> bool:
        """Take a replayed callback away; False when another process was faster.

        Raises:
            SpoolUnavailable: it cannot be taken away, and will be replayed again.
        """
        gone = await self._run(lambda: files.remove(self._folder / name))
        if gone:
            self._count -= 1
            self._tell("replayed")
        return gone

    # --- how many there are

    async def _make_room(self) -> None:
        now = asyncio.get_running_loop().time()
        full = self._count >= self._most
        if self._added >= RECOUNT or (full and now - self._recounted_at >= RECOUNT_SECONDS):
            self._recounted_at = now
            await self._recount()
        if self._count >= self._most:
            raise SpoolUnavailable("the database does not answer, and the spool is full; send it again")

    async def _recount(self) -> list[str]:
        self._added = 0
        names = await self._run(lambda: files.names(self._folder))
        # Those being written may be among them: rather one too many than one too few.
        self._count = len(names) + self._keeping
        self._tell("counted")
        return names

    def _tell(self, what: str, name: str = "") -> None:
        if self._on_change is not None:
            self._on_change(what, max(self._count, 0), name)

    async def _run(self, work: Callable[[], T]) -> T:
        """Do something with the disk in a thread, where it is finished whatever becomes of whoever waits."""
        if self._pool is None or self._working >= MOST_WRITING:
            raise SpoolUnavailable
        self._working += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        future.add_done_callback(self._worked)
        done, _ = await asyncio.wait({future}, timeout=DISK_SECONDS)
        if not done:
            raise SpoolUnavailable("neither the database nor the disk of the spool answers; send it again")
        try:
            return future.result()
        except OSError as error:
            raise SpoolUnavailable from error

    def _worked(self, future: asyncio.Future[Any]) -> None:
        self._working -= 1
        if not future.cancelled():
            future.exception()  # whoever waited may be gone

    # --- what is done in a thread

    def _read_many(self, names: Sequence[str], limit: int) -> tuple[list[Spooled], list[str]]:
        found: list[Spooled] = []
        foreign: list[str] = []
        for name in names:
            if len(found) == limit:
                break
            try:
                spooled = self._seal.opened(name, files.read(self._folder / name))
            except ValueError:
                if files.set_aside(self._folder, name):
                    foreign.append(name)
            except OSError:
                continue  # gone by now, or not to be read: the next time, perhaps
            else:
                found += [spooled] if spooled is not None else []
        return found, foreign

    def _prepare(self) -> None:
        try:
            self._made()
            mode = self._folder.stat().st_mode
            if mode & _OTHERS_WRITE:
                raise SettingsError(
                    f"SPOOL_DIR: others may write into {self._folder}: chmod 700, or name one to be made in it."
                )
            if not os.access(self._folder, os.R_OK | os.W_OK | os.X_OK):
                raise SettingsError(
                    f"SPOOL_DIR: {self._folder} cannot be written: give it to the user that runs tulbur."
                )
        except (FileNotFoundError, NotADirectoryError, PermissionError) as wrong:
            raise SettingsError(
                f"SPOOL_DIR: {self._folder} cannot be made or used ({wrong.strerror}): correct the path or its owner."
            ) from wrong
        except OSError:
            return  # a disk in trouble: each callback will tell
        with contextlib.suppress(OSError):
            self._take_back()

    def _made(self) -> None:
        with contextlib.suppress(FileExistsError):
            self._folder.mkdir(mode=0o700)
            files.fsync_folder(self._folder.parent)
        if not self._folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "not a directory")

    def _take_back(self) -> None:
        """What was set aside for want of a key that is there again waits again."""
        for aside in sorted(self._folder.glob("*.hint.bad")):
            name = aside.name.removesuffix(".bad")
            with contextlib.suppress(OSError, ValueError):
                if NAME.fullmatch(name) and not os.path.lexists(self._folder / name):
                    self._seal.opened(name, files.read(aside))
                    aside.rename(self._folder / name)
