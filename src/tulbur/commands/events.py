"""Events at the operator's desk: which there are, which are parked, and sending those of a time again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table

from tulbur.commands.showing import cell, out
from tulbur.errors import Invalid, SettingsError
from tulbur.payments.delivering import replay_events
from tulbur.web.queries import read_time
from tulbur.web.shapes import event_shape
from tulbur.wiring import now

if TYPE_CHECKING:
    from tulbur.core.session import Micros
    from tulbur.wiring import Tulbur

NOBODY = "WEBHOOK_URL is not set: nobody would send them; set it, or read them at GET /v1/events."


def time_of(option: str, text: str) -> Micros:
    """A time a person typed.

    Raises:
        SettingsError: it is none.
    """
    try:
        return read_time(text)
    except Invalid as wrong:
        raise SettingsError(f"{option} {wrong.message}.") from None


async def page(tulbur: Tulbur, *, parked: bool, after: int, limit: int) -> Mapping[str, Any]:
    """Numbered events in the shape of `GET /v1/events`, each with its failed deliveries since the last replay."""
    read = tulbur.store.parked if parked else tulbur.store.events
    found = await read(after, limit)
    more = len(found) == limit and await read(found[-1].no, 1)
    items = [event_shape(one).model_dump(mode="json") | {"attempts": one.attempts} for one in found]
    return {"items": items, "next_cursor": str(found[-1].no) if more else None}


def print_page(shown: Mapping[str, Any]) -> None:
    table = Table("no", "at", "type", Column("session", overflow="fold"), Column("id", overflow="fold"), "failed")
    for one in shown["items"]:
        table.add_row(str(one["no"]), one["at"], one["type"], cell(one["session_id"]), one["id"], str(one["attempts"]))
    out.print(table)
    if shown["next_cursor"]:
        out.print(f"There are more: --after {shown['next_cursor']}", markup=False)


async def replay(tulbur: Tulbur, *, since: Micros, before: Micros | None, parked_only: bool) -> Mapping[str, Any]:
    """Have events of that time sent again, by whichever process does background work.

    Raises:
        SettingsError: nobody would send them.
    """
    if tulbur.settings.webhook() is None:
        raise SettingsError(NOBODY)
    until = now() if before is None else before
    count = await replay_events(tulbur.store, since=since, before=until, parked_only=parked_only)
    return {"replayed": count}
