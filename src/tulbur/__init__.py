"""tulbur turns every paid QPay invoice into exactly one set of orders."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tulbur.settings import Settings
    from tulbur.web.models import Session
    from tulbur.wiring import Tulbur

__version__ = "0.1.0"
__all__ = ["Session", "Settings", "Tulbur", "__version__"]

_HOMES = {"Tulbur": "tulbur.wiring", "Settings": "tulbur.settings", "Session": "tulbur.web.models"}


def __getattr__(name: str) -> object:
    # `tulbur --help` and the simulator must not pay for the web stack: the names are loaded on first use.
    if name not in _HOMES:
        raise AttributeError(f"module 'tulbur' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only needed on first use

    return getattr(import_module(_HOMES[name]), name)
