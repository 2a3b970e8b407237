"""What the settings alone tell: what is missing, too short, or set for a later release."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tulbur.commands.doctor.finding import Finding, fine, of_sentence, problem, remark
from tulbur.errors import SettingsError
from tulbur.settings import Required, Settings

SHORTEST_KEY: Final = 32


def settings_given(settings: Settings) -> tuple[list[Finding], Required | None]:
    """The findings, and what serving needs, when all of it is there."""
    try:
        required = settings.required()
    except SettingsError as missing:
        return [of_sentence("settings", line) for line in missing.message.splitlines()], None
    return [_secrets(required)], required


def _secrets(required: Required) -> Finding:
    if any(len(key) < SHORTEST_KEY for key in required.secret_keys):
        return problem(
            "settings",
            f"TULBUR_SECRET_KEYS holds a key shorter than {SHORTEST_KEY} characters",
            "put a longer random key first and keep the old one behind it while its callbacks may come",
        )
    return fine("settings", "all present")


def without_effect(settings: Settings) -> Iterator[Finding]:
    """Settings of later releases: whoever set one may rely on it."""
    names = settings.without_effect()
    if names:
        detail = f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} set, but without effect in this release"
        yield remark("settings", detail, "do not rely on it yet, see docs/settings.md")


def api_keys(settings: Settings) -> Finding:
    try:
        keys = settings.api_keys()
    except SettingsError as wrong:
        return problem("api keys", wrong.message, "make one with: tulbur keys new NAME")
    if not keys:
        remedy = "make one with: tulbur keys new NAME --scopes read+write, and set TULBUR_API_KEYS"
        return problem("api keys", "none: every API route answers 401", remedy)
    return fine("api keys", ", ".join(key.name for key in keys))
