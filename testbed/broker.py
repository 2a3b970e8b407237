"""One set of servers for several test processes: the first process has them, the others ask it where they are."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Listener
from typing import TypeAlias

from testbed.binaries import Missing

Address: TypeAlias = tuple[str, str]
"""Where the broker listens, and what must be known to talk to it."""


class Broker:
    """Answers, in threads of its own, where a server is; starting it takes as long as it takes."""

    def __init__(self, admin_url: Callable[[str], str]) -> None:
        self._admin_url = admin_url
        self._key = secrets.token_bytes(16)
        self._listener = Listener(family="AF_UNIX", authkey=self._key)
        threading.Thread(target=self._listen, daemon=True, name="testbed-broker").start()

    @property
    def address(self) -> Address:
        return str(self._listener.address), self._key.hex()

    def close(self) -> None:
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True, name="testbed-broker").start()

    def _serve(self, connection: Connection) -> None:
        with connection:
            name = connection.recv()
            try:
                connection.send((True, self._admin_url(name)))
            except Missing as missing:
                connection.send((False, str(missing)))
            except Exception as error:  # noqa: BLE001 - whoever asked is told
                connection.send((False, f"{name}: {error!r}"))


def ask(address: Address, name: str) -> str:
    """Where the server is.

    Raises:
        Missing: it cannot be had here.
    """
    path, key = address
    with Client(path, family="AF_UNIX", authkey=bytes.fromhex(key)) as connection:
        connection.send(name)
        found, text = connection.recv()
    if not found:
        raise Missing(text)
    return str(text)
