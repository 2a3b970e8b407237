"""Where a SQLite file lies: on a disk that stays, or somewhere from which it is gone after a restart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tulbur.commands.doctor.finding import Finding, fine, problem, remark

MOUNTS: Final = Path("/proc/self/mountinfo")
"""Linux's list of what is mounted; elsewhere only the folders that are emptied are known."""

_EMPTIED: Final = (Path("/tmp"), Path("/var/tmp"), Path("/run"))  # noqa: S108 - compared, not written
_LOST: Final[Mapping[str, str]] = {
    "tmpfs": "in memory",
    "ramfs": "in memory",
    "overlay": "in a container's own layer",
    "aufs": "in a container's own layer",
}
_NETWORK: Final = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|ceph|lustre|glusterfs|afs|beegfs|fuse\.(?:sshfs|glusterfs|s3fs|rclone)"
)
_STAYS: Final = (
    "set DATABASE_URL to a file on a disk that stays (sqlite:////var/lib/tulbur/tulbur.db; in a container a volume), "
    "or to a server"
)


def where_it_lies(path: Path, *, earnest: bool, mounts: Path = MOUNTS) -> Finding:
    """What becomes of the file at a restart; a problem where QPay is a real one (`earnest`)."""
    path = path.resolve()
    kind = file_system(path, _read(mounts))
    if _NETWORK.fullmatch(kind):
        detail = f"{path} lies on a network file system ({kind}), where SQLite's locks and commits cannot be relied on"
        return problem("durability", detail, _STAYS)
    gone = remark if not earnest else problem
    if kind in _LOST:
        detail = f"{path} lies {_LOST[kind]} ({kind}): sessions do not persist, a restart loses them all"
        return gone("durability", detail, _STAYS)
    for folder in _EMPTIED:
        if path.is_relative_to(folder):
            return gone("durability", f"{path} lies under {folder}, which systems empty at a restart", _STAYS)
    return fine("durability", "a commit is on its disk before it is answered")


def file_system(path: Path, mounts: str) -> str:
    """The kind of file system that holds a path, by the lines of `mountinfo`; "" where that is not known."""
    longest, kind = -1, ""
    for line in mounts.splitlines():
        fields, _, after = line.partition(" - ")
        if not after:
            continue
        point = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields.split()[4]))
        # What was mounted later lies on top.
        if path.is_relative_to(point) and len(point.parts) >= longest:
            longest, kind = len(point.parts), after.split()[0]
    return kind


def _read(mounts: Path) -> str:
    try:
        return mounts.read_text(errors="replace")
    except OSError:
        return ""
