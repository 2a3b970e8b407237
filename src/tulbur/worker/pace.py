"""What the loops have in common: how often they look, and how long they wait after a failure."""

from __future__ import annotations

import logging
from typing import Final

LEASE_SECONDS: Final = 60.0

IDLE_SECONDS: Final = 1.0

LONGEST_PAUSE_SECONDS: Final = 30.0

EVENTS: Final = 200

log: Final = logging.getLogger("tulbur.worker")
