"""Three MariaDB servers as one Galera cluster, run as a plain user."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from testbed import debian
from testbed.binaries import as_plain_user
from testbed.clusters.cluster import Cluster, until
from testbed.engine import PASSWORD, free_port, in_a_loop
from testbed.mariadb import USER, MariaDB
from testbed.servers import Server, Testbed

NODES: Final = 3

SUSPECT_SECONDS: Final = 5
"""How long a node may be silent before the others go on without it; Galera's own."""

_SCRIPT: Final = "wsrep_sst_testbed"
_LIBRARY: Final = "libgalera_smm.so"


class _Node(MariaDB):
    """A copy of the first node's data directory, which is made once."""

    def __init__(self, cluster: Galera, number: int) -> None:
        self._cluster = cluster
        self._number = number
        self._folder = Path()
        self._started = False
        self.group = free_port()
        self.transfer = free_port()

    def prepare(self, program: Path, folder: Path) -> None:
        self._folder = folder
        if self._number == 0:
            super().prepare(program, folder)
            self._make_user(program, folder)
        else:
            _copy(self._cluster.template(), folder / "data")
        shutil.copy(Path(__file__).parent / _SCRIPT, folder / _SCRIPT)
        (folder / _SCRIPT).chmod(0o755)
        shutil.copy(debian.galera() / "usr/lib" / _LIBRARY, folder / _LIBRARY)

    def keep_template(self) -> Path:
        """A copy of the data directory of a node that is stopped, with which others can begin."""
        template = self._folder / "template"
        _copy(self._folder / "data", template)
        return template

    def _make_user(self, program: Path, folder: Path) -> None:
        """What an init file does elsewhere: in a cluster each node would do it to all of them."""
        sql = "FLUSH PRIVILEGES;\n" + (folder / "init.sql").read_text()
        command = as_plain_user([*self._common(program, folder), "--bootstrap"])
        env = self.env(program)
        subprocess.run(command, input=sql.encode(), cwd=folder, env=env, check=True, capture_output=True)  # noqa: S603

    def argv(self, program: Path, folder: Path, port: int) -> list[str]:
        single = [one for one in super().argv(program, folder, port) if not one.startswith("--init-file")]
        addresses = ",".join(f"127.0.0.1:{engine.group}" for engine in self._cluster.engines)
        provider = {
            "gmcast.listen_addr": f"tcp://127.0.0.1:{self.group}",
            "ist.recv_addr": f"127.0.0.1:{self.transfer}",
            "gcache.size": "64M",
            "pc.recovery": "false",
        }
        options = [
            "--wsrep-on=ON",
            f"--wsrep-provider={folder / _LIBRARY}",
            f"--wsrep-provider-options={';'.join(f'{name}={value}' for name, value in provider.items())}",
            f"--wsrep-node-address=127.0.0.1:{self.group}",
            f"--wsrep-node-name=node_{self._number + 1}",
            "--wsrep-sst-method=testbed",
            "--binlog-format=ROW",
            "--innodb-autoinc-lock-mode=2",
        ]
        options.append(f"--wsrep-cluster-address=gcomm://{addresses}")
        if self._number or self._started:
            position = self._position([*single, *options, "--wsrep-recover"], program)
            options.append(f"--wsrep-start-position={position}")
        if self._cluster.is_new:
            options.append("--wsrep-new-cluster")
        self._started = True
        return [*single, *options]

    def _position(self, command: list[str], program: Path) -> str:
        """How far this node has come, as its own tables say."""
        env = self.env(program)
        done = subprocess.run(as_plain_user(command), env=env, capture_output=True, text=True, check=False)  # noqa: S603
        _, found, position = done.stderr.rpartition("Recovered position:")
        if not found:
            raise OSError(f"no position in what the node has: {done.stderr[-500:]}")
        return position.split()[0]

    def env(self, program: Path) -> dict[str, str]:
        found = super().env(program)
        return {**found, "PATH": f"{self._folder}:{os.environ.get('PATH', '')}"}


class Galera(Cluster):
    name = "galera"

    def __init__(self, testbed: Testbed) -> None:
        super().__init__(testbed)
        self.engines: list[_Node] = []
        self.is_new = True
        self._template = Path()

    def start(self) -> None:
        debian.galera()
        self.engines = [_Node(self, number) for number in range(NODES)]
        for engine in self.engines:
            self._node(engine)
        first, *others = self.nodes
        first.start()
        first.stop()
        self._template = self.engines[0].keep_template()
        first.start()
        self.is_new = False
        # One after the other: two that join at once wait for each other's time-outs.
        for number, node in enumerate(others, 2):
            node.start()
            self._until_synced(node, number)

    def template(self) -> Path:
        return self._template

    def url(self) -> str:
        return self.nodes[0].url()

    def rejoin(self, node: Server) -> None:
        """Start a node that was killed."""
        node.start()
        self._until_synced(node, NODES)

    def _until_synced(self, node: Server, number: int) -> None:
        def synced() -> bool:
            state = _status(node)
            return state.get("wsrep_ready") == "ON" and state.get("wsrep_cluster_size") == str(number)

        until(synced, f"a node was not one of {number} that are in step")


def _copy(source: Path, target: Path) -> None:
    subprocess.run(as_plain_user(["cp", "-r", str(source), str(target)]), check=True)  # noqa: S603 - our own


def _status(node: Server) -> dict[str, str]:
    import asyncmy  # noqa: PLC0415 - of the extra that these servers are for

    async def run() -> dict[str, Any]:
        connection = await asyncmy.connect(
            port=node.port, host="127.0.0.1", user=USER, password=PASSWORD, autocommit=True
        )
        try:
            async with connection.cursor() as cursor:
                await cursor.execute("SHOW STATUS LIKE 'wsrep%'")
                return dict(await cursor.fetchall())
        finally:
            await connection.ensure_closed()

    return in_a_loop(run)
