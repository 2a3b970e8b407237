"""What a table came to, as lines for a terminal and as a page for the documentation."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator

from proving.crash.many import Table
from proving.crash.shared import KILLS, LOSSES
from proving.crash.table import FAULTS, PAIR, SECOND, Row
from proving.report import machine

_LOSSES = (*LOSSES, PAIR)


def printed(table: Table) -> Iterator[str]:
    for row in table.rows.values():
        yield _told(row)
    yield from (f"{count:>9,}  {fault}" for fault, count in _struck(table))
    yield _rate(table)
    yield verdict(table)
    for fault in table.silent:
        yield f"never struck, so nothing is shown of it: {fault}"


def verdict(table: Table) -> str:
    """The last word."""
    if table.broken:
        return f"{len(table.broken):,} of {table.ran:,} trials broke a law"
    return f"{table.ran:,} clean trials bound the failure rate at about 3/n = {3 / max(table.ran, 1):.1e}"


def page(table: Table) -> str:
    """A page of Markdown: machine, commit, counts and what they bound."""
    lines = [
        "# Crash table: results",
        "",
        "Written by `make crash`; what is run and how to read it is in [proving.md](proving.md#crash-table).",
        "",
        f"- {dt.datetime.now(dt.UTC):%Y-%m-%d}, commit `{table.commit}`",
        f"- {machine()}",
        f"- {_rate(table)}",
        f"- {verdict(table)}",
        "",
        "Lines: of the distinct lines of tulbur that a handler executes, those at which it was killed. Killed: trials",
        "that struck, of those there are: at lines and at every edge, each with and without another callback. Lost:",
        "answers of the database, alone and in pairs.",
        "",
        "| handler | database | lines | killed | killed twice | lost | not reached | laws broken |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
        *(_line(row) for row in table.rows.values()),
        "",
        "| fault | struck |",
        "|---|---:|",
        *(f"| {fault} | {count:,} |" for fault, count in _struck(table)),
    ]
    return "\n".join(lines) + "\n"


def _told(row: Row) -> str:
    kills, losses = _of(row, *KILLS), _of(row, *_LOSSES)
    missed = f", {row.missed:,} not reached" if row.missed else ""
    broken = f", {len(row.broken):,} BROKE A LAW" if row.broken else ""
    return (
        f"{row.handler} × {row.database}: lines {_lines(row)}; killed {kills}, twice {_of(row, SECOND)}; "
        f"answers lost {losses}{missed}{broken}"
    )


def _line(row: Row) -> str:
    cells = (row.handler, row.database, _lines(row), _of(row, *KILLS), _of(row, SECOND), _of(row, *_LOSSES))
    return f"| {' | '.join(cells)} | {row.missed:,} | {len(row.broken):,} |"


def _lines(row: Row) -> str:
    return f"{len(row.lines_struck):,} of {len(row.lines):,}"


def _of(row: Row, *kinds: str) -> str:
    """So many of so many."""
    return f"{sum(row.struck[kind] for kind in kinds):,} of {sum(row.points[kind] for kind in kinds):,}"


def _struck(table: Table) -> list[tuple[str, int]]:
    struck: Counter[str] = sum((row.struck for row in table.rows.values()), Counter())
    return [(fault, struck[fault]) for fault in FAULTS]


def _rate(table: Table) -> str:
    each = table.ran_now / max(table.seconds, 0.001)
    before = f" after {table.ran_before:,} in earlier runs" if table.ran_before else ""
    return f"{table.ran_now:,} trials in {table.seconds:.0f} s on {table.cores} cores, {each:.1f} a second{before}"
