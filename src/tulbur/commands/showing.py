"""What commands show a person: tables, steps, findings; or the same as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tulbur.core.session import ExceptionName, Status
from tulbur.errors import Invalid, SettingsError
from tulbur.ports import SessionQuery

if TYPE_CHECKING:
    from tulbur.commands.demo import Demo
    from tulbur.commands.drill import Outcome, Step
    from tulbur.settings import Settings
    from tulbur.wiring import Tulbur

out = Console(highlight=False, soft_wrap=True)


def one_line(text: str) -> str:
    """What somebody else chose, such as an old shop's id: it ends no line of ours and says nothing to the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def cell(text: str) -> Text:
    """The same in a table, where square brackets would be markup."""
    return Text(one_line(text))


# --- demo and drill --------------------------------------------------------------------------------------------------


def show_demo(*, as_json: bool) -> bool:
    """Run the private demo; True when exactly one order set exists."""
    from tulbur.telemetry import configure_logging  # noqa: PLC0415

    configure_logging("ERROR", "console")
    return asyncio.run(_private_drill(as_json=as_json))


async def _private_drill(*, as_json: bool) -> bool:
    from tulbur.commands.demo import running  # noqa: PLC0415

    started = time.monotonic()
    async with running() as demo:
        if not as_json:
            took = time.monotonic() - started
            out.print(f"[bold]tulbur demo[/bold]: service {demo.base_url}, simulated QPay {demo.simulator_url}")
            out.print(f"  {'start simulator and service':32} {took:6.2f} s  SQLite, in-process cache, real HTTP")
        return await _drill(demo.base_url, demo.api_key, demo.simulator_url, as_json=as_json)


def show_drill(url: str, api_key: str, simulator: str, *, as_json: bool) -> bool:
    """Drill a running deployment; True when it did what it must."""
    return asyncio.run(_drill(url, api_key, simulator, as_json=as_json))


async def _drill(url: str, api_key: str, simulator: str, *, as_json: bool) -> bool:
    from tulbur.commands.drill import Drill  # noqa: PLC0415

    outcome = await Drill(url, api_key, simulator, _ignore if as_json else _print_step).run()
    if as_json:
        print_json(asdict(outcome))
    else:
        _print_outcome(outcome)
    return outcome.ok


def _ignore(step: Step) -> None:
    del step


def _print_step(step: Step) -> None:
    out.print(f"  {step.name:32} {step.seconds:6.2f} s  {step.detail}", markup=False)


def _print_outcome(outcome: Outcome) -> None:
    table = Table("what must be", "what is", "", title="one late payment, no cache entry")
    rows = [
        ("the session is paid", outcome.status or "-", outcome.status == "PAID"),
        ("its exception is named", ", ".join(outcome.exceptions) or "-", "late" in outcome.exceptions),
        ("the database had it", f"{outcome.loaded_from_database} load", outcome.loaded_from_database > 0),
        ("one order set", f"{len(outcome.order_ids)} order", outcome.ok),
    ]
    for what, is_, fine in rows:
        table.add_row(what, is_, "[green]ok[/green]" if fine else "[red]no[/red]")
    out.print(table)
    if outcome.problem:
        out.print("[red]failed[/red]:", end=" ")
        out.print(outcome.problem, markup=False)


def serve_demo(*, port: int | None, as_json: bool) -> None:
    """The demo's parts, staying up until interrupted."""
    from tulbur.telemetry import configure_logging  # noqa: PLC0415

    configure_logging("WARNING", "console")
    asyncio.run(_serve_demo(port=port, as_json=as_json))


async def _serve_demo(*, port: int | None, as_json: bool) -> None:
    from tulbur.commands.demo import running  # noqa: PLC0415

    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    port, simulator_port = (8080, 8765) if port is None else (port, 0)
    try:
        async with running(port=port, simulator_port=simulator_port) as demo:
            addresses = await _addresses(demo)
            if as_json:
                print_json(addresses)
            else:
                out.print("[bold]tulbur demo[/bold], until Ctrl-C:")
                for name, value in addresses.items():
                    out.print(f"  {name.replace('_', ' '):14} {value}", markup=False)
            await told.wait()
    except OSError as taken:
        raise SettingsError(f"{taken}; `tulbur demo --serve --port 0` takes free ports.") from None


async def _addresses(demo: Demo) -> Mapping[str, str | None]:
    session = await demo.tulbur.open(
        user_id="demo",
        amount="50000",
        description="tulbur demo",
        items=[{"shop_id": "tea-shop", "product_id": "tea", "title": "Цай", "quantity": 2, "unit_price": "25000"}],
    )
    invoice_id = session.invoice.id if session.invoice else ""
    return {
        "base_url": demo.base_url,
        "simulator_url": demo.simulator_url,
        "api_key": demo.api_key,
        "session_id": session.id,
        "checkout_url": session.checkout_url,
        "bank_url": f"{demo.simulator_url}/bank/{invoice_id}",
        "docs_url": f"{demo.base_url}/docs",
        "console_url": None,
    }


# --- sessions and stats ----------------------------------------------------------------------------------------------


