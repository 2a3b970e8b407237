"""JSON as QPay writes it, read without loss: numbers keep their text, and what cannot be trusted is not guessed.

QPay mixes numbers and strings freely, so every reader here takes both. Nothing passes through a binary float.
"""

from __future__ import annotations

import contextlib
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Final

from tulbur.core.money import Mongo, parse_tugrik
from tulbur.core.session import Micros
from tulbur.errors import Invalid

RAW_BYTES: Final = 4096
"""Bytes of a payment's row that are kept as evidence."""

ULAANBAATAR: Final = timezone(timedelta(hours=8), "Asia/Ulaanbaatar")
"""QPay's dates without a zone; Mongolia has had no summer time since 2016, so no zone database is needed."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Unreadable(ValueError):
    """QPay's answer does not say what it must say."""


def loads(body: bytes) -> object:
    """Read JSON with every number as a Decimal; NaN and the infinities, which are no JSON, become texts.

    Raises:
        Unreadable: no JSON, no UTF-8, a key twice in one object, or nested without end.
    """
    try:
        return json.loads(
            body.decode("utf-8-sig"),
            parse_float=_number,
            parse_int=_number,
            parse_constant=str,
            object_pairs_hook=_object,
        )
    except (ValueError, RecursionError):
        pass
    # Raised out here, so that the parser's error, which carries the whole text, does not travel along.
    raise Unreadable("the answer cannot be read")


def _number(digits: str) -> Decimal | str:
    try:
        return Decimal(digits)
    except InvalidOperation:  # an exponent beyond all bounds: no amount, and no reason to lose the other rows
        return digits


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise Unreadable("a key appears twice in one object")
    return read


def mapping(value: object) -> dict[str, object]:
    """The object that was expected here.

    Raises:
        Unreadable: it is something else.
    """
    if not isinstance(value, dict):
        raise Unreadable("the answer is no JSON object")
    return value


def text(value: object, longest: int) -> str:
    """A text, or a number by its digits; "" for anything else. Unprintable characters are left out."""
    if isinstance(value, Decimal):
        value = str(value)
    if not isinstance(value, str):
        return ""
    value = value[: longest * 2]
    return (value if value.isprintable() else "".join(filter(str.isprintable, value)))[:longest]


def uncut(value: object, longest: int) -> str:
    """A text that is worthless in part, such as a QR: "" when it is longer than `longest`."""
    found = text(value, longest + 1)
    return found if len(found) <= longest else ""


def word(value: object, longest: int) -> str:
    """A text that decides something, exactly as it came.

    Raises:
        Unreadable: missing, too long, or with characters that cannot be printed.
    """
    found = text(value, longest + 1)
    if not 1 <= len(found) <= longest or found != str(value):
        raise Unreadable("a word is missing or malformed")
    return found


def is_id(value: str) -> bool:
    """Whether QPay could have given this id: a UUID, 15 digits, or whatever else is safe inside a path."""
    return _ID.fullmatch(value) is not None


def identity(value: object) -> str:
    """An id as text; QPay's payment ids may begin with 0, and some answers write them without quotes.

    Raises:
        Unreadable: there is none.
    """
    found = word(value, 64)
    if not is_id(found):
        raise Unreadable("an id is malformed")
    return found


def amount(value: object) -> Mongo:
    """Decimal tugrik, as a number or a text, in möngö.

    Raises:
        Unreadable: not a plain number of zero or more with at most two decimals, or out of range.
    """
    if isinstance(value, str) or (isinstance(value, Decimal) and not value.is_signed()):
        with contextlib.suppress(Invalid):
            return parse_tugrik(value)
    raise Unreadable("an amount is missing or malformed")


def whole(value: object) -> int | None:
    """A whole number of zero or more, as a number or a text; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    if isinstance(value, Decimal) and value.is_finite() and 0 <= value < 10**18 and value == value.to_integral_value():
        return int(value)
    return None


def moment(value: object) -> Micros | None:
    """A date with a zone ("2026-03-17T03:20:11.000Z") or, as lists write it, local time in Ulaanbaatar."""
    if not isinstance(value, str) or not 10 <= len(value) <= 40:
        return None
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        return None
    local = read if read.tzinfo else read.replace(tzinfo=ULAANBAATAR)
    return (local - _EPOCH) // _MICROSECOND


def local_text(at: Micros) -> str:
    """A point in time as `payment/list` takes it: `YYYY-MM-DD HH:mm:ss` in Ulaanbaatar, cut to the second."""
    return (_EPOCH + timedelta(microseconds=at)).astimezone(ULAANBAATAR).strftime("%Y-%m-%d %H:%M:%S")


def compact(value: object) -> str:
    """What `loads` read, as compact JSON with its numbers as they were written, cut to `RAW_BYTES` bytes."""
    try:
        written = _written(value)
    except RecursionError:
        return ""
    return written.encode(errors="replace")[:RAW_BYTES].decode(errors="ignore")


def _written(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{_written(key)}:{_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)
