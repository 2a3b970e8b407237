"""`python -m proving.figures`: run figures, print what they came to, and renew their sections of the page."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import uvloop

from proving.figures import certificate, degraded, duplicates, hostile, outage
from proving.figures.attacks import KINDS
from proving.figures.figure import Figure
from proving.figures.page import printed, renew
from testbed.servers import Servers, Testbed


@dataclass(frozen=True, slots=True)
class Asked:
    """How much of a figure: `count` of its unit, at most about so many `seconds` (0: no end), on which servers."""

    count: int
    seconds: float
    seed: int
    servers: Servers
    folder: Path


@dataclass(frozen=True, slots=True)
class Kind:
    """One figure: its goal, the unit and number of its trials, what must strike, and how it is run."""

    goal: str
    unit: str
    count: int
    listed: tuple[str, ...]
    run: Callable[[Figure, Asked], None]


def _duplicates(figure: Figure, asked: Asked) -> None:
    database, cache = asked.servers.url("postgres"), asked.servers.url("valkey")
    work = duplicates.run(
        figure, asked.folder, database, cache, sessions=asked.count, seconds=asked.seconds, seed=asked.seed
    )
    uvloop.run(work)


def _hostile(figure: Figure, asked: Asked) -> None:
    database, cache = asked.servers.url("postgres"), asked.servers.url("valkey")
    work = hostile.run(
        figure, asked.folder, database, cache, requests=asked.count, seconds=asked.seconds, seed=asked.seed
    )
    uvloop.run(work)


def _outage(figure: Figure, asked: Asked) -> None:
    outage.run(figure, sessions=asked.count, seed=asked.seed)


def _degraded(figure: Figure, asked: Asked) -> None:
    plan = replace(degraded.Plan(), sessions=asked.count)
    uvloop.run(degraded.run(figure, asked.folder, asked.servers, plan, seed=asked.seed))


def _certificate(figure: Figure, asked: Asked) -> None:
    certificate.run(figure, days=asked.count, seed=asked.seed)


FIGURES: Final[Mapping[str, Kind]] = {
    "duplicates": Kind(
        "10,000 sessions, 100 callbacks each, 64 at once over 4 processes: 10,000 order sets",
        "sessions",
        10_000,
        duplicates.LISTED,
        _duplicates,
    ),
    "hostile": Kind(
        "1,000,000 malformed or forged requests: no 5xx, no state change, no leak",
        "requests",
        1_000_000,
        tuple(KINDS),
        _hostile,
    ),
    "outage": Kind(
        "QPay gone for 72 virtual hours with 10,000 paid: all ordered within 10 min of its return, politely",
        "sessions",
        10_000,
        outage.LISTED,
        _outage,
    ),
    "degraded": Kind(
        "cache dead: 99.99 % of requests succeed, p99 at most doubled; QPay dead: no false paid, no false unpaid; "
        "database dead: no false SUCCESS",
        "requests and sessions",
        60,
        degraded.LISTED,
        _degraded,
    ),
    "certificate": Kind(
        "1,000 faulty virtual days: `prove` is right every day",
        "days",
        1_000,
        certificate.LISTED,
        _certificate,
    ),
}


def main() -> int:
    """0 when every figure asked for holds, else 1."""
    arguments = _arguments()
    names = [arguments.figure] if arguments.figure else list(FIGURES)
    testbed = Testbed()
    try:
        done = [_one(name, arguments, Servers(testbed, testbed.admin_url)) for name in names]
    finally:
        testbed.close()
    if arguments.page is not None:
        renew(Path(arguments.page), done, list(FIGURES))
    return 1 if any(figure.failed for figure in done) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m proving.figures", description=__doc__)
    parser.add_argument("--figure", choices=FIGURES, help="this one alone")
    parser.add_argument("--count", type=int, help="how much of it: sessions, requests or days")
    parser.add_argument("--budget", type=float, default=0.0, help="seconds of load after which no more is begun")
    parser.add_argument("--seed", type=int, default=1, help="of all chance")
    parser.add_argument("--page", help="renew the figures' sections of this page")
    return parser.parse_args()


def _one(name: str, arguments: argparse.Namespace, servers: Servers) -> Figure:
    kind = FIGURES[name]
    count = arguments.count or kind.count
    figure = Figure(name, kind.goal, kind.unit, _command(name, arguments, count), kind.listed)
    with tempfile.TemporaryDirectory(prefix="tulbur-figure-") as folder:
        try:
            kind.run(figure, Asked(count, arguments.budget, arguments.seed, servers, Path(folder)))
        except Exception as error:  # noqa: BLE001 - what was counted until then is told, too
            figure.fails(f"it ended with {error!r}")
    print(printed(figure.end()), flush=True)
    return figure


def _command(name: str, arguments: argparse.Namespace, count: int) -> str:
    budget = f" BUDGET={arguments.budget:.0f}" if arguments.budget else ""
    seed = f" SEED={arguments.seed}" if arguments.seed != 1 else ""
    return f"make figures FIGURE={name} COUNT={count}{budget}{seed}"


if __name__ == "__main__":
    sys.exit(main())
