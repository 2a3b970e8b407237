"""What the doctor says of the spool, one thing wrong at a time; nothing is made that was not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulbur.commands.doctor import examine
from tulbur.commands.doctor.finding import Finding
from tulbur.commands.doctor.spooled import examine_spool
from tulbur.settings import IsolatedSettings
from tulbur.spool import FileSpool

pytestmark = pytest.mark.anyio

KEYS = ("a-key-only-for-tests-0123456789abcdef",)
AT = 1_790_000_000_000_000


def examined(folder: Path | None, seconds: int = 0) -> Finding:
    settings = IsolatedSettings(spool_dir=str(folder) if folder else None)
    return examine_spool(settings, AT + seconds * 1_000_000)


async def kept(folder: Path, number: int = 1) -> None:
    spool = FileSpool(folder, KEYS)
    await spool.start()
    for at in range(number):
        await spool.keep("s1", f"p{at}", AT + at)
    await spool.stop()


async def test_off_and_not_there_yet_are_no_problems(tmp_path: Path) -> None:
    assert examined(None).ok
    assert "503" in examined(None).detail
    found = examined(tmp_path / "spool")
    assert (found.ok, "not there yet" in found.detail) == (True, True)
    assert list(tmp_path.iterdir()) == []


async def test_what_waits_is_counted_and_too_long_is_a_problem(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    await kept(folder, 0)
    assert examined(folder) == Finding("spool", ok=True, detail=f"{folder}: 0 waiting")
    await kept(folder, 2)
    found = examined(folder, 9)
    assert (found.ok, "2 waiting, the oldest for 9 s" in found.detail) == (True, True)
    late = examined(folder, 3600)
    assert (late.ok, "the oldest for 3600 s" in late.detail) == (False, True)
    assert late.remedy
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("wrong", ["no/such", "file", "file/below"])
async def test_a_directory_that_cannot_be_written(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "file").touch()
    found = examined(tmp_path / wrong)
    assert (found.ok, "cannot be written" in found.detail) == (False, True)
    assert "SPOOL_DIR" in found.remedy


async def test_one_that_others_may_read(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    await kept(folder)
    folder.chmod(0o755)
    found = examined(folder)
    assert (found.ok, found.remedy) == (False, f"chmod 700 {folder}")


async def test_what_was_set_aside(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    await kept(folder)
    (folder / "0.hint.bad").touch()
    found = examined(folder)
    assert (found.ok, "1 set aside" in found.detail) == (False, True)


async def test_it_is_one_line_of_the_doctor(tmp_path: Path) -> None:
    settings = IsolatedSettings(database_url=f"sqlite:///{tmp_path / 'no.db'}", spool_dir=str(tmp_path / "file"))
    (tmp_path / "file").touch()
    (found,) = [finding async for finding in examine(settings) if finding.check == "spool"]
    assert not found.ok
