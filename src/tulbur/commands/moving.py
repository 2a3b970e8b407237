"""`tulbur import` and `tulbur rescue`: progress for a person, the report for both."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tulbur.commands.showing import one_line, out
from tulbur.importer.choosing import driver, open_source
from tulbur.importer.moving import Move
from tulbur.importer.report import Report
from tulbur.importer.rescuing import account, rescue_all
from tulbur.importer.sources import Source
from tulbur.wiring import Tulbur

SHOWN_PROBLEMS: Final = 50
"""Problems printed for a person; `--json` holds them all."""


async def move_in(
    tulbur: Tulbur, url: str, redis_url: str | None, *, dry_run: bool, take_over: bool
) -> Mapping[str, Any]:
    """Import, then take over where that is wanted: the reports of both."""
    desk = tulbur.payments.desk
    async with opened(open_source(url)) as source, _keys(redis_url) as keys:
        move = Move(desk, source, keys, cache_seconds=tulbur.payments.policy.session_ttl_seconds)
        total = await source.count()
        with progress("importing", total) as move.progress:
            reports = [await move.follow(dry_run=dry_run)]
        if take_over and not dry_run:
            with progress("taking over", total) as move.progress:
                reports.append(await move.take_over())
    return await _told(tulbur, reports, dry_run=dry_run)


async def rescue(tulbur: Tulbur, *, dry_run: bool, per_second: float) -> Mapping[str, Any]:
    """Ask QPay about what the old shop left, at most `per_second` questions: the report and the account."""

    async def pause() -> None:
        await asyncio.sleep(1 / per_second)

    with progress("asking QPay", None) as told:
        report = await rescue_all(tulbur.payments.desk, pause=pause, dry_run=dry_run, progress=told)
    return await _told(tulbur, [report], dry_run=dry_run)


async def _told(tulbur: Tulbur, reports: list[Report], *, dry_run: bool) -> Mapping[str, Any]:
    total = await account(tulbur.payments.desk)
    return {
        "dry_run": dry_run,
        "ok": total.balances and all(report.fine for report in reports),
        "reports": [report.as_json() for report in reports],
        "account": total.as_json(),
    }


@contextlib.asynccontextmanager
async def opened(source: Source) -> AsyncIterator[Source]:
    await source.start()
    try:
        yield source
    finally:
        await source.stop()


@contextlib.asynccontextmanager
async def _keys(url: str | None) -> AsyncIterator[Any]:
    if url is None:
        yield None
        return
    with driver("redis"):
        from tulbur.importer.keys import RedisKeys  # noqa: PLC0415 - of an extra
    keys = RedisKeys(url)
    await keys.start()
    try:
        yield keys
    finally:
        await keys.stop()


@contextlib.contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, silence elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _rows: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda rows: bar.update(task, completed=rows)


def print_move(found: Mapping[str, Any]) -> None:
    """The reports as tables, and what a person has to look at."""
    for report in found["reports"]:
        print_report(report)
    total = found["account"]
    table = Table("old status", "where it stands now", "sessions", title="all sessions from the old shop")
    for status, states in total["by_status"].items():
        for state, count in states.items():
            table.add_row(status, state, str(count))
    out.print(table)
    parts = ", ".join(f"{name.replace('_', ' ')} {amount}" for name, amount in total["received_at_qpay"].items())
    out.print(f"money seen at QPay: {parts}; {_sums(total['balances'])}", markup=False)


def print_report(report: Mapping[str, Any]) -> None:
    table = Table("old status", "what was done", "rows", title=report["step"])
    for status, lines in report["by_status"].items():
        for what, count in lines.items():
            table.add_row(status, what, str(count))
    for why, count in report["skipped"].items():
        table.add_row("-", f"skipped: {why}", str(count))
    out.print(table)
    out.print(f"{report['read']} rows read; {_sums(report['balances'])}", markup=False)
    for problem in report["problems"][:SHOWN_PROBLEMS]:
        out.print(one_line(f"  {problem['id'] or '-'}  {problem['what']}  {problem['why']}"), markup=False)
    left = report["for_a_person"] - SHOWN_PROBLEMS
    if left > 0:
        out.print(f"  … and {left} more; --json holds them", markup=False)


def _sums(balance: object) -> str:
    return "the sums balance" if balance else "THE SUMS DO NOT BALANCE"
