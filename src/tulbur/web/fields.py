"""The kinds of value a request may hold, and how a refusal is told without repeating what was sent."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

from tulbur.core.money import Mongo, parse_tugrik
from tulbur.errors import Invalid

MOST_DEPTH: Final = 8
"""Levels of a JSON object a shop may keep with a session."""

MOST_ERRORS: Final = 20
"""Wrong values named in one answer."""

_LARGEST_INTEGER: Final = 2**63 - 1
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOT_IN_ADDRESS: Final = re.compile(r'[\x00-\x20\x7f"<>\\^`{|}]')


def tugrik(amount: Mongo) -> Decimal:
    """Möngö as the decimal tugrik that users see, always with two decimals."""
    return Decimal(amount).scaleb(-2)


def plain(text: str) -> str:
    """Refuse what a database or a UTF-8 encoder would: NUL and half a surrogate pair."""
    if "\x00" in text:
        raise ValueError("must not hold NUL characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode") from None
    return text


def _one_line(text: str) -> str:
    """A text that people will read in a list, on a terminal too."""
    if not plain(text).isprintable():
        raise ValueError("must be one line of printable characters")
    return text


def _lines(text: str) -> str:
    if not plain(text).replace("\n", "").isprintable():
        raise ValueError("must be lines of printable characters")
    return text


def _money(value: Any) -> Decimal:  # noqa: ANN401 - whatever was sent
    try:
        return tugrik(parse_tugrik(value))
    except Invalid as wrong:
        raise ValueError(wrong.message) from None


def _json_object(value: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever was sent
    if not isinstance(value, Mapping):
        raise ValueError("must be a JSON object")  # noqa: TRY004 - pydantic wants a ValueError
    return {_key(key): _json(item, MOST_DEPTH - 1) for key, item in value.items()}


def _json(value: object, depth: int) -> Any:  # noqa: ANN401 - a JSON value
    """A JSON value as it will be stored; decimals become the nearest float, for nobody counts with them."""
    match value:
        case None | bool():
            return value
        case str():
            return plain(value)
        case int():
            if abs(value) > _LARGEST_INTEGER:
                raise ValueError("must hold integers of at most 64 bits")
            return int(value)
        case float() | Decimal():
            number = float(value)
            if not math.isfinite(number):
                raise ValueError("must hold finite numbers")
            return number
    if depth <= 0:
        raise ValueError(f"must not be nested deeper than {MOST_DEPTH} levels")
    match value:
        case Mapping():
            return {_key(key): _json(item, depth - 1) for key, item in value.items()}
        case list() | tuple():
            return [_json(item, depth - 1) for item in value]
    raise ValueError("must hold JSON values")


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise ValueError("must have texts as keys")  # noqa: TRY004 - pydantic wants a ValueError
    return plain(key)


def _web_address(address: str) -> str:
    wrong = ValueError("must be an address such as https://shop.mn/thanks")
    if _NOT_IN_ADDRESS.search(address):
        raise wrong
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.username is None and parts.port != 0
    except ValueError:
        raise wrong from None
    if not usable:
        raise wrong
    return address


Money: TypeAlias = Annotated[
    Decimal,
    BeforeValidator(_money),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^[0-9]{1,14}(\.[0-9]{1,2})?$"},
                {"type": "number", "minimum": 0},
            ],
            "description": "tugrik, as decimal text or a number",
            "examples": ["50000.00"],
        }
    ),
]
"""An amount sent to us: tugrik as text, int or Decimal."""

JsonObject: TypeAlias = Annotated[
    dict[str, Any], BeforeValidator(_json_object), WithJsonSchema({"type": "object", "additionalProperties": True})
]

WebAddress: TypeAlias = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=2000), AfterValidator(_web_address)
]

_text: Final[AfterValidator] = AfterValidator(plain)
Id: TypeAlias = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=100), _text]
ShopId: TypeAlias = Annotated[str, StringConstraints(strict=True, max_length=100), _text]
ProductId: TypeAlias = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=200), _text]
Code: TypeAlias = Annotated[str, StringConstraints(strict=True, max_length=100), _text]
Title: TypeAlias = Annotated[str, StringConstraints(strict=True, max_length=300), _text]
Description: TypeAlias = Annotated[str, StringConstraints(strict=True, max_length=255), _text]
Reference: TypeAlias = Annotated[
    str, StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=255), AfterValidator(_one_line)
]
Note: TypeAlias = Annotated[str, StringConstraints(strict=True, max_length=1000), AfterValidator(_lines)]
Name: TypeAlias = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=100), AfterValidator(_one_line)
]
Quantity: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
ExpiresIn: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=2_592_000)]
CacheSeconds: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=86_400)]


def invalid(errors: Iterable[Mapping[str, Any]], *, skip: int = 0) -> Invalid:
    """One error for everything pydantic found wrong; `skip` parts of each place are not the sender's.

    A name the sender chose is repeated only when it is a plain one, a value never.
    """
    found = [(_place(error["loc"][skip:]), _message(error["msg"])) for _, error in zip(range(MOST_ERRORS), errors)]  # noqa: B905 - cut on purpose
    if not found:
        return Invalid()
    field, message = found[0]
    rest = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return Invalid(f"`{field}`: {message}{rest}" if field else f"the request: {message}{rest}", fields=found)


def _place(parts: Iterable[object]) -> str:
    return ".".join(str(part) if _NAME.fullmatch(str(part)) else "?" for part in parts)


def _message(text: str) -> str:
    said = text.removeprefix("Value error, ").removeprefix("Input ")
    return said[:1].lower() + said[1:]