def session_query(
    *,
    limit: int,
    status: str | None = None,
    exception: str | None = None,
    user_id: str | None = None,
    cursor: str | None = None,
) -> SessionQuery:
    """The query a person typed.

    Raises:
        SettingsError: a status or exception that does not exist, or a cursor that is not one.
    """
    from tulbur.web.queries import read_cursor  # noqa: PLC0415

    try:
        position = read_cursor(cursor) if cursor else None
    except Invalid as wrong:
        raise SettingsError(wrong.message) from None
    try:
        return SessionQuery(
            status=Status(status.upper()) if status else None,
            exception=ExceptionName(exception) if exception else None,
            user_id=user_id,
            cursor=position,
            limit=limit,
        )
    except ValueError as wrong:
        raise SettingsError(
            f"{wrong}; statuses are {', '.join(Status)}, exceptions {', '.join(ExceptionName)}."
        ) from None


async def session_page(tulbur: Tulbur, query: SessionQuery) -> Mapping[str, Any]:
    """A page of sessions in the shape of `GET /v1/sessions`."""
    from tulbur.web.queries import next_cursor  # noqa: PLC0415
    from tulbur.web.shapes import session_shape  # noqa: PLC0415

    found = await tulbur.store.find(query)
    items = [session_shape(s, tulbur.links).model_dump(mode="json") for s in found]
    return {"items": items, "next_cursor": await next_cursor(tulbur.store, query, found)}


def print_sessions(page: Mapping[str, Any]) -> None:
    table = Table("id", "status", "exceptions", "amount", "user", "created")
    for s in page["items"]:
        id_, user = cell(s["id"]), cell(s["user_id"])
        table.add_row(id_, s["status"], " ".join(s["exceptions"]), s["amount"], user, s["created_at"])
    out.print(table)
    if page["next_cursor"]:
        out.print(f"There are more: --cursor {page['next_cursor']}", markup=False)


def print_session(session: Mapping[str, Any]) -> None:
    for line in _of_session(session):
        out.print(one_line(line), markup=False)


def _of_session(session: Mapping[str, Any]) -> Iterator[str]:
    for name in ("id", "status", "amount", "received", "held", "refund_due", "refunded", "user_id", "created_at"):
        yield f"{name:14} {session[name]}"
    for name in ("expires_at", "paid_at", "cancelled_at", "last_check_at", "checkout_url"):
        yield f"{name:14} {session[name] or '-'}"
    yield f"{'exceptions':14} {' '.join(session['exceptions']) or '-'}"
    for payment in session["payments"]:
        yield f"payment        {payment['id']} {payment['amount']} {payment['status']}"
        for refund in payment["refunds"]:
            reference = f" reference {refund['reference']}" if refund["reference"] else ""
            said = f"{refund['amount']} by {refund['way']}, {refund['state']} ({refund['by']})"
            yield f"  refund       {said}{reference}"
    for order in session["orders"]:
        yield f"order          {order['id']} shop {order['shop_id'] or '-'} {order['total']}"


async def store_stats(settings: Settings) -> Mapping[str, Any]:
    """The counts in the shape of `GET /v1/stats`."""
    from tulbur.commands.migrating import require_database  # noqa: PLC0415
    from tulbur.web.shapes import stats_shape  # noqa: PLC0415
    from tulbur.wiring import now, open_store  # noqa: PLC0415

    require_database(settings)

    store = open_store(settings)
    await store.start()
    try:
        return stats_shape(await store.stats(now()), with_rate=True).model_dump(mode="json")
    finally:
        await store.stop()


def print_stats(stats: Mapping[str, Any]) -> None:
    table = Table("figure", "value")
    for name, count in stats["by_status"].items():
        table.add_row(f"sessions {name}", str(count))
    for name, count in stats["by_exception"].items():
        table.add_row(f"exception {name}", str(count))
    for name in ("sessions", "created_24h", "orders", "checks_due", "events_undelivered", "events_parked"):
        table.add_row(name.replace("_", " "), str(stats[name]))
    table.add_row("payments without a session", str(stats["unmatched"]))
    table.add_row("refund due", f"{stats['refund_due']['amount']} ({stats['refund_due']['count']})")
    table.add_row("held", f"{stats['held']['amount']} ({stats['held']['count']})")
    table.add_row("swept until (UTC)", (stats["swept_until"] or "never")[:16].replace("T", " "))
    for name, count in stats["loads"].items():
        table.add_row(f"callbacks, session from {name}", str(count))
    rate = stats["fallback_rate"]
    table.add_row("fallback rate", "-" if rate is None else f"{rate:.1%} (normal under 5 %, high over 20 %)")
    out.print(table)


# --- doctor ----------------------------------------------------------------------------------------------------------


_FINE = {False: "[green]ok     [/green]", True: "[yellow]note   [/yellow]"}


async def show_doctor(settings: Settings, *, as_json: bool) -> bool:
    """Print every finding as it is made; True when all is well."""
    from tulbur.commands.doctor import examine  # noqa: PLC0415

    findings = []
    async for finding in examine(settings):
        findings.append(finding)
        if not as_json:
            mark = "[red]problem[/red]" if not finding.ok else _FINE[bool(finding.remedy)]
            out.print(f"{mark} {finding.check:14}", end=" ")
            out.print(finding.detail + (f" -> {finding.remedy}" if finding.remedy else ""), markup=False)
    ok = all(finding.ok for finding in findings)
    if as_json:
        print_json({"ok": ok, "checks": [asdict(finding) for finding in findings]})
    return ok


def print_json(value: object) -> None:
    """One line, written at once: whoever reads a pipe waits for it."""
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(value, ensure_ascii=False, default=str), flush=True)  # noqa: T201 - the answer itself
