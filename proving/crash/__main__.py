"""`python -m proving.crash`: the table of all handlers and databases, or of those that are named."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from proving.crash.databases import DATABASES, migrated
from proving.crash.many import run_shares
from proving.crash.report import page, printed
from proving.crash.results import OtherVersion, Results
from proving.crash.table import ALL, Share
from proving.many import commit
from testbed.binaries import Missing
from testbed.servers import Servers, Testbed


def main() -> int:
    """0 when every law held and every fault has struck; else 1."""
    arguments = _arguments()
    testbed, results = Testbed(), None
    try:
        if arguments.resume:
            results = Results(Path(arguments.resume), commit(), arguments.seed)
        shares = list(_shares(arguments, testbed))
        table = run_shares(shares, arguments.cores, _at_once, results=results)
    except OtherVersion as other:
        sys.exit(str(other))
    except KeyboardInterrupt:
        sys.exit("stopped before anything ran")
    finally:
        testbed.close()
        if results is not None:
            results.close()
    print("\n".join(printed(table)))
    if arguments.page:
        Path(arguments.page).write_text(page(table), encoding="utf-8")
    return 1 if table.broken or table.silent else 0


def _at_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _shares(arguments: argparse.Namespace, testbed: Testbed) -> Iterator[Share]:
    """One share for each core and database, on a database of its own."""
    databases = arguments.database or DATABASES
    handlers = tuple(arguments.handler or ALL)
    for database in databases:
        of = 1 if arguments.url else arguments.cores
        number, parts = map(int, arguments.shard.split("/"))
        for core in range(of):
            yield Share(
                database,
                _url(database, testbed, arguments.url),
                handlers,
                number=(number - 1) * of + core,
                of=parts * of,
                budget=arguments.budget,
                seed=arguments.seed,
                every_time=arguments.lines == "all",
            )


def _url(database: str, testbed: Testbed, given: str) -> str:
    if database == "sqlite":
        return ""
    if given:
        return migrated(database, given).url
    try:
        if database == "mongodb":  # a server of its own: ending what a dead process left ends it for everybody
            return migrated(database, testbed.own(database).url()).url
        return migrated(database, Servers(testbed, testbed.admin_url).url(database)).url
    except Missing as missing:
        sys.exit(f"{database} cannot be had here: {missing}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m proving.crash", description=__doc__)
    parser.add_argument("--database", action="append", choices=DATABASES, help="only on this one; may be repeated")
    parser.add_argument("--url", default="", help="an empty database, instead of one on a server of the testbed")
    parser.add_argument("--handler", action="append", choices=ALL, help="only this one; may be repeated")
    parser.add_argument("--budget", type=float, default=0.0, help="seconds for each database's share; 0: no end")
    parser.add_argument("--seed", type=int, default=0, help="of the order of trials, and of the sample with a budget")
    parser.add_argument(
        "--lines",
        choices=("distinct", "all"),
        default="distinct",
        help="each line the first and the last time it is executed and once in between, or each time",
    )
    parser.add_argument("--resume", help="keep each trial in this file, and skip what it has of this commit")
    parser.add_argument("--shard", default="1/1", help="2/5: the second fifth of the trials, the same everywhere")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--page", help="write the results as a page to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
