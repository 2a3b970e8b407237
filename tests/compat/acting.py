"""What one release does with a database, in a process of its own; its answer is one JSON value on stdout.

Run with PYTHONPATH naming that release's source. Only what every release has is imported: the contract, its harnesses,
the choice of a store. `acting.py <source> <deed> <argument>…`.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import asynccontextmanager, closing
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import tulbur
from tulbur.core import codec
from tulbur.core.custody import Claim
from tulbur.core.orders import Discount
from tulbur.core.session import Reason, Session
from tulbur.core.steps import asked, hinted
from tulbur.ports import Committed
from tulbur.stores import choosing, contract
from tulbur.stores.contracts import samples

GIFT = "wrapped"


def migrate(url: str) -> str | None:
    return choosing.migrations(url).up(url).current


def on_sqlite(template: str, folder: str) -> dict[str, str]:
    """The contract on copies of a database that another release has migrated."""
    from tulbur.stores.harnesses import SqliteHarness  # noqa: PLC0415 - this store's alone

    class Migrated(SqliteHarness):
        @asynccontextmanager
        async def _started(self, path: Path) -> Any:
            if not path.exists():
                shutil.copy(template, path)
            async with super()._started(path) as store:
                yield store

    failed = _held(Migrated(Path(folder)))
    used = {_revision(path) for path in Path(folder).glob("*.db")}
    assert used == {_revision(Path(template))}, "the contract ran on other databases"
    return failed


def _revision(path: Path) -> str:
    with closing(sqlite3.connect(path)) as raw:
        return str(raw.execute("SELECT version_num FROM tulbur_alembic_version").fetchone()[0])


def on_server(url: str, every: str) -> dict[str, str]:
    """Each so-many-eth test of it on a database of a server."""
    if url.startswith("mongodb"):
        from tulbur.stores.mongo_harness import MongoHarness  # noqa: PLC0415 - this store's alone

        return _held(MongoHarness(lambda: url), int(every))
    from tulbur.stores.harnesses import NetworkHarness  # noqa: PLC0415 - these stores' alone

    return _held(NetworkHarness(url), int(every))


def _held(harness: contract.Harness, every: int = 1) -> dict[str, str]:
    names = contract.names()
    assert len(names) > 80
    failed = asyncio.run(contract.run(harness, only=names[::every]))
    return {name: repr(failure) for name, failure in failed.items()}


def write(url: str, id_: str) -> str:
    """A session with something of everything, half paid; in a release that has gifts, with one in each."""

    async def work(store: Any) -> Session:
        discount, claim = Discount(code="SPRING", amount=0), Claim(status="PENDING", digest="d", taken_at=1)
        new = samples.session(id_, discount=discount, claim=claim)
        await store.add(_gifted(new))
        stored = await store.get(id_)
        for change in (samples.with_qr, _asked, _half_paid, _going_back):
            await samples.won(store, stored, _gifted(change(stored)))
            stored = await store.get(id_)
        return stored

    return _told(_with_store(url, work))


def go_on(url: str, id_: str) -> str:
    """Read it, pay the other half, commit, read it again: what was stored is what was committed."""

    async def work(store: Any) -> Session:
        before = await store.get(id_)
        half = samples.AMOUNT // 2
        other = _asked(before, "pay-2").committed()
        assert await store.commit(before, _asked(before, "pay-2")) is Committed.WON
        after = samples.answered(other, "pay-1", "pay-2", amount=half)
        assert await store.commit(other, after) is Committed.WON
        stored = await store.get(id_)
        assert stored == after.committed()
        assert stored.status.value == "PAID"
        for order in stored.orders:
            found = await store.order(order.id)
            assert found is not None
            assert found[1].items == order.items
        return stored

    return _told(_with_store(url, work))


def read(url: str, id_: str) -> str:
    return _told(_with_store(url, lambda store: store.get(id_)))


def _asked(before: Session, payment_id: str = "pay-1") -> Session:
    return asked(hinted(before, payment_id, samples.NOW + 1), Reason.CALLBACK, samples.NOW + 2, new_hint=True)


def _half_paid(before: Session) -> Session:
    return samples.answered(before, "pay-1", amount=samples.AMOUNT // 2)


def _going_back(before: Session) -> Session:
    """With a refund, in releases that know refunds."""
    if not hasattr(before.payments[0], "refunds"):
        return before.with_news("check.answered", samples.NOW + 9)
    from tulbur.core.refund import Refund, RefundState, RefundWay  # noqa: PLC0415 - of later releases

    refund = Refund(amount=1, way=RefundWay.PERSON, by="bold", at=samples.NOW, state=RefundState.DONE, reference="R")
    payments = (replace(before.payments[0], refunds=(refund,)), *before.payments[1:])
    return replace(before, payments=payments).with_news("refund.done", samples.NOW + 9)


def _gifted(value: Any) -> Any:
    """The same with a gift in every object that can hold one."""
    if isinstance(value, tuple):
        return tuple(_gifted(one) for one in value)
    if not is_dataclass(value):
        return value
    changed = {field.name: _gifted(getattr(value, field.name)) for field in fields(value)}
    return replace(value, **changed | ({"gift": GIFT} if "gift" in changed else {}))


def _told(session: Session) -> str:
    return codec.encode(session).decode()


def _with_store(url: str, work: Callable[[Any], Any]) -> Any:
    async def run() -> Any:
        store = choosing.open_store(url)
        await store.start()
        try:
            return await work(store)
        finally:
            await store.stop()

    return asyncio.run(run())


if __name__ == "__main__":
    source, deed, *arguments = sys.argv[1:]
    assert Path(tulbur.__file__).is_relative_to(source), "another release is at work"
    deeds: dict[str, Callable[..., Any]] = {
        work.__name__: work for work in (migrate, on_sqlite, on_server, write, go_on, read)
    }
    json.dump(deeds[deed](*arguments), sys.stdout)
