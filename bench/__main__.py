"""`python -m bench`: measure, print the tables, and write them to a page."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import uvloop

from bench import measuring
from bench.databases import KINDS
from bench.measuring import ROWS, Plan
from bench.page import page, tables
from proving.many import commit
from testbed.binaries import Missing
from testbed.servers import Testbed


def main() -> int:
    """0 when every answer was right and its effect in the database; 1 when not; 2 when something cannot be had."""
    arguments = _arguments()
    rows = [row for row in ROWS if not arguments.rows or any(row.startswith(one) for one in arguments.rows.split(","))]
    kinds = [arguments.database] if arguments.database else list(KINDS)
    plan = Plan(kinds, rows, arguments.rounds, arguments.seconds)
    version, began, testbed = commit(), time.monotonic(), Testbed()
    try:
        results = uvloop.run(measuring.run(plan, testbed, _tell))
    except Missing as missing:
        _tell(str(missing))
        return 2
    finally:
        testbed.close()
    print(tables(results), flush=True)
    if arguments.page:
        text = page(results, commit=version, command=_command(arguments), seconds=time.monotonic() - began)
        Path(arguments.page).write_text(text, encoding="utf-8")
    return 1 if results.failures else 0


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--database", choices=KINDS, help="this one alone")
    parser.add_argument("--rows", default="", help=f"beginnings of some of: {', '.join(ROWS)}")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each row, of which the median counts")
    parser.add_argument("--page", help="write the tables here")
    return parser.parse_args()


def _command(arguments: argparse.Namespace) -> str:
    given = {"DATABASE": arguments.database, "ROWS": arguments.rows, "SECONDS": f"{arguments.seconds:g}"}
    return " ".join(["make bench", *(f"{name}={value}" for name, value in given.items() if value)])


if __name__ == "__main__":
    sys.exit(main())
