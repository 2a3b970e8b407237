"""`python -m testbed`: the servers, staying up until Ctrl-C. `python -m testbed prepare`: only get what is not here."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from testbed import debian
from testbed.binaries import Missing
from testbed.servers import ENGINES, Servers, Testbed


def main() -> int:
    return prepare() if sys.argv[1:] == ["prepare"] else serve()


def prepare() -> int:
    """Find or get every server's program, and wrk; 1 when one is missing that must not be."""
    missing = 0
    finds = {engine.name: engine.find for engine in ENGINES.values() if not os.environ.get(engine.variable)}
    for name, find in {**finds, "wrk": debian.wrk}.items():
        try:
            find()
        except Missing as reason:
            missing += 1
            print(f"{name}: {reason}; its tests are skipped", file=sys.stderr)
    return 1 if missing and os.environ.get("CI") == "true" else 0


def serve() -> int:
    """Start all at once, tell where they are, and wait for Ctrl-C."""
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    testbed = Testbed()
    servers = Servers(testbed, testbed.admin_url)
    started = time.monotonic()

    def one(name: str) -> str:
        try:
            return servers.url(name)
        except Missing as missing:
            return f"not here: {missing}"

    try:
        with ThreadPoolExecutor(len(ENGINES)) as pool:
            for name, url in zip(ENGINES, pool.map(one, ENGINES), strict=True):
                print(f"{name:9} {url}", flush=True)
        print(f"up after {time.monotonic() - started:.1f} s; Ctrl-C stops them and removes their data", flush=True)
        told.wait()
    finally:
        testbed.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
