"""What lists are asked for: filters, pages and opaque cursors, each refused when it makes no sense."""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, TypeAlias

from fastapi import Depends, Header, Query
from pydantic import AfterValidator
from starlette.requests import Request

from tulbur.core.session import ExceptionName, Micros, Session, Status
from tulbur.errors import Invalid, NotFound
from tulbur.ports import MOST_ROWS, SessionQuery, Store
from tulbur.web.fields import Id, plain

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+ -]\d\d:\d\d)")
_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LARGEST: Final = 2**63 - 1
_LONGEST_ID: Final = 100


def _time(text: str) -> str:
    _micros(text)
    return text


def read_time(text: str) -> Micros:
    """A time as RFC 3339 writes it.

    Raises:
        Invalid: it is none.
    """
    try:
        return _micros(text)
    except ValueError as wrong:
        raise Invalid(str(wrong)) from None


def _micros(text: str) -> Micros:
    wrong = ValueError("must be a time such as 2026-01-31T08:00:00Z")
    if not _TIME.fullmatch(text):
        raise wrong
    try:
        # A plus sign that was not escaped arrives as a space.
        at = datetime.fromisoformat(text.upper().replace(" ", "+"))
        return (at - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise wrong from None


StatusFilter: TypeAlias = Annotated[Status | None, Query()]
ExceptionFilter: TypeAlias = Annotated[ExceptionName | None, Query()]
UserFilter: TypeAlias = Annotated[Id | None, Query()]
TimeFilter: TypeAlias = Annotated[
    str | None, AfterValidator(lambda text: text and _time(text)), Query(description="RFC 3339", max_length=40)
]
Cursor: TypeAlias = Annotated[str | None, Query(description="the `next_cursor` of the page before", max_length=300)]
Limit: TypeAlias = Annotated[int, Query(ge=1, le=MOST_ROWS)]
After: TypeAlias = Annotated[int, Query(ge=0, le=_LARGEST, description="the `no` of the last event seen")]
SessionFilter: TypeAlias = Annotated[str, Query(min_length=1, max_length=_LONGEST_ID), AfterValidator(plain)]
IdempotencyKey: TypeAlias = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="up to 255 printable ASCII characters; the same key and body give the same session",
    ),
]


def session_query(
    status: StatusFilter = None,
    exception: ExceptionFilter = None,
    user_id: UserFilter = None,
    created_after: TimeFilter = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> SessionQuery:
    return SessionQuery(
        status=status,
        exception=exception,
        user_id=user_id,
        created_after=None if created_after is None else _micros(created_after),
        cursor=None if cursor is None else read_cursor(cursor),
        limit=limit,
    )


def cursor_of(session: Session) -> str:
    """Where the page after this session starts."""
    return urlsafe_b64encode(f"{session.created_at}:{session.id}".encode()).decode().rstrip("=")


async def next_cursor(store: Store, query: SessionQuery, found: Sequence[Session]) -> str | None:
    """A full page may be the last one: only a look behind it tells."""
    if len(found) < query.limit:
        return None
    last = found[-1]
    behind = replace(query, cursor=(last.created_at, last.id), limit=1)
    return cursor_of(last) if await store.find(behind) else None


def read_cursor(cursor: str) -> tuple[Micros, str]:
    """Read what `cursor_of` wrote.

    Raises:
        Invalid: something else.
    """
    wrong = Invalid(
        "cursor: must be the next_cursor of a page", fields=[("cursor", "must be the next_cursor of a page")]
    )
    try:
        text = urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)).decode()
        at, _, session_id = text.partition(":")
        if not re.fullmatch(r"-?[0-9]{1,18}", at) or not 0 < len(session_id) <= _LONGEST_ID:
            raise wrong
        return int(at), plain(session_id)
    except (ValueError, binascii.Error):
        raise wrong from None


def path_id(text: str) -> str:
    """An id from a path; one that cannot be stored is one that does not exist.

    Raises:
        NotFound
    """
    if not 0 < len(text) <= _LONGEST_ID or not text.isprintable() or "\ufffd" in text:
        raise NotFound
    return text


def idempotency_key(request: Request) -> str | None:
    """The Idempotency-Key of a request.

    Raises:
        Invalid: given twice, empty, too long, or not printable ASCII.
    """
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        message = "must be given once, as 1 to 255 printable ASCII characters"
        raise Invalid(f"Idempotency-Key: {message}", fields=[("Idempotency-Key", message)])
    return given[0]


async def no_repeats(request: Request) -> None:
    """A query parameter given twice has no meaning.

    Raises:
        Invalid
    """
    names = [name for name, _ in request.query_params.multi_items()]
    if len(names) != len(set(names)):
        raise Invalid("the query names a parameter twice")


Once: TypeAlias = Annotated[None, Depends(no_repeats)]
