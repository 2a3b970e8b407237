"""QPay's merchant API, version 2: the client, and its error keys in words."""

from __future__ import annotations

from tulbur.qpay.caller import Observer
from tulbur.qpay.client import QPay
from tulbur.qpay.texts import describe
from tulbur.qpay.transport import Timeouts

__all__ = ["Observer", "QPay", "Timeouts", "describe"]
