"""The `tulbur` command: one command, one use case. Parts are imported when a command needs them, so help is quick."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from tulbur.errors import Invalid, SettingsError, TulburError

if TYPE_CHECKING:
    from tulbur.settings import Settings
    from tulbur.wiring import Tulbur

T = TypeVar("T")

app = typer.Typer(
    name="tulbur",
    help="Turns every paid QPay invoice into exactly one set of orders.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
keys_app = typer.Typer(help="API keys.", no_args_is_help=True)
sessions_app = typer.Typer(help="Look at sessions, and act on one.", no_args_is_help=True)
events_app = typer.Typer(help="What the shop is told.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
app.add_typer(events_app, name="events")
app.add_typer(sessions_app, name="sessions")
payments_app = typer.Typer(help="Money that waits for a decision, and what to do about it.", no_args_is_help=False)
app.add_typer(payments_app, name="payments")


class Decision(StrEnum):
    """What a person may decide about money that waits."""

    ACCEPT = "accept"
    REFUND = "refund"


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Run a command; an error is a sentence, and the exit code 2 for settings and usage, 1 for anything found amiss."""
    try:
        app()
    except SettingsError as wrong:
        _fail(wrong.message, 2)
    except Invalid as wrong:
        _fail(wrong.message, 2)
    except TulburError as error:
        _fail(error.message, 1)


def _fail(message: str, code: int) -> NoReturn:
    for line in message.splitlines():
        typer.echo(f"tulbur: {line}", err=True)
    sys.exit(code)


def _print_json(value: object) -> None:
    from tulbur.commands.showing import print_json  # noqa: PLC0415

    print_json(value)


def _settings() -> Settings:
    from tulbur.settings import Settings  # noqa: PLC0415

    return Settings.from_env()


def _quiet_logs(settings: Settings) -> None:
    from tulbur.telemetry import configure_logging  # noqa: PLC0415

    configure_logging("WARNING", settings.log_format)


def _with_tulbur(work: Callable[[Tulbur], Coroutine[Any, Any, T]]) -> T:
    """Run one use case on the configured deployment, without its worker."""
    from tulbur.commands.migrating import require_database  # noqa: PLC0415
    from tulbur.wiring import Tulbur  # noqa: PLC0415

    async def run() -> T:
        async with Tulbur(settings, worker=False, alone=False) as tulbur:
            return await work(tulbur)

    settings = _settings()
    settings.required()
    require_database(settings)
    _quiet_logs(settings)
    return asyncio.run(run())


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        from tulbur import __version__  # noqa: PLC0415

        typer.echo(f"tulbur {__version__}")
        raise typer.Exit


@app.command()
def demo(
    serve: Annotated[bool, typer.Option("--serve", help="Stay up, to click through it.")] = False,
    port: Annotated[int | None, typer.Option(help="The service's port; 0 takes free ones for both.")] = None,
    as_json: Json = False,
) -> None:
    """The main job, shown: a late payment whose cache entry is gone becomes exactly one order set."""
    from tulbur.commands import showing  # noqa: PLC0415

    if serve:
        showing.serve_demo(port=port, as_json=as_json)
    elif not showing.show_demo(as_json=as_json):
        raise typer.Exit(1)


@app.command()
def drill(
    url: Annotated[str | None, typer.Option(help="The running tulbur.")] = None,
    api_key: Annotated[str | None, typer.Option(help="A key with the scopes read and write.")] = None,
    simulator: Annotated[str | None, typer.Option(help="The simulator it uses as its QPay.")] = None,
    as_json: Json = False,
) -> None:
    """The fallback drill against a running deployment, or a private demo without options."""
    from tulbur.commands import showing  # noqa: PLC0415

    given = (url, api_key, simulator)
    if any(given) and not all(given):
        _fail("--url, --api-key and --simulator belong together; give all three, or none for a private demo.", 2)
    if url and api_key and simulator:
        ok = showing.show_drill(url, api_key, simulator, as_json=as_json)
    else:
        ok = showing.show_demo(as_json=as_json)
    if not ok:
        raise typer.Exit(1)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (PORT).", min=0, max=65535)] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1, max=64)] = 1,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Leave background work to `tulbur worker`.")] = False,
    as_json: Json = False,
) -> None:
    """The service: API, callbacks, checkout page, and background work unless told otherwise."""
    from tulbur.commands import serving  # noqa: PLC0415

    tell = _print_json if as_json else None
    serving.serve(_settings(), host=host, port=port, processes=workers, worker=not no_worker, tell=tell)


