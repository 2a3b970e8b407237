"""`python -m bench.empty PORT`: answers whatever it is asked with SUCCESS, for the limit of the load generator."""

from __future__ import annotations

import asyncio
import sys
from typing import Final, cast

import uvloop

ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 7\r\n\r\nSUCCESS"


class Empty(asyncio.Protocol):
    """Each blank line ends a request without a body; nothing of it is read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER * data.count(b"\r\n\r\n"))


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Empty, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
