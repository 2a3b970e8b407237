"""`why`: from any id to everything that is stored of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tulbur.core.session import Event, Session
from tulbur.errors import NotFound
from tulbur.payments.desk import Desk
from tulbur.ports import EventDelivery, Unmatched

MOST_EVENTS: Final = 200
"""Lines of history that are told; a session has a dozen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What is stored of an id, which is `kind` of thing: a session with its history, or a payment without one.

    `cut`: there is more history. `deliveries`: how far the shop was told of its public events.
    """

    id: str
    kind: str
    session: Session | None = None
    history: tuple[Event, ...] = ()
    cut: bool = False
    deliveries: tuple[EventDelivery, ...] = ()
    unmatched: Unmatched | None = None


async def explain(desk: Desk, id_: str) -> Story:
    """The story of a session, order, invoice, invoice number, payment or event; read from the database, never asked.

    Raises:
        NotFound: nothing that is stored has this id.
    """
    found = await _session(desk, id_)
    if found is None:
        unmatched = await desk.store.unmatched_payment(id_)
        if unmatched is None:
            raise NotFound("nothing stored here has this id: no session, order, invoice, payment or event")
        return Story(id=id_, kind="payment without a session", unmatched=unmatched)
    kind, session = found
    return await _of_session(desk, id_, kind, session)


async def explain_session(desk: Desk, session_id: str) -> Story:
    """The story of a session by its own id.

    Raises:
        NotFound: there is no such session.
    """
    return await _of_session(desk, session_id, "session", await desk.stored(session_id))


async def _of_session(desk: Desk, id_: str, kind: str, session: Session) -> Story:
    history = await desk.store.history(session.id, MOST_EVENTS)
    return Story(
        id=id_,
        kind=kind,
        session=session,
        history=tuple(history),
        cut=session.event_count > len(history),
        deliveries=tuple(await desk.store.deliveries(session.id, MOST_EVENTS)),
    )


async def _session(desk: Desk, id_: str) -> tuple[str, Session] | None:
    store = desk.store
    for kind, find in (("session", store.get), ("payment", store.by_payment), ("invoice", store.by_invoice)):
        session = await find(id_)
        if session is not None:
            return kind, session
    order = await store.order(id_)
    owner = order[0] if order else await store.owner_of(id_)
    session = await store.get(owner) if owner else None
    if session is None:
        return None
    return "order" if order else "event" if id_.startswith("evt_") else "invoice number", session
