"""An event as the shop receives it, and its signature by Standard Webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from tulbur.core.session import SECOND, Micros
from tulbur.ports import NumberedEvent

_TYPE: Final = "application/json"


def body(numbered: NumberedEvent) -> bytes:
    """The same bytes at every attempt; `data` is the event as `GET /v1/events` shows it."""
    event, at = numbered.event, _time(numbered.event.at)
    data = {
        "no": numbered.no,
        "id": event.id,
        "type": event.type,
        "session_id": numbered.session_id,
        "at": at,
        "data": dict(event.data),
    }
    document = {"type": event.type, "timestamp": at, "data": data}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def headers(event_id: str, content: bytes, keys: Sequence[bytes], now: Micros) -> Mapping[str, str]:
    """The time is that of the attempt, so that the shop can refuse what somebody kept and sends again."""
    seconds = now // SECOND
    signed = f"{event_id}.{seconds}.".encode() + content
    return {
        "Content-Type": _TYPE,
        "webhook-id": event_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(_signature(key, signed) for key in keys),
    }


def _signature(key: bytes, signed: bytes) -> str:
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def _time(at: Micros) -> str:
    seconds, micros = divmod(at, SECOND)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros, tzinfo=None).isoformat() + "Z"