@app.command()
def worker(as_json: Json = False) -> None:
    """Background work alone: looks that are due, deadlines, events for the shop."""
    from tulbur.commands import serving  # noqa: PLC0415

    serving.work(_settings(), tell=_print_json if as_json else None)


@app.command()
def simulator(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8765,
    bank_links: Annotated[bool, typer.Option("--bank-links", help="Bank links open the local bank page.")] = False,
    as_json: Json = False,
) -> None:
    """A QPay to develop against, for any language."""
    from tulbur.commands.listening import free_address, url_of  # noqa: PLC0415
    from tulbur.simulator.hosts import RefusedHostError, refuse_qpay_host  # noqa: PLC0415
    from tulbur.simulator.server import serve as serve_simulator  # noqa: PLC0415

    try:
        refuse_qpay_host(host, "to bind to")
        host, port = free_address(host, port)
        if as_json:
            _print_json({"simulator_url": url_of(host, port)})
        serve_simulator(host, port, bank_links=bank_links)
    except RefusedHostError as refused:
        _fail(str(refused), 2)


@app.command()
def migrate(
    action: Annotated[str, typer.Argument(help="up, down or status.", metavar="[up|down|status]")] = "up",
    confirm: Annotated[str | None, typer.Option(help="The database's name, to confirm `down` in scripts.")] = None,
    as_json: Json = False,
) -> None:
    """Bring the database's schema up to date, take it down, or tell where it stands."""
    from tulbur.commands import migrating  # noqa: PLC0415

    if action not in ("up", "down", "status"):
        _fail(f"migrate knows up, down and status, not {action!r}.", 2)
    if action == "down":
        name = migrating.database_name(_settings())
        given = confirm or typer.prompt(f"This removes every tulbur table from {name}. Its name, to confirm")
        if given != name:
            _fail(f"not confirmed: the database's name is {name}.", 2)
    report = migrating.run(_settings(), action)
    if as_json:
        _print_json(report)
    else:
        typer.echo("\n".join(f"{name}: {value}" for name, value in report.items()))


@keys_app.command("new")
def keys_new(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    scopes: Annotated[str, typer.Option(help="Some of read, write, refund, admin, joined by +.")] = "read+write",
    as_json: Json = False,
) -> None:
    """Make an API key: the key once, for its owner, and the hashed setting."""
    from tulbur.commands.keys import make_key  # noqa: PLC0415

    key, setting = make_key(name, scopes)
    if as_json:
        _print_json({"name": name, "key": key, "setting": setting})
        return
    typer.echo(f"key:     {key}\nsetting: {setting}")
    typer.echo("\nGive the key to its owner; it is not stored. Append the setting to TULBUR_API_KEYS (comma list).")


