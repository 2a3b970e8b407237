"""What is done to the files of a spool: nothing counts before it is fsynced; nothing that lies there holds us up."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tulbur.core.session import Micros

LARGEST: Final = 4096
"""Bytes of one file."""

LEFTOVER_SECONDS: Final = 600.0
"""After this a temporary file is what a killed process left. Were it not, its rename would fail: no false SUCCESS."""

NAME: Final = re.compile(r"\d{16}-[0-9a-f]{16}\.hint")


@dataclass(frozen=True, slots=True)
class SpoolState:
    """What lies in a spool's directory; `oldest_at` None when nothing waits."""

    waiting: int
    set_aside: int
    oldest_at: Micros | None
    private: bool


def look(folder: Path) -> SpoolState:
    """Raises OSError when the directory cannot be read."""
    names = [entry.name for entry in _entries(folder)]
    waiting = sorted(name for name in names if NAME.fullmatch(name))
    return SpoolState(
        waiting=len(waiting),
        set_aside=sum(name.endswith(".bad") for name in names),
        oldest_at=int(waiting[0][:16]) if waiting else None,
        private=not folder.stat().st_mode & 0o077,
    )


def probe(folder: Path) -> None:
    """Write, fsync and remove a file. Raises OSError when that cannot be done."""
    path = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        _write_file(path, b"x")
    finally:
        remove(path)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from entries


def names(folder: Path) -> list[str]:
    """The files that wait, oldest first; old temporaries are taken away in passing."""
    names = []
    for entry in _entries(folder):
        if entry.name.endswith(".hint"):
            names.append(entry.name)
        elif entry.name.startswith(".") and entry.name.endswith(".tmp"):
            with contextlib.suppress(OSError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > LEFTOVER_SECONDS:
                    Path(entry.path).unlink(missing_ok=True)
    return sorted(names)


def write(folder: Path, name: str, content: bytes) -> None:
    temporary, final = folder / f".{name}.tmp", folder / name
    try:
        _write_file(temporary, content)
        temporary.rename(final)
        fsync_folder(folder)
    except OSError:
        # After a failed fsync nobody knows what is on the disk: neither name may count.
        for path in (temporary, final):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        raise


def _write_file(path: Path, content: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)
    finally:
        os.close(file)


def fsync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def read(path: Path) -> bytes:
    """At most one byte more than a file of ours has.

    Raises:
        ValueError: it is no plain file.
    """
    try:
        # Nothing that lies there may hold us up: no pipe, no link that leads elsewhere.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise ValueError("no plain file") from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise ValueError("no plain file")
        return os.read(file, LARGEST + 1)
    finally:
        os.close(file)


def set_aside(folder: Path, name: str) -> bool:
    target = folder / f"{name}.bad"
    if os.path.lexists(target):
        target = folder / f"{name}.{secrets.token_hex(4)}.bad"
    try:
        (folder / name).rename(target)
    except OSError:
        return False
    return True


def remove(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
