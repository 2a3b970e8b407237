"""tulbur's processes: kept by a keeper that ends them with us, killed and started again under one name."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import aiohttp

from proving.chaos.places import alive, frozen
from testbed.keeper import Keeper

START_SECONDS: Final = 120
"""How long a process may take until it is ready, on a machine with much else to do."""

POLL_SECONDS: Final = 0.05


class EndedByItself(Exception):
    """A process ended, and nobody had killed it."""


class Process:
    """One process of tulbur. `url` is where a `serve` listens, "" for the worker."""

    def __init__(
        self, keeper: Keeper, name: str, argv: Sequence[str], env: Mapping[str, str], folder: Path, url: str = ""
    ) -> None:
        self._keeper = keeper
        self._name = name
        self._argv = list(argv)
        self._env = dict(env)
        self.log = folder / f"{name}.log"
        self.url = url
        self.pids: list[int] = []

    async def start(self) -> None:
        """Start it; return when it is ready.

        Raises:
            EndedByItself: it ended instead.
            TimeoutError: it did neither.
        """
        said = self.log.stat().st_size if self.log.exists() else 0
        pid = await asyncio.to_thread(
            self._keeper.start, self._name, self._argv, env=self._env, log=self.log, stop_signal=signal.SIGTERM
        )
        self.pids.append(pid)
        async with asyncio.timeout(START_SECONDS):
            while not await self._ready(said):
                if not self.running:
                    raise EndedByItself(f"{self._name} did not start; the end of its log: {self._last_words()}")
                await asyncio.sleep(POLL_SECONDS)

    @property
    def running(self) -> bool:
        return alive(self.pids[-1])

    async def kill(self) -> None:
        await asyncio.to_thread(self._keeper.stop, self._name, signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, which it obeys in its own time."""
        await asyncio.to_thread(self._keeper.stop, self._name)

    def stopped(self) -> AbstractContextManager[None]:
        """Stopped within the block, and on after it."""
        return frozen(self.pids[-1])

    async def _ready(self, said: int) -> bool:
        if not self.url:
            return b'"working"' in self.log.read_bytes()[said:]
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as http,
                http.get(f"{self.url}/readyz") as answer,
            ):
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _last_words(self) -> str:
        return " / ".join(self.log.read_text(errors="replace").splitlines()[-5:])
