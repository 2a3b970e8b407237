"""`python -m proving.chaos`: a storm on each kind of database, or on those that are named."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from proving.chaos.faults import Fault
from proving.chaos.places import CLUSTERS, KINDS
from proving.chaos.report import page, printed, verdict
from proving.chaos.run import Run, run
from proving.chaos.stage import PROGRAM, listed
from proving.chaos.storm import shortest
from proving.many import commit
from testbed.binaries import Missing
from testbed.servers import Testbed


def main() -> int:
    """0 when every law held and every listed fault has struck; 1 when not, 2 when it cannot be run."""
    arguments = _arguments()
    kinds = arguments.database or (CLUSTERS if arguments.clusters else KINDS)
    if arguments.url and len(kinds) != 1:
        print("--url is one database: name its kind with --database.", file=sys.stderr)
        return 2
    faults = {kind: _listed(kind, arguments.url, arguments.fault) for kind in kinds}
    least = max(map(shortest, faults.values()))
    if arguments.seconds < least:
        print(f"--seconds is at least {least:.0f}: each fault that is listed needs its turn.", file=sys.stderr)
        return 2
    version = commit()
    runs = asyncio.run(_runs(arguments, faults, version))
    print(verdict(runs))
    if len(runs) < len(faults):
        return 2
    return 1 if any(done.broken or done.silent for done in runs) else 0


async def _runs(arguments: argparse.Namespace, faults: Mapping[str, Sequence[Fault]], version: str) -> list[Run]:
    """One after the other, or all of them at once; the page grows with each that is done."""
    runs: list[Run] = []
    turns = asyncio.Semaphore(len(faults) if arguments.at_once else 1)

    async def one(kind: str) -> None:
        async with turns:
            try:
                done = await _one(kind, arguments, faults[kind])
            except Missing as missing:
                print(f"{kind} cannot be had here: {missing}", file=sys.stderr)
                return
        print("\n".join(printed(done)), flush=True)
        runs.append(done)
        if arguments.page:
            Path(arguments.page).write_text(page(runs, version), encoding="utf-8")  # noqa: ASYNC240 - once in minutes

    async with asyncio.TaskGroup() as group:
        for kind in faults:
            group.create_task(one(kind))
    return runs


async def _one(kind: str, arguments: argparse.Namespace, faults: Sequence[Fault]) -> Run:
    testbed = Testbed()
    program = tuple(shlex.split(arguments.program)) or PROGRAM
    try:
        return await run(kind, testbed, arguments.seconds, arguments.seed, faults, program=program, url=arguments.url)
    finally:
        await asyncio.to_thread(testbed.close)


def _listed(kind: str, url: str, named: Sequence[str]) -> list[Fault]:
    return [fault for fault in listed(kind, url) if not named or fault.name in named]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m proving.chaos", description=__doc__)
    kinds = (*KINDS, *CLUSTERS)
    parser.add_argument("--database", action="append", choices=kinds, help="only on this one; may be repeated")
    parser.add_argument("--clusters", action="store_true", help="on clusters, whose primary is killed")
    parser.add_argument("--at-once", action="store_true", help="all of them at the same time")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long the storm lasts on each database")
    parser.add_argument("--seed", type=int, default=1, help="of the order of faults and of what people do")
    names = [fault.name for fault in Fault]
    parser.add_argument(
        "--fault", action="append", choices=names, metavar="NAME", default=[], help=f"only this one: {', '.join(names)}"
    )
    parser.add_argument("--url", default="", help="an empty database on a server of yours, which is never killed")
    parser.add_argument("--program", default="", help="another tulbur than the one of this source, as a command line")
    parser.add_argument("--page", help="write the results as a page to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
