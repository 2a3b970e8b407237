"""Ablation: each safeguard is removed, one at a time, and the tests named for it must fail.

A safeguard that can go unnoticed is one that the next change will remove. The source is copied, one text in it is
replaced, and a few tests are run there; where they still pass, or the text is not found exactly once, the run fails.

    python -m proving.ablation [--page docs/safeguards.md] [--only NAME] [--jobs 2]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proving.safeguards import SAFEGUARDS, Safeguard

ROOT: Final = Path(__file__).parent.parent
SECONDS: Final = 300.0
"""Longest time for the tests of one safeguard; a hang is no failure of a test."""

_COPIED: Final = ("src", "tests", "testbed", "proving", "docs", "scripts", "requirements")
_FILES: Final = ("pyproject.toml", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "Makefile")
_FAILED: Final = 1
"""What pytest exits with when tests ran and some failed; anything else proves nothing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one safeguard's removal."""

    safeguard: Safeguard
    noticed: bool
    why: str
    seconds: float


async def removed(safeguard: Safeguard, at_once: asyncio.Semaphore) -> Verdict:
    """Remove it from a copy of the source and run its tests there."""
    async with at_once:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="tulbur-ablation-") as folder:
            copy = Path(folder)
            await asyncio.to_thread(_copy, copy)
            problem = _cut(copy, safeguard)
            noticed, why = (False, problem) if problem else await _tested(copy, safeguard)
        verdict = Verdict(safeguard, noticed, why, time.monotonic() - started)
        print(f"{'noticed' if noticed else 'NOT NOTICED':12}{safeguard.name} ({why})", flush=True)
        return verdict


def _copy(copy: Path) -> None:
    for name in _COPIED:
        ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in _FILES:
        shutil.copy(ROOT / name, copy / name)


def _cut(copy: Path, safeguard: Safeguard) -> str:
    """Replace the text; why that cannot be done, or ""."""
    path = copy / "src" / "tulbur" / safeguard.path
    source = path.read_text(encoding="utf-8")
    count = source.count(safeguard.text)
    if count != 1:
        return f"its text is there {count} times: the table is out of date"
    path.write_text(source.replace(safeguard.text, safeguard.instead), encoding="utf-8")
    return ""


async def _tested(copy: Path, safeguard: Safeguard) -> tuple[bool, str]:
    env = {**os.environ, "PYTHONPATH": f"{copy / 'src'}{os.pathsep}{copy}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", "--no-header", *safeguard.tests]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=copy, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return False, "its tests did not end"
    if process.returncode == 0:
        return False, "every test passed"
    failed = [line for line in output.decode(errors="replace").splitlines() if line.startswith("FAILED ")]
    if process.returncode != _FAILED or not failed:
        return False, f"no test failed, pytest ended with {process.returncode}"
    return True, failed[0].removeprefix("FAILED ").partition(" - ")[0].rpartition("::")[2]


async def remove_all(chosen: Sequence[Safeguard], jobs: int) -> list[Verdict]:
    at_once = asyncio.Semaphore(jobs)
    return list(await asyncio.gather(*(removed(safeguard, at_once) for safeguard in chosen)))


def page(verdicts: Sequence[Verdict]) -> str:
    """The table as a document."""
    lines = [
        "# Safeguards",
        "",
        "Each of these is removed from the source, one at a time, by `make ablation`; the tests named for it must then",
        "fail. This page is written by that run.",
        "",
        "| safeguard | it holds | without it fails |",
        "|---|---|---|",
    ]
    lines += [f"| {v.safeguard.name} | {v.safeguard.holds} | `{v.why}` |" for v in verdicts]
    noticed = sum(v.noticed for v in verdicts)
    return "\n".join([*lines, "", f"{noticed} of {len(verdicts)} removals were noticed.", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    chosen = [s for s in SAFEGUARDS if not given.only or any(name in s.name for name in given.only)]
    verdicts = asyncio.run(remove_all(chosen, given.jobs))
    unnoticed = [v for v in verdicts if not v.noticed]
    print(f"{len(verdicts) - len(unnoticed)} of {len(verdicts)} removals were noticed")
    if given.page and not unnoticed:
        given.page.write_text(page(verdicts), encoding="utf-8")
    return 1 if unnoticed or not verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
