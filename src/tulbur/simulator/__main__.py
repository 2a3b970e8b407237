"""`python -m tulbur.simulator`: the simulator without the rest of tulbur."""

import argparse

from tulbur.simulator.server import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tulbur.simulator", description="A QPay to develop against.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--bank-links", action="store_true", help="links open the local bank page")
    options = parser.parse_args()
    serve(options.host, options.port, bank_links=options.bank_links)


if __name__ == "__main__":
    main()
