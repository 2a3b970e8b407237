"""What can be made to go wrong, as `PUT /_sim/faults` takes it."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Operation = Literal[
    "token",
    "refresh",
    "invoice_create",
    "invoice_get",
    "invoice_cancel",
    "payment_get",
    "payment_check",
    "payment_list",
    "payment_cancel",
    "payment_refund",
    "ebarimt_create",
]
OPERATIONS: tuple[str, ...] = get_args(Operation)
Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]


class _Knobs(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class CallbackFaults(_Knobs):
    """`times` calls per payment, each after `delay_seconds`; the payment shows `before_visible_seconds` later."""

    drop: bool = False
    delay_seconds: Seconds = 0
    times: int = Field(default=1, ge=0, le=1000)
    method: Literal["GET", "POST"] = "GET"
    before_visible_seconds: Seconds = 0


class ReplyFault(_Knobs):
    """How one operation answers.

    With `status` or `body` alone nothing happens but the answer. `delay_seconds` passes after the effect.
    `lose_after_commit` lets the effect happen and then closes the connection without an answer.
    """

    status: int | None = Field(default=None, ge=200, le=599)
    body: str | dict[str, Any] | list[Any] | None = None
    delay_seconds: Seconds = 0
    lose_after_commit: bool = False
    times: int | None = Field(default=None, ge=0, le=1_000_000)

    @property
    def replaces_the_answer(self) -> bool:
        return not self.lose_after_commit and (self.status is not None or self.body is not None)


class TokenFaults(_Knobs):
    lifetime_seconds: int = Field(default=86_400, ge=0, le=10 * 365 * 86_400)
    single: bool = True


class InvoiceFaults(_Knobs):
    reject_duplicates: bool = False
    empty_qr_image: bool = False


class ShapeFaults(_Knobs):
    unknown_fields: bool = False
    numbers_as_strings: bool = False
    unknown_status: bool = False


class Faults(_Knobs):
    """Every knob; the defaults are a QPay in good health."""

    callback: CallbackFaults = CallbackFaults()
    reply: dict[Operation, ReplyFault] = Field(default_factory=dict)
    token: TokenFaults = TokenFaults()
    invoice: InvoiceFaults = InvoiceFaults()
    shape: ShapeFaults = ShapeFaults()


class FaultBoard:
    """The faults in force, and how many replies each has left to spoil."""

    def __init__(self, faults: Faults | None = None) -> None:
        # What really happened, since a fault that never struck proves nothing.
        self.fired: Counter[str] = Counter()
        self.set(faults or Faults())

    def set(self, faults: Faults) -> None:
        self.current = faults
        self._left: dict[str, int | None] = {name: fault.times for name, fault in faults.reply.items()}

    def take(self, operation: str) -> ReplyFault | None:
        """The fault of this one reply, counted off."""
        left = self._left.get(operation, 0)
        if left == 0:
            return None
        if left is not None:
            self._left[operation] = left - 1
        self.fired[f"reply.{operation}"] += 1
        return next(fault for name, fault in self.current.reply.items() if name == operation)

    def remaining(self) -> dict[str, int | None]:
        """Replies still to be spoiled per operation; None is without an end."""
        return dict(self._left)
