"""Ids in the forms QPay uses, drawn from one source of chance."""

from __future__ import annotations

import string
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

_URL_SAFE = string.ascii_letters + string.digits + "-_"
_BCRYPT = string.ascii_letters + string.digits + "./"
# One bank payment in four gets a leading zero, so that reading ids as numbers is noticed early.
_LEADING_ZERO_EVERY = 4


class Ids:
    """A source of fresh ids; the same chance gives the same ids."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._bank_payments = 0

    def uuid(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def digits(self, length: int) -> str:
        return "".join(self._rng.choices(string.digits, k=length))

    def token(self, length: int) -> str:
        return "".join(self._rng.choices(_URL_SAFE, k=length))

    def secret(self) -> str:
        """What a bcrypt hash looks like; nothing is hashed."""
        return "$2b$10$" + "".join(self._rng.choices(_BCRYPT, k=53))

    def key(self) -> bytes:
        return self._rng.getrandbits(256).to_bytes(32)

    def bank_payment(self) -> str:
        """15 digits; the first, the fifth, the ninth … begin with 0."""
        leading_zero = self._bank_payments % _LEADING_ZERO_EVERY == 0
        self._bank_payments += 1
        first = "0" if leading_zero else self._rng.choice("123456789")
        return first + self.digits(14)
