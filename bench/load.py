"""One run of wrk: the requests of a file, so many at once, and how many were answered as they should be."""

from __future__ import annotations

import asyncio
import re
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from testbed import debian

SCRIPT: Final = Path(__file__).with_name("load.lua")

GRACE_SECONDS: Final = 60
"""Until the last answers are there; every one of tulbur's is bounded below."""

_SAID: Final = re.compile(r"^(sent|answered|wrong|seconds|p50_ms|p99_ms) (.*)$", re.MULTILINE)
_FIRST_WRONG: Final = re.compile(r"^first_wrong (.*)$", re.MULTILINE)


class LoadFailed(Exception):
    """Requests stayed without an answer, or had a wrong one: the run measures nothing."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a run came to. `cpu_seconds` are wrk's own."""

    answered: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / max(self.seconds, 1e-6)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The status of every answer, and what its body has in it."""

    status: int
    text: str


async def run(
    port: int, requests: Sequence[bytes], wanted: Wanted, folder: Path, *, at_once: int, seconds: float, once: bool
) -> Load:
    """Send requests for so many seconds, each of them once or all of them in turn, and wait for every answer.

    Raises:
        LoadFailed: an answer was missing, or not the wanted one.
        Missing: there is no wrk here.
    """
    program, env = debian.wrk()
    file = folder / "requests"
    file.write_bytes(b"".join(b"%d\n%b" % (len(one), one) for one in requests))
    longest = int(seconds) + GRACE_SECONDS
    words = ["-t1", f"-c{at_once}", f"-d{longest}s", f"--timeout={GRACE_SECONDS}s", f"-s{SCRIPT}", "--latency"]
    arguments = [str(file), str(seconds), "once" if once else "over", str(wanted.status), wanted.text]
    before = _cpu_seconds()
    process = await asyncio.create_subprocess_exec(
        str(program),
        *words,
        f"http://127.0.0.1:{port}",
        "--",
        *arguments,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode(errors="replace")
    return _read(said, _cpu_seconds() - before)


def _read(said: str, cpu_seconds: float) -> Load:
    found = dict(_SAID.findall(said))
    if "sent" not in found:
        raise LoadFailed(f"wrk said: {said[-500:]}")
    sent, answered, wrong = (int(found[name]) for name in ("sent", "answered", "wrong"))
    if wrong:
        first = _FIRST_WRONG.search(said)
        raise LoadFailed(f"{wrong:,} of {answered:,} answers were wrong, the first: {first[1] if first else '?'}")
    if answered != sent or not answered:
        raise LoadFailed(f"{sent:,} requests had {answered:,} answers: {said[-500:]}")
    seconds, p50_ms, p99_ms = (float(found[name]) for name in ("seconds", "p50_ms", "p99_ms"))
    return Load(answered, seconds, p50_ms, p99_ms, cpu_seconds)


def _cpu_seconds() -> float:
    """Of the children of this process that have ended; no other ends while wrk runs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
