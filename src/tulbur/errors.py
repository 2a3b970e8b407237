"""The one tree of errors; each knows its HTTP status and its stable code.

TulburError
├── BadRequest · Unauthorized · Forbidden · NotFound · TooLarge · RateLimited
├── Invalid
│   ├── AmountMismatch
│   └── IdempotencyMismatch
├── Conflict
│   ├── AlreadyPaid
│   ├── IdempotencyRunning
│   └── SessionExists
├── ProviderError
│   ├── ProviderUnavailable      QPay did not answer: what it did is unknown
│   └── ProviderRefused          QPay answered no, with a key
├── ShopUnavailable              a service of the shop's own did not answer
├── StoreUnavailable             the database did not answer
│   └── CommitUnknown            it may have committed: nobody may act on either outcome
├── SourceUnavailable            the old shop's database or Redis cannot be read
└── SettingsError                a setting is missing or wrong; commands exit with 2
    └── SchemaUnusable           the database answers, but this code cannot use its tables
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class TulburError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or _first_line(self.__doc__) or self.code)

    @property
    def message(self) -> str:
        return str(self.args[0])


class BadRequest(TulburError):
    """The request cannot be read."""

    code = "bad_request"
    http_status = 400


class Unauthorized(TulburError):
    """Send a valid API key as `Authorization: Bearer <key>`."""

    code = "unauthorized"
    http_status = 401


class Forbidden(TulburError):
    """This API key may not do that."""

    code = "forbidden"
    http_status = 403


class NotFound(TulburError):
    """There is no such thing."""

    code = "not_found"
    http_status = 404


class TooLarge(TulburError):
    """The request is too large."""

    code = "too_large"
    http_status = 413


class RateLimited(TulburError):
    """Too many requests; try again later."""

    code = "rate_limited"
    http_status = 429


class Invalid(TulburError):
    """A value is not valid.

    Attributes:
        fields: which fields, each with what is wrong about it, where that is known.
    """

    code = "invalid"
    http_status = 422

    def __init__(self, message: str | None = None, *, fields: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.fields = tuple(fields)


class AmountMismatch(Invalid):
    """The amount is not the items less the discount plus shipping."""

    code = "amount_mismatch"


class IdempotencyMismatch(Invalid):
    """This Idempotency-Key was used with another body."""

    code = "idempotency_mismatch"


class Conflict(TulburError):
    """The state of the session does not allow this."""

    code = "conflict"
    http_status = 409


class AlreadyPaid(Conflict):
    """The session is paid."""

    code = "already_paid"


class IdempotencyRunning(Conflict):
    """The first request with this Idempotency-Key is still running."""

    code = "idempotency_running"


class SessionExists(Conflict):
    """A session with this id, or with this idempotency key in its scope, is stored already."""

    def __init__(self, session_id: str) -> None:
        super().__init__()
        self.session_id = session_id


class ProviderError(TulburError):
    """QPay could not be used."""

    code = "provider_unavailable"
    http_status = 502

    def __init__(self, message: str | None = None, *, session_id: str | None = None) -> None:
        super().__init__(message)
        self.session_id = session_id


class ProviderUnavailable(ProviderError):
    """QPay did not answer; what it did is unknown."""


class ProviderRefused(ProviderError):
    """QPay refused the request.

    Attributes:
        key: QPay's own error key, an open string such as `INVOICE_CODE_INVALID`.
        provider_status: the HTTP status QPay answered with.
        fields: QPay's message per field, when it refused single fields.
    """

    code = "provider_refused"

    def __init__(
        self,
        key: str,
        message: str = "",
        *,
        provider_status: int = 400,
        fields: dict[str, str] | None = None,
        session_id: str | None = None,
    ) -> None:
        super().__init__(f"QPay refused: {key}" + (f" ({message})" if message else ""), session_id=session_id)
        self.key = key
        self.provider_status = provider_status
        self.fields = fields or {}


class ShopUnavailable(TulburError):
    """A service of the shop does not answer; nothing was changed. Try again."""

    # Only the old shop's routes ask such services, and their errors carry no code.
    http_status = 503


class StoreUnavailable(TulburError):
    """The database does not answer; nothing was changed. Try again."""

    code = "store_unavailable"
    http_status = 503


class CommitUnknown(StoreUnavailable):
    """The database did not say whether it committed, and could not be asked again."""


class SourceUnavailable(TulburError):
    """The old shop's data cannot be read; run the same command again, it goes on where it was."""

    code = "store_unavailable"
    http_status = 503


class SettingsError(TulburError):
    """A setting is missing or wrong."""

    code = "settings"


class SchemaUnusable(SettingsError):
    """The database answers, but its tables are missing, or are of another release."""


def _first_line(docstring: str | None) -> str:
    return (docstring or "").partition("\n")[0]
