"""Six Valkey servers as one cluster: three masters that share the keys, and a replica of each."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from testbed.clusters.cluster import Cluster, at_once, until
from testbed.engine import free_port
from testbed.servers import Server
from testbed.valkey import Valkey

MASTERS: Final = 3
SLOTS: Final = 16_384
NODE_TIMEOUT_MILLISECONDS: Final = 2_000
"""How long a server may be silent before the others vote for its replica; Valkey's own is 15 s."""


class _Node(Valkey):
    def __init__(self) -> None:
        self.bus = free_port()

    def argv(self, program: Path, folder: Path, port: int) -> list[str]:
        cluster = ["--cluster-enabled", "yes", "--cluster-port", str(self.bus), "--cluster-config-file", "nodes.conf"]
        # A replica is of use at once, and not only after the five seconds in which others might want the same.
        soon = ["--cluster-node-timeout", str(NODE_TIMEOUT_MILLISECONDS), "--repl-diskless-sync-delay", "0"]
        single = super().argv(program, folder, port)
        at = single.index("--databases")
        return [*single[:at], *single[at + 2 :], *cluster, *soon]


class ValkeyCluster(Cluster):
    name = "valkey cluster"

    def start(self) -> None:
        engines = [_Node() for _ in range(2 * MASTERS)]
        nodes = [self._node(engine) for engine in engines]
        at_once(nodes)
        masters, replicas = nodes[:MASTERS], nodes[MASTERS:]
        for number, node in enumerate(masters):
            first, after = number * SLOTS // MASTERS, (number + 1) * SLOTS // MASTERS
            _ask(node, f"CLUSTER ADDSLOTSRANGE {first} {after - 1}")
        for number, node in enumerate(nodes, 1):
            _ask(node, f"CLUSTER SET-CONFIG-EPOCH {number}")
        for node, engine in zip(nodes[1:], engines[1:], strict=True):
            _ask(nodes[0], f"CLUSTER MEET 127.0.0.1 {node.port} {engine.bus}")
        until(lambda: all(_known(node) == len(nodes) for node in nodes), "the servers of the cluster had not met")
        for node, master in zip(replicas, masters, strict=True):
            _ask(node, f"CLUSTER REPLICATE {_ask(master, 'CLUSTER MYID')}")
        until(lambda: all(map(_is_whole, nodes)), "the cluster did not serve every key")
        until(lambda: all(map(_follows, replicas)), "the replicas did not follow")

    def url(self) -> str:
        """The cluster, by a server that runs; it has one database only, which is emptied."""
        running = [node for node in self.nodes if node.running()]
        for node in running:
            with contextlib.suppress(OSError):  # a replica refuses, and is told by its master
                _ask(node, "FLUSHALL")
        return f"redis://127.0.0.1:{running[0].port}?cluster=1"

    def masters(self) -> list[Server]:
        return [node for node in self.nodes if node.running() and "role:master" in _ask(node, "INFO replication")]


def _known(node: Server) -> int:
    info = _ask(node, "CLUSTER INFO")
    return next(int(line.partition(":")[2]) for line in info.split() if line.startswith("cluster_known_nodes:"))


def _is_whole(node: Server) -> bool:
    return "cluster_state:ok" in _ask(node, "CLUSTER INFO")


def _follows(node: Server) -> bool:
    return "master_link_status:up" in _ask(node, "INFO replication")


def _ask(node: Server, command: str) -> str:
    """The answer of one server.

    Raises:
        OSError: it does not answer, or refused.
    """
    from redis import Redis, RedisError  # noqa: PLC0415 - of the extra that these servers are for

    client = Redis(port=node.port, socket_timeout=5, decode_responses=True)
    with contextlib.closing(client):
        # Unparsed: what the server said.
        client.response_callbacks.clear()
        try:
            return str(client.execute_command(*command.split()))  # type: ignore[no-untyped-call]
        except RedisError as error:
            raise OSError(str(error)) from error
