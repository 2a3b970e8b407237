"""What may happen while a shop moves: it goes on working, a run breaks off, Redis forgets, QPay calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.importer.old_shop import KINDS, cases, tell_qpay
from tests.importer.running import Old, address, named, no_pause, reasons, seed
from tests.payments.world import World

from tulbur.core.custody import Custody
from tulbur.core.session import SECOND, Reason, Status
from tulbur.errors import Conflict, SettingsError, SourceUnavailable
from tulbur.importer.choosing import open_source
from tulbur.importer.keys import RedisKeys
from tulbur.importer.rescuing import account, rescue_all
from tulbur.importer.sources import Source

pytestmark = pytest.mark.anyio


async def test_while_it_is_followed_a_callback_is_kept_and_nothing_else_happens(w: World, old: Old) -> None:
    [case] = made = named("webhook lost")
    move = await old.has(made)
    await move.follow(dry_run=False)
    [payment_id] = w.simulator.ledger.payments
    assert await w.payments.callback(case.session_id, payment_id) == "waiting"
    assert await w.payments.callback(case.session_id, payment_id) == "waiting"
    session = await w.payments.check(case.session_id, Reason.OPERATOR)
    assert (session.status, session.orders, len(session.hints)) == (Status.PENDING, (), 1)
    with pytest.raises(Conflict, match="old shop"):
        await w.payments.cancel(case.session_id)
    assert await w.cache.get(case.session_id) is None, "its key in Redis is the old shop's"
    w.clock.advance(86_400)
    await w.worker.once()
    assert await w.requests("/payment/check") == 0
    await move.take_over()
    w.clock.advance(2)
    await w.worker.once()
    assert (await w.stored(case.session_id)).status is Status.PAID


async def test_what_the_old_shop_still_works_on_is_not_taken_over(w: World, old: Old) -> None:
    made = named("webhook lost", "open, paid")
    move = await old.has(made)
    await move.follow(dry_run=False)
    first, second = (case.session_id for case in made)
    await old.sql('UPDATE "QPayPaymentSession" SET "updatedAt" = now() WHERE "sessionId" = $1', first)
    report = await move.take_over()
    assert reasons(report) == {first: "the old shop still works on it"}
    assert [(await w.stored(id_)).custody for id_ in (first, second)] == [Custody.FOLLOWED, Custody.OURS]
    await move.follow(dry_run=False)
    assert (await move.take_over()).fine
    assert (await w.stored(first)).custody is Custody.OURS


async def test_what_the_old_shop_does_after_it_was_taken_over_is_told(w: World, old: Old) -> None:
    [case] = made = named("webhook lost")
    move = await old.has(made)
    await move.follow(dry_run=False)
    await move.take_over()
    await old.sql('UPDATE "QPayPaymentSession" SET "status" = \'PROCESSED\'')
    report = await move.follow(dry_run=False)
    assert reasons(report) == {case.session_id: "changed in the old shop after it was taken over"}
    assert not report.fine


async def test_a_row_that_is_gone_stays_followed_and_is_told(w: World, old: Old) -> None:
    [case] = made = named("expired, paid late")
    move = await old.has(made)
    await move.follow(dry_run=False)
    await old.sql('DELETE FROM "QPayPaymentSession"')
    report = await move.take_over()
    assert reasons(report) == {case.session_id: "changed or gone in the source"}
    assert (await w.stored(case.session_id)).custody is Custody.FOLLOWED


async def test_a_processed_invoice_without_its_session_is_told(old: Old) -> None:
    move = await old.has(named("processed", "expired"))
    await old.sql('DELETE FROM "QPayPaymentSession" WHERE "status" = \'PROCESSED\'')
    report = await move.follow(dry_run=False)
    assert report.skipped == {"a processed invoice without a session": 1}
    assert report.balances


async def test_an_invoice_that_is_ours_is_never_two_sessions(w: World, old: Old) -> None:
    ours = await w.open()
    [case, other] = made = named("webhook lost", "abandoned")
    move = await old.has(made)
    taken = (str(ours.attempts[0].id), case.row["id"])
    await old.sql('UPDATE "QPayPaymentSession" SET "invoiceId" = $1 WHERE "id" = $2', *taken)
    await old.sql('UPDATE "QPayPaymentSession" SET "sessionId" = $1 WHERE "id" = $2', ours.id, other.row["id"])
    report = await move.follow(dry_run=False)
    assert reasons(report) == {
        case.session_id: "another session has its invoice",
        ours.id: "an own session has this id",
    }
    assert report.balances
    assert (await w.stored(ours.id)).claim is None


@pytest.mark.parametrize("taken", [False, True])
async def test_an_order_nobody_names_is_a_session_s_own(w: World, old: Old, taken: bool) -> None:
    [case] = made = named("killed before the orders were named")
    move = await old.has(made)
    if taken:
        await old.sql("""INSERT INTO "QPayProcessedInvoice"
            SELECT 'x', 'another', 'another', 'PROCESSED', array_agg("id"), now() FROM "orders\"""")
    report = await move.follow(dry_run=False)
    session = await w.stored(case.session_id)
    if taken:
        assert (report.problems, session.status) == ([], Status.PENDING)
        return
    assert (session.status, dict(session.claim.orders if session.claim else {})) == (
        Status.PAID,
        {order["shopId"]: order["id"] for order in case.orders},
    )
    assert [p.what for p in report.problems] == ["orders that no processed invoice names are taken for its own"]
    assert report.fine


class Broken:
    """A source whose connection breaks after so many batches."""

    def __init__(self, source: Source, batches: int) -> None:
        self._source, self._batches = source, batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    async def sessions(self) -> AsyncIterator[Any]:
        left = self._batches
        async for rows in self._source.sessions():
            if left == 0:
                raise SourceUnavailable
            left -= 1
            yield rows


