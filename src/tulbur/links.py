"""The unguessable parts of our addresses and numbers: HMACs over what they stand for, with nothing secret in them."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from hashlib import sha256
from typing import Final
from urllib.parse import quote

_TOKEN_LENGTH: Final = 27
"""Characters of base64 kept of an HMAC-SHA256: 162 bits."""

_PREFIX: Final = "TB"
_CODE_LENGTH: Final = 8


class Links:
    """Builds and verifies addresses. The first key signs, every key verifies, so keys can be rotated."""

    def __init__(self, public_url: str, keys: Sequence[str]) -> None:
        if not keys:
            raise ValueError("at least one secret key is needed")
        self.public_url = public_url.rstrip("/")
        self._keys = [key.encode() for key in keys]

    def callback_url(self, session_id: str) -> str:
        """Where QPay reports a payment for this session; with QPay's parameter it stays under 255 characters."""
        return f"{self.public_url}/callbacks/qpay/{quote(session_id, safe='')}/{self._token('callback', session_id)}"

    def checkout_url(self, session_id: str) -> str:
        """The page on which the payer pays this session."""
        return f"{self.public_url}/pay/{quote(session_id, safe='')}/{self._token('pay', session_id)}"

    def is_callback_token(self, session_id: str, token: str) -> bool:
        return self._verify("callback", session_id, token)

    def is_pay_token(self, session_id: str, token: str) -> bool:
        return self._verify("pay", session_id, token)

    def sender_invoice_no(self, unique: str) -> str:
        """A fresh invoice number that shows it is ours: prefix, `unique` (alphanumeric, up to 32), short MAC."""
        return f"{_PREFIX}{unique}{_code(self._keys[0], unique)}"

    def is_ours(self, sender_invoice_no: str) -> bool:
        """Whether an invoice at QPay carries a number made by `sender_invoice_no` under one of our keys."""
        if not sender_invoice_no.startswith(_PREFIX) or len(sender_invoice_no) <= len(_PREFIX) + _CODE_LENGTH:
            return False
        unique, code = sender_invoice_no[len(_PREFIX) : -_CODE_LENGTH], sender_invoice_no[-_CODE_LENGTH:]
        return any(_same(_code(key, unique), code) for key in self._keys)

    def _token(self, purpose: str, session_id: str) -> str:
        return _token(self._keys[0], purpose, session_id)

    def _verify(self, purpose: str, session_id: str, token: str) -> bool:
        return any(_same(_token(key, purpose, session_id), token) for key in self._keys)


def _same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode(errors="surrogatepass"))


def _token(key: bytes, purpose: str, session_id: str) -> str:
    digest = hmac.new(key, f"tulbur:{purpose}:{session_id}".encode(errors="surrogatepass"), sha256).digest()
    return base64.urlsafe_b64encode(digest).decode()[:_TOKEN_LENGTH]


def _code(key: bytes, unique: str) -> str:
    digest = hmac.new(key, f"tulbur:invoice:{unique}".encode(errors="surrogatepass"), sha256).hexdigest()
    return digest[:_CODE_LENGTH].upper()
