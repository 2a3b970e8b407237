"""The processes of a benchmark: ours, started here, and what each has used of the processor and of memory (Linux)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

from proving.chaos.places import family
from proving.figures.services import Service
from testbed.engine import free_port

TICKS: Final = os.sysconf("SC_CLK_TCK")


@contextlib.asynccontextmanager
async def running(
    module: str, folder: Path, env: Mapping[str, str], ready: str, *further: str
) -> AsyncIterator[Service]:
    """`python -m MODULE PORT …` until the block ends; it is ready when it answers a GET of that path with a 200."""
    port = free_port()
    log = folder / f"{module}-{port}.log"
    kept = {name: value for name in ("PATH", "PYTHONPATH", "LANG") if (value := os.environ.get(name))}
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, str(port), *further, env={**kept, **env}, stdout=out, stderr=out
        )
    service = Service(port, log, process)
    try:
        await service.ready(ready)
        yield service
    finally:
        await service.stop()


def cpu_seconds(pid: int) -> float:
    """What a process, all that it has started, and those of them that have ended have used so far."""
    ticks = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    return ticks / TICKS


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had, its own and what it shares."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
