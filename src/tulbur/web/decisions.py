"""What people decide about money, for the library and the commands: as the routes of `money_api` take it."""

from __future__ import annotations

import getpass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tulbur.core.money import parse_tugrik
from tulbur.core.session import Session as CoreSession
from tulbur.errors import Invalid
from tulbur.links import Links
from tulbur.payments import Payments, refunding
from tulbur.ports import MOST_ROWS, Disposition, Store
from tulbur.web.fields import Name
from tulbur.web.models import ListedPayment, Page, Session
from tulbur.web.money_intake import Assign, Close, Decision, RefundRequest, Review, refund_key
from tulbur.web.queries import path_id
from tulbur.web.shapes import session_shape
from tulbur.web.worklist import closed_payment, payment_page

_NAME: TypeAdapter[str] = TypeAdapter(Name)


def somebody() -> str:
    """The operating system's user, who is named when nobody else is."""
    try:
        return getpass.getuser()[:100]
    except (KeyError, OSError):  # a container's user that has no name
        return "unknown"


class Decisions:
    """The part of `Tulbur` in which people decide about money; each decision is an event with their name."""

    payments: Payments
    store: Store
    links: Links

    async def review(self, session_id: str, decision: Decision, *, note: str = "", by: str | None = None) -> Session:
        """Decide about money that waits: "accept" makes the orders of what there is, "refund" gives it back.

        `by` is who decides, the operating system's user where it is left out.

        Raises:
            NotFound: there is no such session.
            Conflict: there is nothing to decide, or not in its state; the sentence says why.
        """
        asked = Review.parse({"decision": decision, "note": note})
        desk = self.payments.desk
        after = await refunding.review(desk, path_id(session_id), asked.decision, note=asked.note, by=name_of(by))
        return self._shown(after)

    async def refund(
        self,
        session_id: str,
        payment_id: str,
        *,
        amount: Any = None,  # noqa: ANN401 - text, int or Decimal, as the HTTP body takes it
        reference: str | None = None,
        note: str = "",
        by: str | None = None,
        idempotency_key: str | None = None,
    ) -> Session:
        """Give a payment back: `amount` tugrik; without one all that is due of it, else all of it.

        Nothing is due, and money of this session was given back before: then the amount has to be said.
        QPay gives back the whole of a card payment. Anything else is a person's task; with a `reference` it is done.

        Raises:
            NotFound, Conflict: as the sentence says.
            Invalid: more than there is.
            ProviderUnavailable: QPay was asked and did not say what it did; it is looked at. Do not ask again.
            ProviderRefused: QPay will not; it is a person's task now.
        """
        body = {"payment_id": payment_id, "amount": amount, "reference": reference, "note": note}
        asked, name = RefundRequest.parse(body), name_of(by)
        after = await refunding.refund(
            self.payments.desk,
            path_id(session_id),
            asked.payment_id,
            amount=None if asked.amount is None else parse_tugrik(asked.amount),
            reference=asked.reference or "",
            note=asked.note,
            by=name,
            key=refund_key("", idempotency_key, asked),
        )
        return self._shown(after)

    async def assign(self, payment_id: str, session_id: str, *, note: str = "", by: str | None = None) -> Session:
        """Give a payment without a session to one; QPay is asked what the payment is.

        Raises:
            NotFound: QPay knows no such payment, or there is no such session.
            Conflict: another session has it, or made the invoice it was paid on; or it is closed.
            ProviderUnavailable: QPay did not answer; nothing is changed.
        """
        asked, name = Assign.parse({"session_id": session_id, "note": note}), name_of(by)
        after = await refunding.assign(
            self.payments.desk, path_id(payment_id), asked.session_id, note=asked.note, by=name
        )
        return self._shown(after)

    async def close(self, payment_id: str, *, reference: str, note: str = "", by: str | None = None) -> ListedPayment:
        """A person is done with a payment: paid back with this reference, or, without a session, settled elsewhere.

        Raises:
            NotFound: nobody knows this payment.
            Conflict: it is closed with another reference, or somebody has to decide about it first.
        """
        asked, name = Close.parse({"reference": reference, "note": note}), name_of(by)
        closed = await refunding.close(
            self.payments.desk, path_id(payment_id), reference=asked.reference, note=asked.note, by=name
        )
        return closed_payment(closed, payment_id, asked.reference)

    async def waiting(
        self, disposition: Disposition | str | None = None, *, cursor: str | None = None, limit: int = 50
    ) -> Page[ListedPayment]:
        """The list of work: payments that are unmatched, held or due back, the oldest first.

        Raises:
            Invalid: there is no such disposition, or the cursor is none of this list's.
        """
        if not 1 <= limit <= MOST_ROWS:
            raise Invalid(f"limit must be from 1 to {MOST_ROWS}")
        try:
            wanted = None if disposition is None else Disposition(disposition)
        except ValueError:
            raise Invalid(f"disposition must be one of {', '.join(Disposition)}") from None
        return await payment_page(self.store, wanted, cursor, limit)

    def _shown(self, session: CoreSession) -> Session:
        return session_shape(session, self.links)


def name_of(by: str | None) -> str:
    """Who decides: the operating system's user where nobody is named.

    Raises:
        Invalid: this is no name.
    """
    try:
        return _NAME.validate_python(somebody() if by is None else by)
    except ValidationError:
        raise Invalid("by must be a name: one line of 1 to 100 printable characters") from None
