"""`tulbur cleanup`: one run of retention, and its report."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from shlex import quote
from typing import Any, Final

from rich.table import Table

from tulbur.commands.showing import one_line, out
from tulbur.payments.cleaning import clean, would_clean
from tulbur.wiring import Tulbur

PAUSE_SECONDS: Final = 0.02
"""After each batch, so that callbacks get their turn."""


async def run(tulbur: Tulbur, *, dry_run: bool) -> Mapping[str, Any]:
    """Clean, or tell what that would do. `ok` is False when something was left that a person should know of."""

    async def pause() -> None:
        await asyncio.sleep(PAUSE_SECONDS)

    desk, keep = tulbur.payments.desk, tulbur.keep
    report = await (would_clean(desk, keep) if dry_run else clean(desk, keep, pause=pause))
    ok = not report.waits and (dry_run or not (report.stuck or report.unreadable))
    return {"ok": ok, "retention_days": keep.retention_days, "late_days": keep.late_days, **asdict(report)}


def print_report(report: Mapping[str, Any]) -> None:
    title = "what a run would do" if report["dry_run"] else "what was done"
    table = Table("", "", title=title)
    rows = (
        (f"PAID for more than {report['retention_days']} days: blanked", report["paid"]),
        (f"EXPIRED or CANCELLED for more than {report['late_days']} days: blanked", report["late"]),
        ("their open invoices: cancelled at QPay", report["cancelled"]),
        ("invoices that QPay would not cancel", report["left_open"]),
        ("QPay says that money came: looked at, not blanked", report["asked_again"]),
        ("PENDING past their time, and nobody looked: expired", report["expired"]),
        ("PENDING past their time, and nobody looks", len(report["stuck"])),
        ("closed payments without a session: QPay's raw answer taken out", report["answers"]),
        ("sessions that this release cannot read: left whole", len(report["unreadable"])),
    )
    for what, count in rows:
        table.add_row(what, str(count))
    out.print(table)
    for session_id in report["stuck"]:
        out.print(one_line(f"  {session_id}  -> tulbur sessions check {quote(session_id)}"), markup=False)
    for session_id in report["unreadable"]:
        said = f"  {session_id}  cannot be read: a later release wrote it, or it is damaged"
        out.print(one_line(said), markup=False)
    if report["waits"]:
        out.print(f"some have to wait: {report['waits']}; run it again later", markup=False)
    if report["more"]:
        out.print("there are more: run it again", markup=False)
    out.print("sessions with money held or due back, and those of the old shop, are never touched", markup=False)
