"""The HTTP API under /v1: each route reads its request, calls one use case, and shapes the answer."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from tulbur.errors import NotFound
from tulbur.payments.explaining import explain_session
from tulbur.ports import MOST_ROWS, SessionQuery
from tulbur.web.answering import Parts, as_json, as_session
from tulbur.web.auth import Reader, Writer
from tulbur.web.body import read_object
from tulbur.web.openapi import body, problems
from tulbur.web.queries import (
    After,
    IdempotencyKey,
    Limit,
    Once,
    SessionFilter,
    idempotency_key,
    next_cursor,
    path_id,
    session_query,
)
from tulbur.web.shapes import (
    Event,
    Page,
    Session,
    SessionOpen,
    Stats,
    StoredOrder,
    body_digest,
    event_shape,
    open_request,
    session_shape,
    stats_shape,
    stored_order_shape,
)
from tulbur.web.why import story_shape
from tulbur.web.why_models import Why

router: Final = APIRouter(prefix="/v1")


Query: TypeAlias = Annotated[SessionQuery, Depends(session_query)]


# --- sessions --------------------------------------------------------------------------------------------------------


@router.post(
    "/sessions",
    status_code=201,
    response_model=Session,
    responses=problems(400, 413, 409, 422, 502, 503),
    openapi_extra=body("SessionOpen"),
    tags=["sessions"],
    summary="Open a session",
    response_description="The session, with its invoice",
)
async def open_session(request: Request, parts: Parts, key: Writer, _: IdempotencyKey = None) -> Response:
    """Stores the checkout and asks QPay for its invoice.

    With an `Idempotency-Key` the request can be repeated: the same key and body answer 201 with the session as it is
    now, another body 422, and 409 while the first request is still running. On 502 the session is stored, and
    `session_id` names it: repeat with the same key.
    """
    idempotency = idempotency_key(request)
    asked = SessionOpen.parse(await read_object(request))
    session = await parts.payments.open(
        open_request(
            asked,
            scope=key.name,
            idempotency_key=idempotency,
            digest=body_digest(asked),
            policy=parts.policy,
        )
    )
    return as_session(parts, session, 201)


@router.get(
    "/sessions",
    response_model=Page[Session],
    responses=problems(422, 503),
    tags=["sessions"],
    summary="List sessions, newest first",
    response_description="A page of sessions",
)
async def list_sessions(parts: Parts, _: Reader, __: Once, query: Query) -> Response:
    found = await parts.store.find(query)
    return as_json(
        Page[Session](
            items=tuple(session_shape(session, parts.links, draw_qr=False) for session in found),
            next_cursor=await next_cursor(parts.store, query, found),
        )
    )


@router.get(
    "/sessions/{session_id}",
    response_model=Session,
    responses=problems(404, 503),
    tags=["sessions"],
    summary="Read a session",
    response_description="The session",
)
async def get_session(session_id: str, parts: Parts, _: Reader) -> Response:
    return as_session(parts, await parts.payments.get(path_id(session_id)))


@router.get(
    "/sessions/{session_id}/why",
    response_model=Why,
    responses=problems(404, 503),
    tags=["sessions"],
    summary="The whole story of a session",
    response_description="Where it stands and what to do, then what happened, when and because of whom",
)
async def why_session(session_id: str, parts: Parts, _: Reader) -> Response:
    """What `tulbur why` tells: read from the database, QPay is not asked. No cart, address or note is in it."""
    return as_json(story_shape(await explain_session(parts.payments.desk, path_id(session_id))))


@router.post(
    "/sessions/{session_id}/cancel",
    response_model=Session,
    responses=problems(404, 409, 502, 503),
    tags=["sessions"],
    summary="Cancel a session",
    response_description="The session as it is now",
)
async def cancel_session(session_id: str, parts: Parts, key: Writer) -> Response:
    """Looks for money once more, then cancels the invoice at QPay.

    A session that is paid answers 409 `already_paid`; one that is cancelled or expired already answers 200 and stays
    as it is. When QPay cannot be reached the answer is 502 and nothing has changed.
    """
    return as_session(parts, await parts.payments.cancel(path_id(session_id), by=key.name))


@router.post(
    "/sessions/{session_id}/check",
    response_model=Session,
    responses=problems(404, 502, 503),
    tags=["sessions"],
    summary="Ask QPay now",
    response_description="The session as it is now",
)
async def check_session(session_id: str, parts: Parts, key: Writer) -> Response:
    """Asks QPay whether the session is paid, at most once per 10 seconds; too early answers the stored state."""
    return as_session(parts, await parts.payments.check(path_id(session_id), by=key.name))


# --- orders, events, counts ------------------------------------------------------------------------------------------


@router.get(
    "/orders",
    response_model=Page[StoredOrder],
    responses=problems(422, 503),
    tags=["orders"],
    summary="The orders of a session",
    response_description="Its orders, one for each shop",
)
async def list_orders(parts: Parts, _: Reader, __: Once, session_id: SessionFilter) -> Response:
    stored = await parts.store.get(session_id)
    orders = stored.orders if stored else ()
    items = tuple(stored_order_shape(session_id, order) for order in orders)
    return as_json(Page[StoredOrder](items=items, next_cursor=None))


@router.get(
    "/orders/{order_id}",
    response_model=StoredOrder,
    responses=problems(404, 503),
    tags=["orders"],
    summary="Read an order",
    response_description="The order",
)
async def get_order(order_id: str, parts: Parts, _: Reader) -> Response:
    found = await parts.store.order(path_id(order_id))
    if found is None:
        raise NotFound("there is no such order")
    return as_json(stored_order_shape(*found))


@router.get(
    "/events",
    response_model=Page[Event],
    responses=problems(422, 503),
    tags=["events"],
    summary="What happened, in order",
    response_description="A page of events",
)
async def list_events(
    parts: Parts, _: Reader, __: Once, after: After = 0, cursor: After = 0, limit: Limit = 50
) -> Response:
    """Events with a number greater than `after`; pass the last `no` as the next `after`, and none is missed.

    `next_cursor` is that number while there are more; `cursor` takes it as every list does.
    """
    after = max(after, cursor)
    await parts.store.publish(MOST_ROWS, deliver=parts.delivering)
    found = await parts.store.events(after, limit)
    more = len(found) == limit and await parts.store.events(found[-1].no, 1)
    items = tuple(event_shape(event) for event in found)
    return as_json(Page[Event](items=items, next_cursor=str(found[-1].no) if more else None))


@router.get(
    "/stats",
    response_model=Stats,
    responses=problems(503),
    tags=["operations"],
    summary="Counts",
    response_description="The counts",
)
async def get_stats(parts: Parts, _: Reader) -> Response:
    """Counts over everything stored. This process's own pending counts are added first."""
    now = parts.clock()
    await parts.telemetry.flush(parts.store, now)
    return as_json(stats_shape(await parts.store.stats(now), with_rate=parts.shared_cache_or_single))
