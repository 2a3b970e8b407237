"""MariaDB, out of Debian's packages."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from testbed import debian
from testbed.binaries import as_plain_user, named
from testbed.engine import PASSWORD, Engine, in_a_loop

USER = "tulbur"


class MariaDB(Engine):
    name = "mariadb"
    stop_signal = signal.SIGKILL
    variable = "TULBUR_TEST_MARIADB_URL"

    def find(self) -> Path:
        """The folder that holds `usr/`."""
        program = named("MARIADBD")
        return program.resolve().parent.parent.parent if program else debian.mariadb()

    def prepare(self, program: Path, folder: Path) -> None:
        """What mariadb-install-db does, without the help texts."""
        scripts = [
            program / "usr/share/mysql" / f"mysql_{part}.sql" for part in ("system_tables", "system_tables_data")
        ]
        sql = "CREATE DATABASE mysql;\nUSE mysql;\n" + "".join(script.read_text() for script in scripts)
        (folder / "data").mkdir(mode=0o777)
        (folder / "data").chmod(0o777)
        (folder / "init.sql").write_text(
            f"CREATE OR REPLACE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n"
            f"GRANT ALL PRIVILEGES ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
        )
        subprocess.run(  # noqa: S603 - our own
            as_plain_user([*self._common(program, folder), "--bootstrap", "--skip-grant-tables"]),
            input=sql.encode(),
            cwd=folder,
            env=self.env(program),
            check=True,
            capture_output=True,
        )

    def argv(self, program: Path, folder: Path, port: int) -> list[str]:
        return [
            *self._common(program, folder),
            f"--port={port}",
            "--bind-address=127.0.0.1",
            f"--socket={folder / 'socket'}",
            f"--pid-file={folder / 'data/pid'}",
            f"--init-file={folder / 'init.sql'}",
            "--skip-name-resolve",
            "--max-connections=200",
            # Not what tulbur needs, which therefore has to ask for it.
            "--transaction-isolation=SERIALIZABLE",
            "--character-set-server=latin1",
            "--default-time-zone=+08:00",
        ]

    def _common(self, program: Path, folder: Path) -> list[str]:
        share = program / "usr/share/mysql"
        plugins = program / "usr/lib/mysql/plugin"
        return [
            f"{program}/usr/sbin/mariadbd",
            "--no-defaults",
            f"--basedir={program / 'usr'}",
            f"--lc-messages-dir={share}",
            f"--character-sets-dir={share / 'charsets'}",
            f"--plugin-dir={plugins}",
            f"--datadir={folder / 'data'}",
            # A starting server removes what looks like another's temporary tables, wherever they share a folder.
            f"--tmpdir={folder / 'data'}",
            # A killed server's writes are with the system, which is not switched off during a test.
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-flush-method=nosync",
            "--innodb-doublewrite=0",
            "--innodb-log-file-size=64M",
            "--innodb-buffer-pool-size=128M",
        ]

    def env(self, program: Path) -> dict[str, str]:
        libraries = program / f"usr/lib/{platform.machine()}-linux-gnu"
        if not libraries.is_dir() or program == Path("/"):
            return super().env(program)
        return {**os.environ, "LD_LIBRARY_PATH": str(libraries)}

    def admin_url(self, port: int) -> str:
        return f"mysql://{USER}:{PASSWORD}@127.0.0.1:{port}/mysql"

    def answers(self, admin_url: str) -> bool:
        from asyncmy.errors import MySQLError  # noqa: PLC0415 - of the extra that these servers are for

        try:
            self._run(admin_url, "SELECT 1")
        except (OSError, TimeoutError, MySQLError):
            return False
        return True

    def make_database(self, admin_url: str, name: str) -> str:
        self._run(admin_url, f"CREATE DATABASE {name}")
        return urlsplit(admin_url)._replace(path=f"/{name}").geturl()

    def drop_database(self, admin_url: str, url: str) -> None:
        self._run(admin_url, f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]}")

    def _run(self, admin_url: str, statement: str) -> None:
        import asyncmy  # noqa: PLC0415 - of the extra that these servers are for

        url = urlsplit(admin_url)

        async def run() -> None:
            connection = await asyncmy.connect(
                host=str(url.hostname),
                port=url.port or 3306,
                user=str(url.username),
                password=url.password or "",
                db=url.path[1:],
                connect_timeout=10,
                autocommit=True,
            )
            try:
                async with connection.cursor() as cursor:
                    await cursor.execute(statement)
            finally:
                await connection.ensure_closed()

        in_a_loop(run)
