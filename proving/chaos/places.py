"""The databases and caches a run is made with: how each is started, killed, stopped for a while, and where it is."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Final

from redis import Redis

from proving.chaos.faults import Fault
from testbed.clusters.cluster import Cluster, until
from testbed.clusters.galera import Galera
from testbed.clusters.replica_set import ReplicaSet
from testbed.clusters.standbys import Standbys
from testbed.clusters.valkey_cluster import ValkeyCluster
from testbed.proxy import Proxy
from testbed.servers import Server, Testbed

TRANSACTION_SECONDS: Final = 10
"""How long MongoDB keeps what a dead process left open; its own minute would only make the calm longer."""

COMMITTED: Final = b"COMMIT\0"
"""How PostgreSQL ends its answer to COMMIT; the request is a prepared statement, which only its number names."""


class Place:
    """A database, or a cache. Every method may wait for a server, and is called in a thread."""

    ways: ClassVar[bool] = False
    """Whether it is reached through a proxy."""
    faults: ClassVar[tuple[Fault, ...]]
    once: ClassVar[tuple[Fault, ...]] = ()
    """Those of them that can happen once in a run."""
    writes: ClassVar[tuple[bytes, ...]] = ()
    """What the requests have in them that are writes, as they pass the proxy."""

    def start(self) -> str:
        """Start it; the URL of an empty database on it."""
        raise NotImplementedError

    def through(self, proxied: str) -> str:
        """The URL that stays on its way through a proxy."""
        return proxied

    def lose_answer(self, proxy: Proxy) -> None:
        """Let the answer to the next write be lost."""
        proxy.lose_answer_to(*self.writes)

    def kill(self) -> str:
        """Kill a server and bring back what there was; where connections must go now, "" when to where they did."""
        raise NotImplementedError

    def stopped(self) -> AbstractContextManager[None]:
        """Stopped within the block, and on after it."""
        raise NotImplementedError

    def flush(self) -> None:
        """Empty a cache."""
        raise NotImplementedError

    def close(self) -> None:
        """End its servers."""


class Alone(Place):
    """One server."""

    ways = True

    def __init__(self, testbed: Testbed, name: str) -> None:
        self._testbed = testbed
        self._name = name
        self.server: Server

    def start(self) -> str:
        self.server = self._testbed.own(self._name)
        self._set_up()
        return self.server.url()

    def kill(self) -> str:
        self.server.kill()
        self.server.start()
        self._set_up()
        return ""

    def stopped(self) -> AbstractContextManager[None]:
        return frozen(self.server.pid)

    def close(self) -> None:
        self.server.kill()

    def _set_up(self) -> None:
        """What a start forgets."""


class Database(Alone):
    writes = (b"COMMIT", b"commitTransaction")
    faults = (
        Fault.DATABASE_KILLED,
        Fault.DATABASE_STOPPED,
        Fault.DATABASE_REFUSES,
        Fault.DATABASE_RESETS,
        Fault.DATABASE_LOSES,
        Fault.DATABASE_SLOW,
        Fault.DATABASE_SILENT,
    )

    def through(self, proxied: str) -> str:
        return _directly(proxied) if self._name == "mongodb" else proxied

    def lose_answer(self, proxy: Proxy) -> None:
        if self._name == "postgres":
            proxy.lose_answer_with(COMMITTED)
        else:
            super().lose_answer(proxy)

    def _set_up(self) -> None:
        if self._name == "mongodb":
            _shorten(self.server)


class Given(Place):
    """An empty database on a server of somebody's: it is met on the way there, and never killed or stopped."""

    ways = True
    writes = Database.writes
    faults = tuple(one for one in Database.faults if one not in (Fault.DATABASE_KILLED, Fault.DATABASE_STOPPED))

    def __init__(self, url: str) -> None:
        self._url = url

    def start(self) -> str:
        return self._url

    def through(self, proxied: str) -> str:
        return _directly(proxied) if proxied.startswith("mongodb") else proxied

    def lose_answer(self, proxy: Proxy) -> None:
        if self._url.startswith("postgres"):
            proxy.lose_answer_with(COMMITTED)
        else:
            super().lose_answer(proxy)


class Cache(Alone):
    writes = (b"EVALSHA", b"EVAL")
    faults = (
        Fault.CACHE_KILLED,
        Fault.CACHE_STOPPED,
        Fault.CACHE_REFUSES,
        Fault.CACHE_RESETS,
        Fault.CACHE_LOSES,
        Fault.CACHE_SLOW,
        Fault.CACHE_SILENT,
        Fault.CACHE_FLUSHED,
    )

    def __init__(self, testbed: Testbed) -> None:
        super().__init__(testbed, "valkey")

    def flush(self) -> None:
        with closing(Redis(port=self.server.port)) as client:
            client.flushall()


