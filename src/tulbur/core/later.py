"""What a later release wrote into a document and this one does not know: kept as it is, never looked at."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

ADDITIONS: Final = 0
"""How many times fields were added that an older release may keep without knowing them; decision 0008 says which."""

Later: TypeAlias = tuple[tuple[str, Any], ...]
"""The unknown fields of one object, by name; `replace` carries them from step to step."""
