"""Money is a whole number of möngö (1/100 tugrik); text at the edges is decimal tugrik."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Final, TypeAlias

from tulbur.errors import Invalid

Mongo: TypeAlias = int
"""An amount in möngö, 1/100 of a tugrik (or of the unit of another currency)."""

LARGEST: Mongo = 10**15
"""Ten million million tugrik: more than any invoice, far below what a 64-bit column holds."""

_PLAIN: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,10})?")
_MONGO: Final = Decimal("0.01")


def parse_tugrik(value: str | int | Decimal) -> Mongo:
    """Read decimal tugrik ("50000", "50000.00", 50000) as möngö; floats are refused, they were never exact.

    Raises:
        Invalid: not a finite number, more than two decimals, negative, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise Invalid("an amount is a decimal text or a whole number")
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        raise Invalid("an amount is a plain decimal number such as 50000.00")
    amount = Decimal(value)
    if not amount.is_finite() or (amount.is_signed() and amount != 0):
        raise Invalid("an amount is a number of zero or more")
    if amount > LARGEST // 100:
        raise Invalid(f"an amount is at most {LARGEST // 100} tugrik")
    rounded = amount.quantize(_MONGO)
    if rounded != amount:  # compared exactly; a product would be rounded to the context's 28 digits first
        raise Invalid("an amount has at most two decimals")
    return int(rounded * 100)


def format_tugrik(amount: Mongo) -> str:
    """Print möngö as decimal tugrik with two decimals: 5000000 -> "50000.00"."""
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), 100)
    return f"{sign}{whole}.{rest:02d}"


def is_whole_tugrik(amount: Mongo) -> bool:
    return amount % 100 == 0


def spread(amount: Mongo, weights: Sequence[int]) -> list[Mongo]:
    """Split `amount` over `weights` in proportion, by largest remainder, the earliest first among equals.

    The parts sum to `amount`, and no part exceeds its weight when `amount` is at most their sum.
    """
    total = sum(weights)
    if total == 0:
        return [amount, *([0] * (len(weights) - 1))]
    parts = [amount * weight // total for weight in weights]
    remainders = [amount * weight % total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-remainders[i], i))
    for i in by_remainder[: amount - sum(parts)]:
        parts[i] += 1
    return parts
