"""Servers that run, and empty databases on them: what tests are given."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Final

from testbed.binaries import Missing, as_plain_user, give_away, readable
from testbed.engine import Engine, free_port
from testbed.keeper import Keeper
from testbed.mariadb import MariaDB
from testbed.mongodb import MongoDB
from testbed.postgres import Postgres
from testbed.valkey import Valkey

ENGINES: Final[Mapping[str, Engine]] = {engine.name: engine for engine in (Postgres(), MariaDB(), MongoDB(), Valkey())}

START_SECONDS: Final = 60
"""How long a server may take until it answers."""

MOST_STARTS: Final = 5
"""Times a server is started on another port, or after what a killed one left has gone."""


class Server:
    """One server process; it can be killed and started again on the same port and data."""

    def __init__(self, engine: Engine, keeper: Keeper, root: Path, key: str) -> None:
        self._engine = engine
        self._keeper = keeper
        self._key = key
        self._folder = root / key
        self._program: Path | None = None
        self._databases = count(1)
        self.port = 0
        self.pid = 0

    def start(self) -> None:
        """Start it, with the data it had before; return when it answers.

        Raises:
            Missing: it cannot be had here.
        """
        if self._program is None:
            self._program = self._prepare()
        ports = [self.port] * MOST_STARTS if self.port else [free_port() for _ in range(MOST_STARTS)]
        for port in ports:
            command = as_plain_user(self._engine.argv(self._program, self._folder, port))
            self.pid = self._keeper.start(
                self._key,
                command,
                env=self._engine.env(self._program),
                log=self._folder / "log",
                stop_signal=self._engine.stop_signal,
            )
            if self._answers(port):
                self.port = port
                return
        log = (self._folder / "log").read_text(errors="replace").splitlines()[-5:]
        raise Missing(f"{self._engine.name} does not start: {' / '.join(log)}")

    @property
    def admin_url(self) -> str:
        return self._engine.admin_url(self.port)

    def url(self) -> str:
        """A new, empty database on it."""
        return self._engine.make_database(self.admin_url, f"own_{next(self._databases)}")

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL."""
        self._keeper.stop(self._key, signal.SIGKILL)

    def stop(self) -> None:
        self._keeper.stop(self._key, signal.SIGTERM)

    def running(self) -> bool:
        return self._keeper.running(self._key)

    def _prepare(self) -> Path:
        program = self._engine.find()
        self._folder.mkdir()
        folder = program if program.is_dir() else program.parent
        usable = readable(folder, self._folder) if program != Path("/") else program
        program = usable if program.is_dir() else usable / program.name
        give_away(self._folder)
        try:
            self._engine.prepare(program, self._folder)
        except (OSError, subprocess.SubprocessError) as error:
            told = getattr(error, "stderr", b"") or b""
            raise Missing(f"{self._engine.name} cannot be set up: {error} {told.decode(errors='replace')}") from error
        return program

    def _answers(self, port: int) -> bool:
        """Wait until it can be used; False when it ended instead, such as when somebody else got its port."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            answers = self._engine.answers(self._engine.admin_url(port))
            if not self._keeper.running(self._key):
                return False
            if answers:
                return True
            time.sleep(0.02)
        self.kill()
        return False


class Testbed:
    """The servers of one process, each started when it is first asked for; they end with it."""

    __test__ = False  # pytest: this is none

    def __init__(self) -> None:
        self._lock = Lock()
        self._locks = {name: Lock() for name in ENGINES}
        self._found: dict[str, str | Missing] = {}
        self._keeper: Keeper | None = None
        self._root = Path()
        self._keys = count(1)

    def admin_url(self, name: str) -> str:
        """Where the shared server of this kind is: the one the environment names, or ours.

        Raises:
            Missing: it cannot be had here.
        """
        engine = ENGINES[name]
        with self._locks[name]:
            if name not in self._found:
                try:
                    self._found[name] = os.environ.get(engine.variable) or self.own(name).admin_url
                except Missing as missing:
                    self._found[name] = missing
            found = self._found[name]
        if isinstance(found, Missing):
            raise Missing(str(found))
        return found

    def own(self, name: str) -> Server:
        """A server that nobody else uses, started."""
        server = self.server(ENGINES[name])
        server.start()
        return server

    def server(self, engine: Engine) -> Server:
        """The same, not started."""
        with self._lock:
            if self._keeper is None:
                self._root = Path(tempfile.mkdtemp(prefix="testbed-"))
                self._root.chmod(0o711)
                self._keeper = Keeper(self._root)
            return Server(engine, self._keeper, self._root, f"{engine.name}-{next(self._keys)}")

    def close(self) -> None:
        """End all servers and remove their data."""
        with self._lock:
            keeper, self._keeper = self._keeper, None
            self._found.clear()
        if keeper is not None:
            keeper.close()


class Servers:
    """What a test uses: `url(name)` is a new, empty database on "postgres", "mariadb", "mongodb" or "valkey"."""

    def __init__(self, local: Testbed, admin_url: Callable[[str], str]) -> None:
        self._local = local
        self._admin_url = admin_url
        self._numbers = count(1)
        self._run = secrets.token_hex(3)

    def admin_url(self, name: str) -> str:
        """The server itself, as its administrator connects; other tests use it too.

        Raises:
            Missing: it cannot be had here.
        """
        return self._admin_url(name)

    def url(self, name: str) -> str:
        """A new, empty database; it stays until `drop` or the end of the run.

        Raises:
            Missing: it cannot be had here.
        """
        return ENGINES[name].make_database(self.admin_url(name), f"t_{self._run}_{next(self._numbers)}")

    def drop(self, name: str, url: str) -> None:
        ENGINES[name].drop_database(self.admin_url(name), url)

    @contextmanager
    def own(self, name: str) -> Iterator[Server]:
        """A server for this test alone, which it may kill and start again; ready in about a second.

        Raises:
            Missing: it cannot be had here.
        """
        server = self._local.own(name)
        try:
            yield server
        finally:
            server.kill()
