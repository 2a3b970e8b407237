"""PyMongo's errors in tulbur's words; nothing of them that could hold a login is repeated."""

from __future__ import annotations

from typing import Final

from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError, ServerSelectionTimeoutError

from tulbur.errors import SettingsError, StoreUnavailable, TulburError

_WRONG_LOGIN: Final = frozenset({18, 8000})
_NOT_ALLOWED: Final = frozenset({13})


def translated(error: PyMongoError) -> StoreUnavailable:
    code = error.code if isinstance(error, OperationFailure) else None
    if code in _NOT_ALLOWED:
        return StoreUnavailable("MongoDB does not let this user read and write the database: grant it readWrite there")
    if isinstance(error, ServerSelectionTimeoutError):
        return StoreUnavailable("MongoDB does not answer, or has no primary")
    kind = type(error).__name__ + (f" {code}" if code else "")
    return StoreUnavailable(f"MongoDB does not answer as it should ({kind})")


def refused_start(error: PyMongoError | ValueError) -> TulburError:
    """Why the start failed: what DATABASE_URL says cannot be so, or nobody answered."""
    if isinstance(error, OperationFailure) and error.code in _WRONG_LOGIN:
        return SettingsError(
            "DATABASE_URL holds a user name and password that MongoDB refuses: correct them, or name the database that "
            "knows the user with authSource."
        )
    if isinstance(error, ConfigurationError | ValueError):
        return SettingsError(
            "DATABASE_URL is not an address of MongoDB such as mongodb://user:password@host:27017/tulbur, "
            "or its host name cannot be looked up: correct it, and write @, /, : and % in a password as %40, %2F, %3A "
            "and %25."
        )
    return translated(error)
