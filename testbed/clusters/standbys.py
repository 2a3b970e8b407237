"""PostgreSQL with two standbys, of which one at least must have a commit before it is answered."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Final

from testbed.binaries import as_plain_user
from testbed.clusters.cluster import Cluster, at_once, until
from testbed.engine import PASSWORD, in_a_loop
from testbed.postgres import USER, Postgres
from testbed.servers import Server, Testbed

NAMES: Final = ("node_1", "node_2", "node_3")

_IN_STEP: Final = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'quorum'"
# As a number: which standby has the most.
_RECEIVED: Final = "SELECT (pg_last_wal_receive_lsn() - '0/0')::bigint"


class _Node(Postgres):
    """Each has the same settings, so that any of them can be the primary."""

    def __init__(self, cluster: Standbys, name: str) -> None:
        self._cluster = cluster
        self._own_name = name

    def prepare(self, program: Path, folder: Path) -> None:
        if self._own_name == NAMES[0]:
            super().prepare(program, folder)
            return
        source = f"host=127.0.0.1 port={self._cluster.nodes[0].port} user={USER} password={PASSWORD}"
        how = ["--checkpoint=fast", "--wal-method=stream", "--no-sync"]
        command = [f"{program}/bin/pg_basebackup", f"--pgdata={folder / 'data'}", f"--dbname={source}", *how]
        subprocess.run(  # noqa: S603 - our own
            as_plain_user([*command]), cwd=folder, env=self.env(program), check=True, capture_output=True
        )
        (folder / "data/standby.signal").touch()

    def argv(self, program: Path, folder: Path, port: int) -> list[str]:
        nodes = self._cluster.nodes
        hosts = f"host={','.join('127.0.0.1' for _ in nodes)} port={','.join(str(node.port) for node in nodes)}"
        settings = {
            "cluster_name": self._own_name,
            "synchronous_standby_names": f"ANY 1 ({', '.join(NAMES)})",
            # Whoever is the primary is followed, also after another one was promoted.
            "primary_conninfo": f"{hosts} user={USER} password={PASSWORD} target_session_attrs=primary",
            "wal_retrieve_retry_interval": "200ms",
            "wal_keep_size": "256MB",
            # A standby refuses every query under the testbed's usual one, which is serializable.
            "default_transaction_isolation": "repeatable read",
        }
        return [*super().argv(program, folder, port), *(f"--{name}={value}" for name, value in settings.items())]


class Standbys(Cluster):
    name = "standbys"

    def __init__(self, testbed: Testbed) -> None:
        super().__init__(testbed)
        self.primary: Server

    def start(self) -> None:
        for name in NAMES:
            self._node(_Node(self, name))
        self.primary, *standbys = self.nodes
        self.primary.start()
        at_once(standbys)
        until(lambda: self._in_step() == len(standbys), "the two standbys did not follow")

    def url(self) -> str:
        """On the primary, by an address that names all three."""
        name = self._next_name()
        _ask(self.primary, f"CREATE DATABASE {name} TEMPLATE template0")
        return f"postgresql://{USER}:{PASSWORD}@{self.hosts()}/{name}"

    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def standbys(self) -> list[Server]:
        return [node for node in self.nodes if node is not self.primary and node.running()]

    def promote(self) -> Server:
        """Make the standby that has the most the new primary; the other one follows it by itself."""
        chosen = max(self.standbys(), key=lambda node: int(_ask(node, _RECEIVED)))
        _ask(chosen, "SELECT pg_promote()")
        self.primary = chosen
        until(self._in_step, "the other standby did not follow the new primary")
        return chosen

    def rejoin(self, standby: Server) -> None:
        """Start a standby that was killed."""
        standby.start()
        until(lambda: self._in_step() == len(self.standbys()), "the standby did not follow again")

    def _in_step(self) -> int:
        return int(_ask(self.primary, _IN_STEP))


def _ask(node: Server, query: str) -> Any:  # noqa: ANN401 - whatever it selects
    import asyncpg  # noqa: PLC0415 - of the extra that these servers are for

    async def run() -> Any:  # noqa: ANN401 - whatever it selects
        connection = await asyncpg.connect(node.admin_url, timeout=10)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    return in_a_loop(run)
