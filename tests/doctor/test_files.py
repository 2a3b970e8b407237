"""Where a SQLite file lies, and what becomes of it: on real file systems where there are such."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.doctor.world import lines, of, said

from tulbur.commands.doctor.files import file_system, where_it_lies
from tulbur.stores import migrate

pytestmark = pytest.mark.anyio

MOUNTS = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:20 / /var/lib/my\040shop rw - nfs4 nas:/shop rw
24 22 0:21 / /dev/shm rw - tmpfs tmpfs rw
25 22 0:22 / /srv rw - cifs //nas/srv rw
26 22 254:1 / /srv/local rw - xfs /dev/vdb rw
a line that is none
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/shop/tulbur.db", "ext4"),
        ("/var/lib/my shop/tulbur.db", "nfs4"),
        ("/dev/shm/tulbur.db", "tmpfs"),  # noqa: S108 - a name
        ("/dev/shmother/tulbur.db", "ext4"),  # noqa: S108 - a name
        ("/srv/tulbur.db", "cifs"),
        ("/srv/local/tulbur.db", "xfs"),
    ],
)
def test_the_longest_mount_point_holds_a_file(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind
    assert file_system(Path(path), "") == ""


def lies(tmp_path: Path, kind: str, *, earnest: bool = True) -> tuple[bool, str]:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 254:0 / / rw - {kind} /dev/vda rw\n")
    found = where_it_lies(Path("/var/lib/tulbur/tulbur.db"), earnest=earnest, mounts=mounts)
    assert bool(found.remedy) != (found.detail == "a commit is on its disk before it is answered")
    return found.ok, found.detail


def test_what_is_gone_after_a_restart_is_a_problem_only_with_a_real_qpay(tmp_path: Path) -> None:
    assert lies(tmp_path, "ext4") == (True, "a commit is on its disk before it is answered")
    ok, detail = lies(tmp_path, "overlay")
    assert (ok, "in a container's own layer (overlay): sessions do not persist" in detail) == (False, True)
    assert lies(tmp_path, "overlay", earnest=False)[0]
    ok, detail = lies(tmp_path, "nfs4", earnest=False)
    assert (ok, "network file system (nfs4)" in detail) == (False, True)
    ok, detail = lies(tmp_path, "fuse.sshfs")
    assert not ok


def test_a_folder_that_is_emptied(tmp_path: Path) -> None:
    found = where_it_lies(Path("/tmp/tulbur.db"), earnest=True, mounts=tmp_path / "none")  # noqa: S108 - a name
    assert (found.ok, "lies under /tmp, which systems empty" in found.detail) == (False, True)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no memory disk here")  # noqa: S108 - a name
async def test_a_real_memory_disk() -> None:
    with TemporaryDirectory(dir="/dev/shm") as folder:
        found = await of("durability", database_url=f"sqlite:///{folder}/tulbur.db")
    assert "in memory (tmpfs): sessions do not persist" in found.detail


async def test_no_database_url_names_the_file_that_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = await said()
    told = [one for one in lines(found, "settings") if "DATABASE_URL" in one.detail]
    assert [(one.ok, "tulbur.db of the working directory" in one.detail) for one in told] == [(True, True)]
    assert f"{tmp_path}/tulbur.db is not there yet" in lines(found, "database")[0].detail
    assert not list(tmp_path.iterdir())


async def test_a_proof_leaves_nothing_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tulbur.db"
    migrate.up(path)
    found = await of("database", database_url=f"sqlite:///{path}")
    assert found.detail == f"{path}: what was written was read back over a new connection"
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM tulbur_leases").fetchone() == (0,)


async def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, and longer than a header of one hundred bytes would have to be" * 3)
    found = await of("database", database_url=f"sqlite:///{path}")
    assert (found.ok, "not a SQLite database" in found.detail) == (False, True)
    assert "belongs to something else" in found.remedy


async def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "tulbur.db"
    migrate.up(path)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(path.stat().st_size - 100))
    for left in tmp_path.glob("tulbur.db-*"):
        left.unlink()
    found = await of("database", database_url=f"sqlite:///{path}")
    assert (found.ok, "damaged" in found.detail, "last backup" in found.remedy) == (False, True, True)
