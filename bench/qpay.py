"""`python -m bench.qpay PORT`: the simulator as a process of its own, without a line of log for each request."""

from __future__ import annotations

import sys

import uvicorn

from tulbur.simulator.app import create_simulator


def main() -> None:
    port = int(sys.argv[1])
    app = create_simulator(public_url=f"http://127.0.0.1:{port}")
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
