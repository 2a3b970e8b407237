"""Where the servers' programs are: in packages beside this Python, in `.testbed/`, or nowhere, and then why."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

CACHE: Final = Path(__file__).parent.parent / ".testbed"

NOBODY: Final = 65534
"""The plain user that servers run as where we are root."""


class Missing(Exception):
    """A server cannot be had here; the message says why."""


def named(variable: str) -> Path | None:
    """The program an environment variable names.

    Raises:
        Missing: it names nothing that can be run.
    """
    value = os.environ.get(variable)
    if not value:
        return None
    found = shutil.which(value)
    if found is None:
        raise Missing(f"{variable}={value} cannot be run")
    return Path(found)


def packaged(package: str, *places: str) -> Path:
    """A file in an installed package.

    Raises:
        Missing: the package, or the file in it for this kind of machine, is not there.
    """
    try:
        spec = find_spec(package)
    except ModuleNotFoundError:
        spec = None
    for folder in spec.submodule_search_locations or () if spec else ():
        for place in places:
            for path in sorted(Path(folder).glob(place)):
                return path
    raise Missing(f"the package {package} has no server for {sys.platform} on {platform.machine()}")


def as_plain_user(argv: list[str]) -> list[str]:
    """The command as a user who is not root: some servers refuse to be root, the others need not be."""
    if os.geteuid() != 0:
        return argv
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise Missing("this is root, and setpriv (util-linux) is not here to become somebody else")
    return [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *argv]


def give_away(folder: Path) -> None:
    """Let the servers' user own a folder."""
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)


def readable(folder: Path, place: Path) -> Path:
    """The folder, or a copy in `place` when the servers' user cannot get at it, as under /root."""
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents)):
        return folder
    copy = place / folder.name
    shutil.copytree(folder, copy, symlinks=True)
    return copy