class File(Place):
    """SQLite's file."""

    faults = (Fault.FILE_LOCKED, Fault.FILE_AWAY)

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shop.db"

    def start(self) -> str:
        return f"sqlite:///{self.path}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else can write within the block."""
        with closing(sqlite3.connect(self.path, timeout=30, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.rollback()

    @contextmanager
    def away(self) -> Iterator[None]:
        """There is no file under its name within the block."""
        elsewhere = self.path.with_suffix(".away")
        self.path.rename(elsewhere)
        try:
            yield
        finally:
            elsewhere.rename(self.path)


class Several(Place):
    """A cluster, of which one server is killed and comes back."""

    faults = (Fault.FAILOVER,)
    kind: ClassVar[type[Cluster]]

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed
        self.cluster: Cluster

    def start(self) -> str:
        self.cluster = self.kind(self._testbed)
        self.cluster.start()
        return self.cluster.url()

    def close(self) -> None:
        self.cluster.close()


class Members(Several):
    kind = ReplicaSet
    cluster: ReplicaSet

    def kill(self) -> str:
        killed = self.cluster.primary()
        killed.kill()
        assert self.cluster.primary() is not killed
        killed.start()
        until(self.cluster.whole, "the member that was killed had not caught up")
        return ""


class Quorum(Several):
    """What a killed primary had cannot be taken back without being rewound: the other two go on."""

    once = (Fault.FAILOVER,)
    kind = Standbys
    cluster: Standbys

    def kill(self) -> str:
        self.cluster.primary.kill()
        self.cluster.promote()
        return ""


class Nodes(Several):
    """Everybody writes to one node, by the proxy in front, until that one is killed."""

    ways = True
    writes = (b"COMMIT",)
    kind = Galera
    cluster: Galera
    _at = 0

    def kill(self) -> str:
        nodes = self.cluster.nodes
        killed, self._at = nodes[self._at], (self._at + 1) % len(nodes)
        killed.kill()
        return nodes[self._at].admin_url

    def mend(self) -> None:
        """Bring back who was killed last."""
        self.cluster.rejoin(self.cluster.nodes[self._at - 1])


class Masters(Several):
    faults = (Fault.CACHE_FAILOVER,)
    kind = ValkeyCluster
    cluster: ValkeyCluster

    def kill(self) -> str:
        masters = self.cluster.masters()
        masters[0].kill()
        until(lambda: len(self.cluster.masters()) == len(masters), "no replica had taken over")
        masters[0].start()
        return ""


CLUSTERS: Final = ("mongodb-replicaset", "postgres-sync", "galera")
KINDS: Final = ("sqlite", "postgres", "mariadb", "mongodb")


def database(kind: str, testbed: Testbed, folder: Path, url: str) -> Place:
    """Of this kind; an empty one of somebody's at `url`, or one of ours."""
    if url:
        return Given(url)
    if kind == "sqlite":
        return File(folder)
    several = {"mongodb-replicaset": Members, "postgres-sync": Quorum, "galera": Nodes}
    return several[kind](testbed) if kind in several else Database(testbed, kind)


def faults(kind: str, url: str) -> tuple[Fault, ...]:
    """What can happen to a database of this kind and to the cache beside it."""
    if url:
        return (*Given.faults, *Cache.faults)
    if kind in CLUSTERS:
        return (*Several.faults, *Masters.faults)
    return (*(File if kind == "sqlite" else Database).faults, *Cache.faults)


def cache(kind: str, testbed: Testbed) -> Place:
    return Masters(testbed) if kind in CLUSTERS else Cache(testbed)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A process and all that it has started, stopped within the block."""
    pids = family(pid)
    _send(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        _send(pids, signal.SIGCONT)


def alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    for one in found:
        with suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def _send(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _directly(url: str) -> str:
    """Else the driver asks MongoDB where its servers are, and goes there past the proxy."""
    return f"{url.partition('?')[0]}?directConnection=true"


def _shorten(server: Server) -> None:
    from pymongo import MongoClient  # noqa: PLC0415 - of the extra that these servers are for

    client: MongoClient[dict[str, Any]]
    with MongoClient(server.admin_url) as client:
        client.admin.command("setParameter", 1, transactionLifetimeLimitSeconds=TRANSACTION_SECONDS)
