"""The tables of a benchmark as Markdown, which is also readable on a terminal."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import Final

from bench.results import TIMES_TEXTBOOK, Cell, Results
from proving.report import machine

HEAD: Final = """# Benchmark: results

Written by `make bench`; what is measured and how to read it is in [docs/benchmark.md](../docs/benchmark.md).
"""

MIB: Final = 1024 * 1024


def page(results: Results, *, commit: str, command: str, seconds: float) -> str:
    """Everything, with the machine and the commit."""
    lines = [
        HEAD,
        f"- `{command}`",
        f"- {dt.datetime.now(dt.UTC):%Y-%m-%d}, commit `{commit}`, {seconds:.0f} s",
        f"- {machine()}; load average at the end {os.getloadavg()[0]:.1f}",
        "",
        tables(results),
    ]
    return "\n".join(lines)


def tables(results: Results) -> str:
    """Every table that has a row."""
    sections = [
        _failures(results),
        _limits(results),
        _main(results),
        _textbook(results),
        _others(results),
        _cpu(results),
        _memory(results),
    ]
    return "\n".join(section for section in sections if section)


def _failures(results: Results) -> str:
    return "".join(f"FAILED: {failure}\n" for failure in results.failures)


def _limits(results: Results) -> str:
    rows = [
        ["pgbench: one UPDATE, one INSERT", str(at_once), f"{median(rates):,.0f}"]
        for at_once, rates in results.limit.items()
    ]
    for at_once, runs in results.empty.items():
        rate = median(run.load.rate for run in runs)
        answered = sum(run.load.answered for run in runs)
        each = 1e6 * sum(run.load.cpu_seconds for run in runs) / answered
        rows.append([f"wrk against an empty server ({each:.0f} µs of its CPU each)", str(at_once), f"{rate:,.0f}"])
    return _section("Limits", ["limit", "at once", "a second"], rows)


def _main(results: Results) -> str:
    rows = [_row(results, cell) for cell in results.cells(["postgres"], "tulbur")]
    return _section("tulbur on PostgreSQL and Valkey", _COLUMNS, rows)


_COLUMNS: Final = ["row", "at once", "a second", "of the limit", "p50 ms", "p99 ms", "late", "figure", "reached"]


def _row(results: Results, cell: Cell) -> list[str]:
    figure, reached = results.figure(cell), results.reached(cell)
    wanted = ""
    if figure is not None:
        wanted = f"≥ {figure.share:.0%}" + (f", p99 ≤ {figure.p99_ms:.0f} ms" if figure.p99_ms else "")
    return [
        cell.row,
        str(cell.at_once),
        f"{results.rate(cell):,.0f}",
        _share(results, cell),
        f"{results.p50_ms(cell):.1f}",
        f"{results.p99_ms(cell):.1f}",
        str(results.late(cell)),
        wanted,
        "" if reached is None else "yes" if reached else "no",
    ]


def _share(results: Results, cell: Cell) -> str:
    share = results.share(cell)
    return "" if share is None else f"{share:.1%}"


def _textbook(results: Results) -> str:
    rows = []
    for cell in results.cells(["postgres"], "textbook"):
        times = results.times_textbook(cell.row, cell.at_once)
        figure = (cell.row, cell.at_once) == ("paid", 16) and times is not None
        rows.append(
            [
                *_row(results, cell)[:7],
                "" if times is None else f"{times:.1f}×",
                f"≥ {TIMES_TEXTBOOK:.0f}×" if figure else "",
                ("yes" if times is not None and times >= TIMES_TEXTBOOK else "no") if figure else "",
            ]
        )
    columns = [*_COLUMNS[:7], "tulbur is", "figure", "reached"]
    return _section("The textbook's server, on the same PostgreSQL", columns, rows)


def _others(results: Results) -> str:
    cells = results.cells(["sqlite", "mariadb", "mongodb"], "tulbur")
    rows = [[cell.kind, *_row(results, cell)[:7]] for cell in cells]
    return _section("tulbur on other databases", ["database", *_COLUMNS[:7]], rows)


def _cpu(results: Results) -> str:
    rows = []
    for cell in results.runs:
        used = results.cpu_ms(cell)
        total = sum(used.values())
        rest = total - used["qpay"]
        without = results.rate(cell) * total / rest if rest else 0.0
        each = ", ".join(f"{name} {spent:.2f}" for name, spent in used.items())
        place = f"{cell.kind}, {cell.server}, {cell.row}"
        rows.append([place, str(cell.at_once), each, f"{used['qpay'] / total:.0%}", f"{without:,.0f}"])
    columns = ["row", "at once", "CPU ms for each answer, by process", "QPay's share", "without it"]
    note = (
        "*Without it* is arithmetic, not a measurement: rate × all CPU ÷ (all CPU − QPay's), which is what "
        "the same processors would give if QPay ran elsewhere and they were the only bound.\n"
    )
    return _section("CPU", columns, rows, note)


def _memory(results: Results) -> str:
    rows = [[kind, name, f"{used / MIB:.0f}"] for (kind, name), used in results.memory.items()]
    return _section("Peak memory", ["database", "process", "MiB"], rows)


def _section(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> str:
    if not rows:
        return ""
    return "\n".join([f"## {title}", "", *_table(columns, rows), "", *([note] if note else [])])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    yield _line(columns, widths)
    yield _line(["-" * width for width in widths], widths)
    for row in rows:
        yield _line(row, widths)


def _line(cells: Iterable[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
