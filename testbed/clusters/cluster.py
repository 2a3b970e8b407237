"""What the four clusters have in common: several servers of this testbed, of which some may be killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import ClassVar, Final, TypeVar

from testbed.binaries import Missing
from testbed.engine import Engine, free_port
from testbed.servers import Server, Testbed

T = TypeVar("T")

JOIN_SECONDS: Final = 60
"""How long servers that run may take until they are one cluster."""

POLL_SECONDS: Final = 0.05


class Cluster:
    """Several servers; the ends of all of them are the testbed's, whatever happens."""

    name: ClassVar[str]

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed
        self._databases = count(1)
        self.nodes: list[Server] = []

    def start(self) -> None:
        """Start the servers and join them.

        Raises:
            Missing: it cannot be had here, or did not come up in time.
        """
        raise NotImplementedError

    def url(self) -> str:
        """A new, empty database on it, by an address that names every server."""
        raise NotImplementedError

    def close(self) -> None:
        for node in self.nodes:
            if node.pid:
                node.kill()

    def _node(self, engine: Engine) -> Server:
        """A server that is not started, whose port is known already: the others have to be told."""
        node = self._testbed.server(engine)
        node.port = free_port()
        self.nodes.append(node)
        return node

    def _next_name(self) -> str:
        return f"c_{next(self._databases)}"


def at_once(nodes: Iterable[Server]) -> None:
    """Start several servers at once."""
    waiting = list(nodes)
    with ThreadPoolExecutor(len(waiting)) as pool:
        for _ in pool.map(Server.start, waiting):
            pass


def until(found: Callable[[], T | None], what: str, seconds: float = JOIN_SECONDS) -> T:
    """What `found` gives as soon as that is something.

    Raises:
        Missing: it gave nothing all the time.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = found()
        if result:
            return result
        time.sleep(POLL_SECONDS)
    raise Missing(f"after {seconds:.0f} s {what}")