async def test_a_run_that_breaks_off_goes_on(w: World, old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tulbur.importer.sql.BATCH", 10)
    made = cases(len(KINDS) * 2)
    move = await old.has(made)
    importable = sum(case.what.ends != "skipped" for case in made)
    for batches in (1, 3, 4):
        move.source = Broken(old.source, batches)  # type: ignore[assignment]
        with pytest.raises(SourceUnavailable):
            await move.follow(dry_run=False)
    move.source = old.source
    report = await move.follow(dry_run=False)
    assert (report.read, report.balances) == (len(made), True)
    move.source = Broken(old.source, 2)  # type: ignore[assignment]
    with pytest.raises(SourceUnavailable):
        await move.take_over()
    move.source = old.source
    await move.take_over()
    await rescue_all(w.payments.desk, pause=no_pause, dry_run=False)
    total = await account(w.payments.desk)
    assert (total.states.total(), total.balances) == (importable, True)
    assert total.order_sets == sum(case.what.ends == "PAID" for case in made)


async def test_a_rescue_says_who_is_called_paid_and_is_not(w: World, old: Old) -> None:
    unproven, silent = made = named("called processed, not paid", "crashed after the processed row")
    move = await old.has(made)
    await move.follow(dry_run=False)
    assert (await rescue_all(w.payments.desk, pause=no_pause, dry_run=False)).read == 0, "what is followed is not asked"
    await move.take_over()
    planned = await rescue_all(w.payments.desk, pause=no_pause, dry_run=True)
    assert planned.done == {("PROCESSED", "QPay would be asked"): 2}
    await w.faults(reply={"payment_check": {"status": 500}})
    report = await rescue_all(w.payments.desk, pause=no_pause, dry_run=False)
    assert set(reasons(report).values()) == {"QPay did not answer"}
    await w.faults()
    w.clock.advance(60)
    report = await rescue_all(w.payments.desk, pause=no_pause, dry_run=False)
    assert reasons(report) == {unproven.session_id: "called paid by the old shop, QPay shows no full payment"}
    assert (await w.stored(silent.session_id)).status is Status.PAID


async def test_looks_of_the_past_are_spread_and_the_worker_does_them_too(w: World, old: Old) -> None:
    made = named("expired, paid late", "cancelled", "expired", "failed, paid", "abandoned", "webhook lost")
    move = await old.has(made)
    await move.follow(dry_run=False)
    await move.take_over()
    due = sorted([(await w.stored(case.session_id)).next_check_at or 0 for case in made])
    assert [at - w.clock() for at in due] == [n * SECOND // 5 for n in range(1, 7)], "five a second"
    w.clock.advance(10)
    await w.worker.once()
    for case in made:
        session = await w.stored(case.session_id)
        assert (case.kind, session.status, session.looks) == (case.kind, Status(case.what.ends), ())
    assert await w.requests("/payment/check") == len(made), "one question each"


# --- Redis


async def test_sessions_that_are_in_redis_alone(w: World, old: Old, redis: Any) -> None:
    in_database, alone, vanishing, broken = made = named("open", "open, paid", "webhook lost", "total is not the cart")
    tell_qpay(w.simulator, made[1:])
    move = await old.has([in_database])
    for case in made:
        await seed(redis, case)
    await redis.set("payment-session:ours", b"\x01sealed", ex=600)
    await redis.set("payment-session:list", "[]")
    await redis.lpush("payment-session:odd", "x")
    await redis.set("payment-session:empty", '{"cart": [], "userId": "u"}')
    await redis.set("other", "x")
    before = {key: await redis.dump(key) for key in await redis.keys()}
    move.keys = RedisKeys(address(redis))
    report = await move.follow(dry_run=False)
    assert report.balances
    assert report.done == {("PENDING", "taken"): 4}
    assert {key: await redis.dump(key) for key in await redis.keys()} == before, "Redis is only read"
    assert (await move.follow(dry_run=False)).done == {("PENDING", "unchanged"): 4}
    await redis.delete(f"payment-session:{vanishing.session_id}")
    report = await move.take_over()
    assert reasons(report) == {
        "empty": "totalAmount is not a number",
        vanishing.session_id: "gone from Redis before its time; run it again when its time is over",
        broken.session_id: "totalAmount is neither the sum of the cart nor that less the coupon",
    }
    w.clock.advance(661)
    await move.take_over()
    for case in (alone, vanishing):
        assert (await w.stored(case.session_id)).custody is Custody.OURS
    await rescue_all(w.payments.desk, pause=no_pause, dry_run=False)
    assert [(await w.stored(case.session_id)).status for case in (alone, vanishing)] == [Status.PAID, Status.PAID]
    await move.keys.stop()


# --- what is typed


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sqlite:///x.db",
        "oracle://u:secret@h/d",
        "mongodb://u:secret@h",
        "mongodb://u:sec:ret@@/",
        "mysql://u:secret@h:x/d",
    ],
)
def test_a_wrong_url_is_a_sentence_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError) as wrong:
        open_source(url)
    assert "secret" not in wrong.value.message


async def test_a_source_that_does_not_answer_is_a_sentence_without_its_password() -> None:
    for url in ("postgresql://u:secret@127.0.0.1:9/d", "mysql://u:secret@127.0.0.1:9/d"):
        source = open_source(url)
        with pytest.raises(SourceUnavailable) as silent:
            await source.start()
        assert "secret" not in silent.value.message
        await source.stop()


async def test_a_database_of_something_else_is_a_sentence(database: Callable[[str], str]) -> None:
    for kind in ("mongodb", "postgres", "mariadb"):
        source = open_source(database(kind))
        with pytest.raises(SettingsError, match="without the"):
            await source.start()
        await source.stop()
