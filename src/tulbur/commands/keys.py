"""API keys: shown once, stored as a hash."""

from __future__ import annotations

import re
import secrets
from hashlib import sha256

from tulbur.errors import SettingsError
from tulbur.settings import SCOPES


def make_key(name: str, scopes: str) -> tuple[str, str]:
    """A new key and its entry for TULBUR_API_KEYS, `name:scope+scope:sha256hex`.

    Raises:
        SettingsError: the name or a scope cannot be written that way.
    """
    wanted = scopes.replace(",", "+").split("+")
    unknown = sorted(set(wanted) - SCOPES)
    if unknown:
        raise SettingsError(f"there is no scope {unknown[0]!r}; the scopes are {', '.join(sorted(SCOPES))}.")
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise SettingsError("a key's name is 1 to 64 letters, digits, dots, dashes and underscores.")
    key = f"tulbur_{secrets.token_urlsafe(32)}"
    return key, f"{name}:{'+'.join(dict.fromkeys(wanted))}:{sha256(key.encode()).hexdigest()}"
