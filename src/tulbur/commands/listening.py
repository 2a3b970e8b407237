"""Whether an address can be listened on, said before anything is started for it."""

from __future__ import annotations

import socket

from tulbur.errors import SettingsError


def free_address(host: str, port: int) -> tuple[str, int]:
    """The address at which a server can listen; port 0 becomes one that is free.

    Raises:
        SettingsError: the host is not this machine's, or the port is taken.
    """
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(address)
                port = port or int(sock.getsockname()[1])
    except OSError as error:
        raise SettingsError(
            f"HOST and PORT: nothing can listen at {host}:{port} ({error.strerror}); choose another, or stop what does."
        ) from None
    return host, port


def url_of(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
