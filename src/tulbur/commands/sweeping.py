"""`tulbur sweep`, `prove` and `recover`: times as they are told in Ulaanbaatar, tables for a person, or JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, Final

from rich.table import Table

from tulbur.commands.moving import progress
from tulbur.commands.showing import out
from tulbur.core.certificate import Certificate, Sums
from tulbur.core.money import format_tugrik
from tulbur.core.schedule import DAY
from tulbur.core.session import Micros
from tulbur.core.sweeping import ULAANBAATAR
from tulbur.errors import SettingsError
from tulbur.payments import certifying, sweeping
from tulbur.ports import MOST_ROWS, SweepRun
from tulbur.wiring import Tulbur

SHOWN: Final = 50
"""Differences printed for a person; `--json` holds them all."""

FORGOTTEN: Final = (
    "what people decided since then is forgotten, and QPay knows nothing of money paid back by hand:"
    " look at the bank's statement before anybody pays back what is due"
)

MOST_DAYS_ASKED: Final = 400
"""How far back a person may sweep at once: each day is a question to QPay, and a wrong year would be a million."""

_FIRST_YEAR, _LAST_YEAR = 2000, 2999
"""Outside these a year is mistyped, and a clock of Ulaanbaatar cannot show each."""

_ZONE: Final = timezone(timedelta(microseconds=ULAANBAATAR), "Asia/Ulaanbaatar")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def moment(given: str, option: str) -> Micros:
    """A time a person typed: a date, or date and time, in Ulaanbaatar unless it names its own zone.

    Raises:
        SettingsError: it is none.
    """
    wrong = SettingsError(f"{option} is a time such as 2026-11-23 or 2026-11-23T14:30, in Ulaanbaatar.")
    try:
        read = datetime.fromisoformat(given.strip())
    except ValueError:
        raise wrong from None
    if not _FIRST_YEAR <= read.year <= _LAST_YEAR:
        raise wrong
    return ((read if read.tzinfo else read.replace(tzinfo=_ZONE)) - _EPOCH) // _MICROSECOND


def day(given: str) -> tuple[Micros, Micros]:
    """A day in Ulaanbaatar, from its midnight to the next.

    Raises:
        SettingsError: it is none.
    """
    wrong = SettingsError("--day is a day such as 2026-11-23, in Ulaanbaatar.")
    try:
        at = date.fromisoformat(given.strip())
    except ValueError:
        raise wrong from None
    if not _FIRST_YEAR <= at.year <= _LAST_YEAR:
        raise wrong
    start = (datetime(at.year, at.month, at.day, tzinfo=_ZONE) - _EPOCH) // _MICROSECOND
    return start, start + DAY


def local(at: Micros) -> str:
    return (_EPOCH + timedelta(microseconds=at)).astimezone(_ZONE).isoformat(timespec="seconds")


# --- sweep and recover -----------------------------------------------------------------------------------------------


async def sweep(tulbur: Tulbur, start: str, end: str) -> Mapping[str, Any]:
    first, last = moment(start, "--from"), moment(end, "--to")
    if first >= last:
        raise SettingsError("--from is before --to.")
    if first >= tulbur.payments.desk.clock():
        raise SettingsError("--from is a time that has passed.")
    _refuse_ages(first, min(last, tulbur.payments.desk.clock()), "--from")
    with progress("sweeping", None):
        return _told(await sweeping.sweep(tulbur.payments.desk, first, last, sweeping.OPERATOR))


async def recover(tulbur: Tulbur, since: str) -> Mapping[str, Any]:
    at = moment(since, "--since")
    if at >= tulbur.payments.desk.clock():
        raise SettingsError("--since is a time that has passed.")
    _refuse_ages(at, tulbur.payments.desk.clock(), "--since")
    with progress("recovering", None):
        number = await certifying.number_before(tulbur.payments.desk, at)
        runs, emptied = await sweeping.recover(tulbur.payments.desk, at)
    told = _told(runs)
    return {**told, "ok": told["ok"] and emptied, "cache_emptied": emptied, "events_after": number}


def _refuse_ages(first: Micros, last: Micros, option: str) -> None:
    if last - first > MOST_DAYS_ASKED * DAY:
        raise SettingsError(f"{option}: at most {MOST_DAYS_ASKED} days at once.")


def _told(runs: Sequence[SweepRun]) -> dict[str, Any]:
    fine = all(run.report["seen"] == "all" and not run.report["unmatched_ids"] for run in runs)
    return {"ok": fine, "runs": [run_shape(run) for run in runs]}


def run_shape(run: SweepRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "reason": run.reason,
        "start": local(run.start),
        "end": local(run.end),
        "started_at": local(run.started_at),
        "ended_at": None if run.ended_at is None else local(run.ended_at),
        **run.report,
    }


def print_sweep(found: Mapping[str, Any]) -> None:
    table = Table("payments", "count")
    for name in ("listed", "known", "settled", "waiting", "foreign", "gone", "unclear", "no_money", "failed"):
        table.add_row(name.replace("_", " "), str(sum(run[name] for run in found["runs"])))
    out.print(table)
    for run in found["runs"]:
        seen = f"not all was seen: {run['trouble']}" if run["trouble"] else "all was seen"
        out.print(f"{run['start']} to {run['end']}: {seen}", markup=False)
        for id_ in run["unmatched_ids"]:
            out.print(f"payment {id_} has no session here: its money is found, its cart is not", markup=False)
    if found.get("cache_emptied") is False:
        out.print("the cache could not be emptied: it may show sessions that are no longer there", markup=False)
    if "events_after" in found:
        out.print(f"whoever reads /v1/events goes back to after={found['events_after']}", markup=False)
        out.print(FORGOTTEN, markup=False)


# --- prove -----------------------------------------------------------------------------------------------------------


async def prove(tulbur: Tulbur, given: str) -> Certificate:
    start, end = day(given)
    with progress("proving", None):
        await _numbered(tulbur)
        certificate = await certifying.prove(tulbur.payments.desk, start, end)
    if not certificate.trouble and end > tulbur.payments.desk.clock():
        certificate.trouble = "the day is not over"
    return certificate


async def _numbered(tulbur: Tulbur) -> None:
    """What QPay does not list is found by its events, which have no number yet where no worker runs."""
    deliver = tulbur.settings.webhook() is not None
    for _ in range(certifying.MOST_EVENTS // MOST_ROWS):
        if not await tulbur.store.publish(MOST_ROWS, deliver=deliver):
            return


def certificate_shape(given: str, certificate: Certificate) -> dict[str, Any]:
    return {
        "day": given.strip(),
        "start": local(certificate.start),
        "end": local(certificate.end),
        "proven": certificate.proven,
        "trouble": certificate.trouble,
        "payments": certificate.payments,
        "foreign": certificate.foreign,
        "currencies": {name: _amounts(sums) for name, sums in sorted(certificate.sums.items())},
        "differences": [asdict(difference) for difference in certificate.differences],
    }


def _amounts(sums: Sums) -> dict[str, Any]:
    return {f.name: format_tugrik(getattr(sums, f.name)) for f in fields(sums)} | {"balances": sums.balance}


def print_certificate(shape: Mapping[str, Any]) -> None:
    out.print(f"{shape['day']}, Asia/Ulaanbaatar: {shape['payments']} payments listed", markup=False)
    names = ("listed", "ordered", "refund_due", "refunded", "held", "unmatched", "foreign")
    table = Table("", *shape["currencies"])
    for name in names:
        table.add_row(name.replace("_", " "), *(sums[name] for sums in shape["currencies"].values()))
    balances = ("yes" if sums["balances"] else "no" for sums in shape["currencies"].values())
    table.add_row("balances", *balances)
    out.print(table)
    for difference in shape["differences"][:SHOWN]:
        where = f" (session {difference['where']})" if difference["where"] else ""
        out.print(f"payment {difference['payment_id']}: {difference['what']}{where}", markup=False)
    if len(shape["differences"]) > SHOWN:
        out.print(f"and {len(shape['differences']) - SHOWN} more: --json")
    if shape["trouble"]:
        out.print(f"cannot prove: incomplete: {shape['trouble']}", markup=False)
    out.print("[green]proven[/green]" if shape["proven"] else "[red]not proven[/red]")
