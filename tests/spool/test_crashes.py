"""Real kills, a real full disk, real I/O errors: what was answered is there, whole; what failed is not answered."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.spool.test_files import started

KEEP = """
import asyncio, sys
from pathlib import Path
from tulbur.spool import FileSpool
from tulbur.errors import SpoolUnavailable

async def main(folder, number, at_once):
    spool = FileSpool(Path(folder), ("a-key-only-for-tests-0123456789abcdef",))
    await spool.start()
    print("started", flush=True)
    async def one(n):
        try:
            await spool.keep("s", f"p{n}", 1_790_000_000_000_000 + n)
        except SpoolUnavailable:
            print("refused", n, flush=True)
        else:
            print("kept", n, flush=True)
    for first in range(0, number, at_once):
        await asyncio.gather(*(one(n) for n in range(first, first + at_once)))

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


def keeping(folder: Path, number: int, at_once: int = 1) -> list[str]:
    return [sys.executable, "-c", KEEP, str(folder), str(number), str(at_once)]


def said(output: str, word: str) -> list[str]:
    """Which numbers it said; a kill may cut the last line short."""
    whole = output[: output.rfind("\n") + 1]
    return [f"p{line.split()[1]}" for line in whole.splitlines() if line.startswith(f"{word} ")]


async def waiting(folder: Path) -> list[str]:
    async with started(folder) as spool:
        found = [one.payment_id for one in await spool.waiting(10_000)]
    assert not list(folder.glob("*.bad")), "no half file has a name"
    return found


@pytest.mark.anyio
async def test_what_was_answered_outlives_any_kill(folder: Path) -> None:
    chance, killed = random.Random(7), 0
    for _ in range(8):
        process = await asyncio.create_subprocess_exec(*keeping(folder, 5_000, 8), stdout=asyncio.subprocess.PIPE)
        assert process.stdout
        output = await process.stdout.readline()
        for _ in range(chance.randrange(40)):
            output += await process.stdout.readline()
        process.kill()
        output += await process.stdout.read()
        killed += await process.wait() == -signal.SIGKILL
        assert set(said(output.decode(), "kept")) <= set(await waiting(folder))
        shutil.rmtree(folder)
    assert killed == 8


# --- every system call -----------------------------------------------------------------------------------------------

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def traced(folder: Path, fault: str) -> subprocess.CompletedProcess[str]:
    """Keep one callback in an empty directory while a fault strikes at a system call."""
    folder.mkdir(mode=0o700)
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={fault}", *keeping(folder, 1)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@needs_strace
@pytest.mark.anyio
async def test_a_kill_at_any_system_call_leaves_all_or_nothing(folder: Path) -> None:
    struck = 0
    for call in ("fsync", "rename"):
        for at in (1, 2, 3):
            done = traced(folder, f"{call}:signal=KILL:when={at}")
            names = await waiting(folder)
            assert set(said(done.stdout, "kept")) <= set(names), (call, at)
            assert (call, at) not in (("fsync", 1), ("rename", 1)) or not names, (
                "no name before its bytes are on the disk"
            )
            struck += done.returncode != 0
            shutil.rmtree(folder)
    assert struck == 3, "the file's fsync, the rename, the directory's fsync"


@needs_strace
@pytest.mark.anyio
@pytest.mark.parametrize("fault", ["EIO", "ENOSPC"])
async def test_a_failed_fsync_or_rename_is_never_success(folder: Path, fault: str) -> None:
    refused = 0
    for call in ("fsync", "rename"):
        for at in (1, 2):
            done = traced(folder, f"{call}:error={fault}:when={at}")
            assert done.returncode == 0, done.stderr
            assert await waiting(folder) == said(done.stdout, "kept"), "what was refused does not count"
            assert list(folder.glob(".*")) == []
            refused += len(said(done.stdout, "refused"))
            shutil.rmtree(folder)
    assert refused == 3, "the file's fsync, the directory's fsync, the rename"


# --- a full disk -----------------------------------------------------------------------------------------------------


def small_disk(folder: Path) -> list[str]:
    """A command's prefix that runs it with a disk of a few pages on `folder`, as root or in a namespace of its own."""
    mounted = f'mount -t tmpfs -o size=64k,mode=700 tmpfs "{folder}" && exec "$@"'
    return ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c", mounted, "sh"]


def _can_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*small_disk(folder), "true"], capture_output=True, check=False).returncode == 0


def test_on_a_full_disk_the_answer_is_no_success(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    if not _can_mount(folder):
        pytest.skip("no small disk can be mounted here")
    script = 'for n in $(seq 2); do "$@"; done; ls -A "$0"'
    command = [*small_disk(folder), "sh", "-c", script, str(folder), *keeping(folder, 40)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    names = [line for line in done.stdout.splitlines() if ".hint" in line]
    assert said(done.stdout, "refused"), "the disk was never full"
    assert len(names) == len(said(done.stdout, "kept"))
    assert all(name.endswith(".hint") and not name.startswith(".") for name in names), "nothing half is left"
