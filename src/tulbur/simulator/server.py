"""Starting the simulator as a server of its own."""

from __future__ import annotations

import socket

import uvicorn

from tulbur.simulator.app import create_simulator
from tulbur.simulator.hosts import refuse_qpay_host

# Node, which QPay runs on, closes an idle connection about this soon.
KEEP_ALIVE_SECONDS = 5


def serve(host: str = "127.0.0.1", port: int = 8765, *, bank_links: bool = False) -> None:
    """Serve until interrupted.

    Raises RefusedHostError when `host`, or this machine's own name, lies under qpay.mn.
    """
    refuse_qpay_host(host, "to bind to")
    refuse_qpay_host(socket.gethostname(), "to run on")
    uvicorn.run(
        create_simulator(bank_links=bank_links),
        host=host,
        port=port,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
