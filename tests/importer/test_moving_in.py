"""The whole move from each kind of database: every paid session ends with one order set, and nothing is done twice."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from tests.importer.filling import KINDS, digest, fill
from tests.importer.old_shop import Case, cases, tell_qpay
from tests.payments.world import Clock, World, world

from tulbur.core.custody import Custody
from tulbur.core.session import Status
from tulbur.importer.choosing import open_source
from tulbur.importer.moving import Move
from tulbur.importer.report import Report
from tulbur.importer.rescuing import account, rescue_all
from tulbur.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

SESSIONS = int(os.environ.get("TULBUR_OLD_SESSIONS", "130"))
"""`make test-import` takes 10,000."""


async def no_pause() -> None: ...


def fingerprint(w: World) -> Any:
    """Everything that is stored, by session and version."""
    data = w.store.data  # type: ignore[attr-defined]
    return {id_: row["version"] for id_, row in data.sessions.items()}, len(data.orders), len(data.events)


async def test_every_paid_session_ends_with_one_order_set(database: Callable[[str], str], source_kind: str) -> None:
    url, clock, made = database(source_kind), Clock(), cases(SESSIONS)
    async with world(MemoryStore(clock), clock) as w:
        tell_qpay(w.simulator, made)
        await fill(source_kind, url, made)
        before = await digest(source_kind, url)
        source = open_source(url)
        await source.start()
        try:
            move = Move(w.payments.desk, source)
            await imports(w, move, made)
            await takes_over(w, move, made)
        finally:
            await source.stop()
        await rescues(w, made)
        assert await digest(source_kind, url) == before, "the source is only read"


@pytest.fixture(params=KINDS)
def source_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def imports(w: World, move: Move, made: list[Case]) -> None:
    nothing = fingerprint(w)
    planned = await move.follow(dry_run=True)
    assert fingerprint(w) == nothing, "a dry run changes nothing"
    report = await move.follow(dry_run=False)
    assert report.as_json() == planned.as_json(), "and tells what will be done"
    skipped = sum(case.what.ends == "skipped" for case in made)
    assert (report.read, sum(report.skipped.values()), report.balances) == (len(made), skipped, True)
    imported = fingerprint(w)
    again = await move.follow(dry_run=False)
    assert outcomes(again) == {"unchanged": len(made) - skipped}
    assert fingerprint(w) == imported, "a second import changes nothing"
    await w.worker.once()
    assert await w.requests("/payment/check") == 0, "what is followed is not asked about"


async def takes_over(w: World, move: Move, made: list[Case]) -> None:
    report = await move.take_over()
    assert report.balances
    review = sum(case.what.ends == "review" for case in made)
    skipped = sum(case.what.ends == "skipped" for case in made)
    expected = {"taken over": len(made) - review - skipped, "a person has to look at it first": review}
    assert outcomes(report) == {what: count for what, count in expected.items() if count}
    taken = fingerprint(w)
    assert set(outcomes(await move.take_over())) <= {"ours already", "a person has to look at it first"}
    assert set(outcomes(await move.follow(dry_run=False))) <= {"ours already", "unchanged"}
    assert fingerprint(w) == taken


async def rescues(w: World, made: list[Case]) -> None:
    report = await rescue_all(w.payments.desk, pause=no_pause, dry_run=False)
    assert report.balances
    again = await rescue_all(w.payments.desk, pause=no_pause, dry_run=False)
    assert again.read == 0, "asked once"
    for case in made:
        await judge(w, case)
    total = await account(w.payments.desk)
    assert total.balances
    assert total.states.total() == sum(case.what.ends != "skipped" for case in made)
    orders = Counter(row["session_id"] for row in w.store.data.orders.values())  # type: ignore[attr-defined]
    expected = {case.session_id: len(case.shops) for case in made if case.what.ends == "PAID"}
    assert orders == expected, "one order for each shop of each paid session"


async def judge(w: World, case: Case) -> None:
    session = await w.store.get(case.session_id)
    if case.what.ends == "skipped":
        assert session is None
        return
    assert session is not None
    if case.what.ends == "review":
        assert (session.custody, session.orders) == (Custody.FOLLOWED, ())
        return
    assert (case.kind, session.custody, session.status) == (case.kind, Custody.OURS, Status(case.what.ends))
    assert {e.value for e in session.exceptions} == case.what.exceptions, case.kind
    assert (await w.store.history(session.id, 1))[0].type == "session.imported"
    told = [e.data["shop_id"] for e in await w.store.history(session.id, 99) if e.type == "order.created"]
    expected = case.shops[case.what.made :] if case.what.ends == "PAID" else []
    assert told == expected, "an order the old shop made is not announced again"
    if case.what.ends == "PAID":
        assert sum(order.total for order in session.orders) == session.amount
    if session.payments:
        assert session.sum("ordered") == session.amount
        assert session.sum("refund_due") == session.amount * (case.what.paid - 1)


def outcomes(report: Report) -> dict[str, int]:
    found: Counter[str] = Counter()
    for (_, what), count in report.done.items():
        found[what] += count
    return dict(found)
