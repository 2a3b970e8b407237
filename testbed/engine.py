"""What the four servers have in common: how each is started, and given an empty database."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

T = TypeVar("T")

PASSWORD: Final = "pass-of-the-testbed"  # noqa: S105 - of a server that lives for one test run

# Below the range from which systems take the ports of outgoing connections: a port stays free between two starts.
PORTS: Final = (20_000, 32_000)


class Engine:
    """One kind of server; everything it does is on loopback and in its own folder."""

    name: ClassVar[str]
    stop_signal: ClassVar[int]
    variable: ClassVar[str]
    """The environment variable that names a server to use instead of one of ours."""

    def find(self) -> Path:
        """Where its program is.

        Raises:
            Missing: nowhere.
        """
        raise NotImplementedError

    def prepare(self, program: Path, folder: Path) -> None:
        """Make an empty data directory."""

    def argv(self, program: Path, folder: Path, port: int) -> list[str]:
        raise NotImplementedError

    def env(self, program: Path) -> dict[str, str]:
        del program
        # A library path that is meant for another server breaks this one.
        return {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}

    def admin_url(self, port: int) -> str:
        """Where the server's own administrator connects."""
        raise NotImplementedError

    def answers(self, admin_url: str) -> bool:
        """Whether it can be used; called until it is."""
        raise NotImplementedError

    def make_database(self, admin_url: str, name: str) -> str:
        """The URL of a new, empty database."""
        raise NotImplementedError

    def drop_database(self, admin_url: str, url: str) -> None:
        """Remove a database; that it is gone already is fine."""


def in_a_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run asynchronous work from anywhere, an event loop's own thread too, and wait for it."""
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(asyncio.run(work()))
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            failed.append(error)

    thread = threading.Thread(target=run, name="testbed")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def free_port() -> int:
    """A port that nobody listens on, chosen by chance so that two test runs rarely meet."""
    chance = random.SystemRandom()
    for _ in range(100):
        port = chance.randrange(*PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port in {PORTS}")
