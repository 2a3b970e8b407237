"""Sessions, answers and helpers the contract is written with."""

# ruff: noqa: S101 - a contract asserts
from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Final, Protocol

from tulbur.core.orders import Item
from tulbur.core.session import SECOND, Micros, Session
from tulbur.core.settling import Evidence, InvoiceAnswer, SeenPayment, after_answer
from tulbur.core.steps import InvoiceMade, cancelled, expired, hinted, opened, with_invoice
from tulbur.errors import SessionExists
from tulbur.ports import Committed, Store

NOW: Final[Micros] = 1_767_225_600 * SECOND
"""2026-01-01: the time at which the stories begin. Leases end by the store's clock, whatever that shows."""

LONG: Final = 3600.0
"""Seconds of a lease that will not end during a test."""

AMOUNT: Final = 50_000_00


class Harness(Protocol):
    """How the contract gets at a store."""

    def open(self) -> AbstractAsyncContextManager[Store]:
        """A fresh and empty store, started; stopped at the end."""

    def reopen(self, store: Store) -> AbstractAsyncContextManager[Store]:
        """A second store on the same data, as another process would have it."""

    def lose_next_commit_answer(self, store: Store, *, executed: bool) -> None:
        """Let the database's next answer to COMMIT be lost, after it was executed or before."""


class Part:
    """What every part of the contract has."""

    harness: Harness


def session(id_: str = "s-1", *, now: Micros = NOW, **values: Any) -> Session:  # noqa: ANN401 - any field
    """A new checkout of two shops, ready to be added."""
    items = (
        Item(shop_id="tea", product_id="p-1", title="Цай", quantity=2, unit_price=20_000_00, options={"size": "L"}),
        Item(shop_id="cup", product_id="p-2", title="Аяга", quantity=1, unit_price=10_000_00),
    )
    made = Session(
        id=id_,
        user_id="u-1",
        amount=AMOUNT,
        items=items,
        shipping={"address": "Улаанбаатар"},
        metadata={"note": ["a", 1]},
        description="Tea and a cup",
        return_url="https://shop.example/back",
        created_at=now,
        expires_at=now + 1800 * SECOND,
    )
    return opened(replace(made, **values), sender_invoice_no=f"TB-{id_}", deadline=now + 30 * SECOND)


async def added(store: Store, id_: str = "s-1", *, now: Micros = NOW, **values: Any) -> Session:  # noqa: ANN401
    """A session as it is stored after `add`."""
    new = session(id_, now=now, **values)
    await store.add(new)
    return new.committed()


async def won(store: Store, before: Session, after: Session) -> Session:
    """Commit what must win; the session as it is stored then."""
    assert await store.commit(before, after) is Committed.WON
    return after.committed()


def with_qr(before: Session, *, invoice_id: str = "", now: Micros = NOW) -> Session:
    made = InvoiceMade(id=invoice_id or f"inv-{before.id}", qr_text="0002010102", qr_image="iVBORw0")
    return with_invoice(before, 1, made, now + SECOND)


async def invoiced(store: Store, id_: str = "s-1", *, now: Micros = NOW, **values: Any) -> Session:  # noqa: ANN401
    """A stored session that waits for money on invoice inv-<id>."""
    before = await added(store, id_, now=now, **values)
    return await won(store, before, with_qr(before, now=now))


def answered(
    before: Session, *payment_ids: str, amount: int = AMOUNT, status: str = "PAID", now: Micros = NOW
) -> Session:
    """QPay shows these payments on the session's first invoice."""
    invoice_id = before.attempts[0].id or ""
    seen = tuple(
        SeenPayment(id=id_, amount=amount, currency="MNT", status=status, raw='{"payer": "Бат"}') for id_ in payment_ids
    )
    evidence = Evidence(answers=(InvoiceAnswer(invoice_id=invoice_id, payments=seen),), complete=True)
    return after_answer(before, evidence, now + 5 * SECOND)


async def paid(store: Store, id_: str = "s-1", *, now: Micros = NOW, **values: Any) -> Session:  # noqa: ANN401
    """A stored session that was paid by pay-<id> in full."""
    before = await invoiced(store, id_, now=now, **values)
    return await won(store, before, answered(before, f"pay-{id_}", now=now))


async def gone(store: Store, id_: str = "s-1", *, cancel: bool = False, now: Micros = NOW) -> Session:
    """A stored session that was expired or cancelled."""
    before = await invoiced(store, id_, now=now)
    after = cancelled(before, now + SECOND) if cancel else expired(before, before.expires_at)
    return await won(store, before, after)


def called_back(before: Session, payment_id: str = "pay-x", *, now: Micros = NOW) -> Session:
    """A callback came: something to commit, with a look three seconds later."""
    return hinted(before, payment_id, now + 2 * SECOND)


async def delivered(store: Store) -> None:
    """Publish and deliver everything, whatever the shop's address."""
    while await store.publish(200):
        pass
    while claimed := await store.claim_events("delivery", 200, LONG):
        await store.events_done("delivery", [numbered.event.id for numbered in claimed])


async def told(store: Store, id_: str) -> list[str]:
    """The types of a session's events, oldest first."""
    return [event.type for event in await store.history(id_, 200)]


async def refusal(store: Store, new: Session) -> str:
    """The id of the session in whose favour `new` was refused."""
    try:
        await store.add(new)
    except SessionExists as exists:
        return exists.session_id
    raise AssertionError("it was added")