@sessions_app.command("list")
def sessions_list(
    status: Annotated[str | None, typer.Option(help="PENDING, PAID, EXPIRED or CANCELLED.")] = None,
    exception: Annotated[str | None, typer.Option(help="Such as late or underpaid.")] = None,
    user_id: Annotated[str | None, typer.Option(help="One user's sessions.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    as_json: Json = False,
) -> None:
    """The newest sessions."""
    from tulbur.commands import showing  # noqa: PLC0415

    query = showing.session_query(status=status, exception=exception, user_id=user_id, limit=limit, cursor=cursor)
    page = _with_tulbur(lambda t: showing.session_page(t, query))
    if as_json:
        _print_json(page)
    else:
        showing.print_sessions(page)


def _one_session(as_json: bool, work: Callable[[Tulbur], Coroutine[Any, Any, Any]]) -> None:
    from tulbur.commands import showing  # noqa: PLC0415

    session: Mapping[str, Any] = _with_tulbur(work).model_dump(mode="json")
    if as_json:
        _print_json(session)
    else:
        showing.print_session(session)


By = Annotated[str | None, typer.Option("--by", help="Who decides; the operating system's user otherwise.")]
SessionId = Annotated[str, typer.Argument(help="The session's id.")]


@sessions_app.command("show")
def sessions_show(session_id: SessionId, as_json: Json = False) -> None:
    """One session as it is stored."""
    _one_session(as_json, lambda t: t.get(session_id))


@sessions_app.command("check")
def sessions_check(session_id: SessionId, by: By = None, as_json: Json = False) -> None:
    """Ask QPay about one session now, and settle it."""
    from tulbur.core.session import Reason  # noqa: PLC0415
    from tulbur.web.decisions import name_of  # noqa: PLC0415

    _one_session(as_json, lambda t: t.check(session_id, Reason.OPERATOR, by=name_of(by)))


@sessions_app.command("cancel")
def sessions_cancel(session_id: SessionId, by: By = None, as_json: Json = False) -> None:
    """Cancel one session and its invoices at QPay."""
    from tulbur.web.decisions import name_of  # noqa: PLC0415

    _one_session(as_json, lambda t: t.cancel(session_id, by=name_of(by)))


@events_app.command("list")
def events_list(
    parked: Annotated[bool, typer.Option("--parked", help="Those nobody tries to deliver any more.")] = False,
    after: Annotated[int, typer.Option(help="The number of the last event seen.", min=0)] = 0,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    as_json: Json = False,
) -> None:
    """Events in order, oldest first."""
    from tulbur.commands import events  # noqa: PLC0415

    shown = _with_tulbur(lambda t: events.page(t, parked=parked, after=after, limit=limit))
    if as_json:
        _print_json(shown)
    else:
        events.print_page(shown)


@events_app.command("replay")
def events_replay(
    since: Annotated[str, typer.Option(help="Events from this time on, such as 2026-01-31T08:00:00Z.")],
    before: Annotated[str | None, typer.Option(help="And before this one; now otherwise.")] = None,
    parked_only: Annotated[bool, typer.Option("--parked-only", help="Not those the shop has taken already.")] = False,
    as_json: Json = False,
) -> None:
    """Deliver events to WEBHOOK_URL again, each under the id it had; a shop that knows the id ignores it."""
    from tulbur.commands import events  # noqa: PLC0415

    start = events.time_of("--since", since)
    end = events.time_of("--before", before) if before else None
    done = _with_tulbur(lambda t: events.replay(t, since=start, before=end, parked_only=parked_only))
    if as_json:
        _print_json(done)
    else:
        typer.echo(f"{done['replayed']} events will be delivered again")


Note = Annotated[str, typer.Option(help="Why, for whoever reads it later.")]


def _decided(as_json: bool, work: Callable[[Tulbur], Coroutine[Any, Any, Any]]) -> None:
    from tulbur.commands import deciding  # noqa: PLC0415

    session: Mapping[str, Any] = _with_tulbur(work).model_dump(mode="json")
    if as_json:
        _print_json(session)
    else:
        deciding.print_decided(session)


@sessions_app.command("review")
def sessions_review(
    session_id: SessionId,
    decision: Annotated[Decision, typer.Argument(help="accept: make the orders. refund: give the money back.")],
    note: Note = "",
    by: By = None,
    as_json: Json = False,
) -> None:
    """Decide about money that waits: make the orders of what there is, or give it back."""
    _decided(as_json, lambda t: t.review(session_id, decision.value, note=note, by=by))


@sessions_app.command("refund")
def sessions_refund(
    session_id: SessionId,
    payment_id: Annotated[str, typer.Argument(help="The payment's id.")],
    amount: Annotated[str | None, typer.Option(help="Tugrik; all that is due of it otherwise, else all of it.")] = None,
    reference: Annotated[str | None, typer.Option(help="It was paid back by hand, with this reference.")] = None,
    note: Note = "",
    by: By = None,
    as_json: Json = False,
) -> None:
    """Give a payment back: a card's through QPay, any other by hand, then once more with --reference."""
    _decided(as_json, lambda t: t.refund(session_id, payment_id, amount=amount, reference=reference, note=note, by=by))


@payments_app.callback(invoke_without_command=True)
def payments(
    context: typer.Context,
    disposition: Annotated[
        str | None, typer.Option(help="unmatched, held or refund_due; all of them otherwise.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    as_json: Json = False,
) -> None:
    """The list of work: money that is unmatched, held or due back; assign and close are for one payment."""
    if context.invoked_subcommand is not None:
        return
    from tulbur.commands import deciding  # noqa: PLC0415

    page = _with_tulbur(lambda t: t.waiting(disposition, cursor=cursor, limit=limit)).model_dump(mode="json")
    if as_json:
        _print_json(page)
    else:
        deciding.print_payments(page)


PaymentId = Annotated[str, typer.Argument(help="The payment's id, as QPay names it.")]


@payments_app.command("assign")
def payments_assign(
    payment_id: PaymentId, session_id: SessionId, note: Note = "", by: By = None, as_json: Json = False
) -> None:
    """Give a payment without a session to one; QPay is asked what it is."""
    _decided(as_json, lambda t: t.assign(payment_id, session_id, note=note, by=by))


@payments_app.command("close")
def payments_close(
    payment_id: PaymentId,
    reference: Annotated[str, typer.Option(help="By what it can be found again: the bank's, or your own.")],
    note: Note = "",
    by: By = None,
    as_json: Json = False,
) -> None:
    """You are done with a payment: paid back by hand, or, without a session, settled elsewhere."""
    from tulbur.commands import deciding  # noqa: PLC0415

    closed = _with_tulbur(lambda t: t.close(payment_id, reference=reference, note=note, by=by)).model_dump(mode="json")
    if as_json:
        _print_json(closed)
    else:
        deciding.print_closed(closed)


@app.command()
def stats(as_json: Json = False) -> None:
    """Sessions by status and exception, orders, money due back, where callbacks found their session."""
    from tulbur.commands import showing  # noqa: PLC0415

    found = asyncio.run(showing.store_stats(_settings()))
    if as_json:
        _print_json(found)
    else:
        showing.print_stats(found)


@app.command()
def why(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Of a session, order, invoice, payment or event.")],
    as_json: Json = False,
) -> None:
    """The whole story behind an id: where it stands and what to do, then what happened, when and because of whom."""
    from tulbur.commands import why as telling  # noqa: PLC0415
    from tulbur.payments.explaining import explain  # noqa: PLC0415
    from tulbur.web.why import story_shape  # noqa: PLC0415

    story = _with_tulbur(lambda t: explain(t.payments.desk, id_))
    if as_json:
        _print_json(story_shape(story).model_dump(mode="json"))
    else:
        telling.print_story(story)


@app.command()
def cleanup(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done; change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Take cart and personal data out of sessions whose time is over; exit 1 when something had to be left."""
    from tulbur.commands import cleaning  # noqa: PLC0415

    report = _with_tulbur(lambda t: cleaning.run(t, dry_run=dry_run))
    if as_json:
        _print_json(report)
    else:
        cleaning.print_report(report)
    if not report["ok"]:
        raise typer.Exit(1)


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Option("--from", envvar="OLD_DATABASE_URL", help="The old shop's mongodb, postgresql or mysql URL.")
    ],
    redis: Annotated[
        str | None, typer.Option(envvar="OLD_REDIS_URL", help="The old shop's Redis, for sessions it holds alone.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done; change nothing.")] = False,
    take_over: Annotated[bool, typer.Option("--take-over", help="The old shop is stopped: make them ours.")] = False,
    as_json: Json = False,
) -> None:
    """Import the old shop's sessions, held until --take-over; exit 1 when something needs a person."""
    from tulbur.commands import moving  # noqa: PLC0415

    _moved(
        _with_tulbur(lambda t: moving.move_in(t, source, redis, dry_run=dry_run, take_over=take_over)), as_json=as_json
    )


@app.command()
def rescue(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell how many would be asked about.")] = False,
    per_second: Annotated[float, typer.Option(help="Questions to QPay per second.", min=0.01, max=50)] = 5,
    as_json: Json = False,
) -> None:
    """Ask QPay about imported sessions without orders and make the orders of the paid ones, once."""
    from tulbur.commands import moving  # noqa: PLC0415

    _moved(_with_tulbur(lambda t: moving.rescue(t, dry_run=dry_run, per_second=per_second)), as_json=as_json)


@app.command("export-redis")
def export_redis(
    session_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[SESSION_ID]...", help="Only these; all that are pending otherwise.")
    ] = None,
    redis: Annotated[
        str | None, typer.Option(envvar="OLD_REDIS_URL", help="The old shop's Redis; REDIS_URL otherwise.")
    ] = None,
    take_back: Annotated[bool, typer.Option("--take-back", help="Make them ours again, and settle them.")] = False,
    source: Annotated[
        str | None,
        typer.Option("--from", envvar="OLD_DATABASE_URL", help="With --take-back: where the old shop's orders are."),
    ] = None,
    no_orders: Annotated[
        bool,
        typer.Option("--no-orders-there", help="With --take-back: the old shop is stopped, and made no orders."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done; change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Give pending sessions back to the old shop, or take them back from it; exit 1 when something needs a person."""
    from tulbur.commands import going_back  # noqa: PLC0415

    target, ids = redis or _settings().redis_url, session_ids or []
    if target is None:
        _fail("where to? Give the old shop's Redis as --redis, or set REDIS_URL.", 2)
    if no_orders and not take_back:
        _fail("--no-orders-there belongs to --take-back.", 2)
    if take_back and no_orders == (source is not None):
        _fail(going_back.ONE_OF_TWO, 2)
    url = source if take_back else None
    found = _with_tulbur(
        lambda t: (
            going_back.take_back(t, target, url, ids, dry_run=dry_run)
            if take_back
            else going_back.hand_over(t, target, ids, dry_run=dry_run)
        )
    )
    if as_json:
        _print_json(found)
    else:
        going_back.print_found(found)
    if not found["ok"]:
        raise typer.Exit(1)


@app.command()
def sweep(
    start: Annotated[str, typer.Option("--from", help="Such as 2026-11-23 or 2026-11-23T14:30, in Ulaanbaatar.")],
    end: Annotated[str, typer.Option("--to", help="The same; not in it.")],
    as_json: Json = False,
) -> None:
    """Compare QPay's payment list with our records and settle what is missing; exit 1 when not all was seen."""
    from tulbur.commands import sweeping  # noqa: PLC0415

    _swept(_with_tulbur(lambda t: sweeping.sweep(t, start, end)), as_json=as_json)


@app.command()
def recover(
    since: Annotated[str, typer.Option(help="When the backup was made, or a little before; in Ulaanbaatar.")],
    as_json: Json = False,
) -> None:
    """After a restore or a failover: empty our cache, sweep the time since, name the money whose session is gone."""
    from tulbur.commands import sweeping  # noqa: PLC0415

    _swept(_with_tulbur(lambda t: sweeping.recover(t, since)), as_json=as_json)


def _swept(found: Mapping[str, Any], *, as_json: bool) -> None:
    from tulbur.commands import sweeping  # noqa: PLC0415

    if as_json:
        _print_json(found)
    else:
        sweeping.print_sweep(found)
    if not found["ok"]:
        raise typer.Exit(1)


@app.command()
def prove(
    day: Annotated[str, typer.Option(help="A day in Ulaanbaatar, such as 2026-11-23.")],
    as_json: Json = False,
) -> None:
    """The certificate of a day: QPay's list against our records, to the möngö; exit 1 when it does not balance."""
    from tulbur.commands import sweeping  # noqa: PLC0415

    found = sweeping.certificate_shape(day, _with_tulbur(lambda t: sweeping.prove(t, day)))
    if as_json:
        _print_json(found)
    else:
        sweeping.print_certificate(found)
    if not found["proven"]:
        raise typer.Exit(1)


def _moved(found: Mapping[str, Any], *, as_json: bool) -> None:
    from tulbur.commands import moving  # noqa: PLC0415

    if as_json:
        _print_json(found)
    else:
        moving.print_move(found)
    if not found["ok"]:
        raise typer.Exit(1)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check settings, database, schema, cache, QPay login, public URL and clock; exit 1 on a problem."""
    from tulbur.commands import showing  # noqa: PLC0415

    settings = _settings()
    _quiet_logs(settings)
    if not asyncio.run(showing.show_doctor(settings, as_json=as_json)):
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
