"""The routes of people who decide about money; what is recorded as their name is the API key's."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from fastapi import APIRouter
from fastapi import Query as Parameter
from starlette.requests import Request
from starlette.responses import Response

from tulbur.core.money import parse_tugrik
from tulbur.payments import refunding
from tulbur.ports import Disposition
from tulbur.web.answering import Parts, as_json, as_session
from tulbur.web.auth import Reader, Refunder
from tulbur.web.body import read_object
from tulbur.web.models import ListedPayment, Page, Session
from tulbur.web.money_intake import Assign, Close, RefundRequest, Review, refund_key
from tulbur.web.openapi import body, problems
from tulbur.web.queries import Cursor, IdempotencyKey, Limit, Once, idempotency_key, path_id
from tulbur.web.worklist import closed_payment, payment_page

router: Final = APIRouter(prefix="/v1")

DispositionFilter: TypeAlias = Annotated[Disposition | None, Parameter(description="one of them; else each in turn")]


@router.post(
    "/sessions/{session_id}/review",
    response_model=Session,
    responses=problems(400, 404, 409, 413, 422, 502, 503),
    openapi_extra=body("Review"),
    tags=["money"],
    summary="Decide about money that waits",
    response_description="The session as it is now",
)
async def review_session(session_id: str, request: Request, parts: Parts, key: Refunder) -> Response:
    """`accept` makes the orders of the money there is, also where some is missing; `refund` gives all of it back.

    Money that was decided to go back is then `refund_due`, until it is refunded or closed with a reference.
    """
    asked = Review.parse(await read_object(request))
    desk = parts.payments.desk
    after = await refunding.review(desk, path_id(session_id), asked.decision, note=asked.note, by=key.name)
    return as_session(parts, after)


@router.post(
    "/sessions/{session_id}/refunds",
    status_code=201,
    response_model=Session,
    responses=problems(400, 404, 409, 413, 422, 502, 503),
    openapi_extra=body("RefundRequest"),
    tags=["money"],
    summary="Give a payment back",
    response_description="The session, with the refund",
)
async def refund_payment(
    session_id: str, request: Request, parts: Parts, key: Refunder, _: IdempotencyKey = None
) -> Response:
    """QPay gives back the whole of a card payment. Anything else is a person's task: request it, pay, name a reference.

    On 502 `provider_unavailable` QPay was asked and did not say what it did: it is looked at, and never asked again by
    itself. With an `Idempotency-Key` the request can be repeated: the same key and body answer 201 with the session as
    it is now, another body 422. The same `reference` again changes nothing.
    """
    idempotency = idempotency_key(request)
    asked = RefundRequest.parse(await read_object(request))
    after = await refunding.refund(
        parts.payments.desk,
        path_id(session_id),
        asked.payment_id,
        amount=None if asked.amount is None else parse_tugrik(asked.amount),
        reference=asked.reference or "",
        note=asked.note,
        by=key.name,
        key=refund_key(key.name, idempotency, asked),
    )
    return as_session(parts, after, 201)


@router.get(
    "/payments",
    response_model=Page[ListedPayment],
    responses=problems(422, 503),
    tags=["money"],
    summary="The list of work, oldest first",
    response_description="A page of payments that wait for a decision",
)
async def list_payments(
    parts: Parts,
    _: Reader,
    __: Once,
    disposition: DispositionFilter = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Payments without a session, money that is held, money that is due back.

    A payment of which a part is held and another due back is in both lists.
    """
    return as_json(await payment_page(parts.store, disposition, cursor, limit))


@router.post(
    "/payments/{payment_id}/assign",
    response_model=Session,
    responses=problems(400, 404, 409, 413, 422, 502, 503),
    openapi_extra=body("Assign"),
    tags=["money"],
    summary="Give a payment without a session to one",
    response_description="The session as it is now",
)
async def assign_payment(payment_id: str, request: Request, parts: Parts, key: Refunder) -> Response:
    """QPay is asked what the payment is; then it counts like any other of the session. Again, it changes nothing."""
    asked = Assign.parse(await read_object(request))
    desk = parts.payments.desk
    after = await refunding.assign(desk, path_id(payment_id), asked.session_id, note=asked.note, by=key.name)
    return as_session(parts, after)


@router.post(
    "/payments/{payment_id}/close",
    response_model=ListedPayment,
    responses=problems(400, 404, 409, 413, 422, 502, 503),
    openapi_extra=body("Close"),
    tags=["money"],
    summary="A person is done with a payment",
    response_description="The payment as it is now",
)
async def close_payment(payment_id: str, request: Request, parts: Parts, key: Refunder) -> Response:
    """What is due of it was paid back with this `reference`; without a session: it was dealt with elsewhere.

    The same reference again changes nothing, another one is refused; so is money of which nothing is due.
    """
    asked = Close.parse(await read_object(request))
    closed = await refunding.close(
        parts.payments.desk, path_id(payment_id), reference=asked.reference, note=asked.note, by=key.name
    )
    return as_json(closed_payment(closed, payment_id, asked.reference))
