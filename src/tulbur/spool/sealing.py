"""What is in a file of the spool: one JSON line that ends in a MAC over itself and the file's name."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Sequence
from typing import Final

from tulbur.errors import SpoolUnavailable
from tulbur.ports import Spooled
from tulbur.spool.files import LARGEST, NAME

_VERSION: Final = 1
_SEALED: Final = re.compile(rb'(\{"v":.*),"mac":"([0-9a-f]{64})"\}\n')


class Seal:
    """The first key seals, all open: keys can be rotated."""

    def __init__(self, secret_keys: Sequence[str]) -> None:
        self._keys = [hmac.digest(key.encode(), b"tulbur:spool", "sha256") for key in secret_keys]

    def sealed(self, spooled: Spooled) -> bytes:
        """Raises SpoolUnavailable when it is too long."""
        fields = {
            "v": _VERSION,
            "session_id": spooled.session_id,
            "payment_id": spooled.payment_id,
            "received_at": spooled.received_at,
            "token_digest": spooled.token_digest,
        }
        head = json.dumps(fields, separators=(",", ":")).encode()[:-1]
        content = head + b',"mac":"%s"}\n' % _mac(self._keys[0], spooled.name, head).hex().encode()
        if len(content) > LARGEST:
            raise SpoolUnavailable("the database does not answer, and this is too long for the spool")
        return content

    def opened(self, name: str, content: bytes) -> Spooled | None:
        """The callback in a file of ours; None for one that a later release wrote.

        Raises:
            ValueError: the file is none of ours, or damaged.
        """
        sealed = _SEALED.fullmatch(content)
        if sealed is None or not NAME.fullmatch(name):
            raise ValueError("not one line of ours")
        head, mac = sealed[1], bytes.fromhex(sealed[2].decode())
        if not any(hmac.compare_digest(_mac(key, name, head), mac) for key in self._keys):
            raise ValueError("not sealed by us")
        fields = json.loads(head + b"}")
        if fields["v"] != _VERSION:
            return None
        return Spooled(name, fields["session_id"], fields["payment_id"], fields["received_at"], fields["token_digest"])


def _mac(key: bytes, name: str, head: bytes) -> bytes:
    return hmac.digest(key, name.encode() + b"\n" + head, "sha256")
