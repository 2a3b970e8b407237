"""Callbacks over HTTP while the database is away, with a spool: SUCCESS for what is on the disk, for nothing else."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.web.api_world import SECRETS, Api, assert_problem
from tests.web.api_world import api as make_api
from tests.web.seed_world import HOOK, HOOKS, INTERNAL_HOOK, PAYMENT, Shop, hook_body, told
from tests.web.seed_world import shop as make_shop
from tests.web.test_operations import metrics
from tests.web.test_qpay_callbacks import ID, assert_success, outcomes

from tulbur.core.custody import Claim, Custody
from tulbur.core.session import Status
from tulbur.errors import SettingsError, SourceUnavailable
from tulbur.spool import FileSpool
from tulbur.telemetry import Telemetry
from tulbur.worker import Replayer

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
async def spool(folder: Path, telemetry: Telemetry) -> AsyncIterator[FileSpool]:
    made = FileSpool(folder, SECRETS, on_change=telemetry.on_spool)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def api(spool: FileSpool, telemetry: Telemetry) -> AsyncIterator[Api]:
    made = make_api(spool=spool, telemetry=telemetry)
    async with made.http:
        yield made
    await made.parts.payments.stop()


@pytest.fixture
async def shop(spool: FileSpool) -> AsyncIterator[Shop]:
    async with make_shop(spool=spool) as made:
        yield made


async def back(api: Api) -> None:
    """The database answers again, and the spool is replayed."""
    api.store.fault = None
    spool = api.parts.payments.desk.spool
    assert spool
    await Replayer(api.parts.payments, spool).once()
    await api.parts.payments.stop()
    assert await spool.waiting(10) == []


async def uncached(api: Api, session_id: str) -> None:
    await api.cache.inner.drop(session_id)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("query", ["", f"?qpay_payment_id={ID}"])
async def test_success_is_a_file_that_becomes_the_orders(api: Api, folder: Path, method: str, query: str) -> None:
    session = await api.open()
    api.qpay.pay(session["invoice"]["id"])
    api.database_down()
    assert_success(await api.call_back(session["id"], query, method))
    assert len(list(folder.iterdir())) == 1
    await back(api)
    assert ((await api.stored(session["id"])).status, outcomes(api)) == (Status.PAID, {"spooled": 1})


async def test_no_success_without_the_spools_disk(api: Api, folder: Path) -> None:
    session = await api.open()
    api.database_down()
    shutil.rmtree(folder)
    answer = await api.call_back(session["id"], f"?qpay_payment_id={ID}")
    assert_problem(answer, 503, "store_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert outcomes(api) == {"failed": 1}
    api.store.fault = None
    assert (await api.stored(session["id"])).hints == ()


async def test_a_wrong_token_is_not_spooled(api: Api, folder: Path) -> None:
    session = await api.open()
    api.database_down()
    path = api.callback_path(session["id"])[:-2] + "xx"
    assert_problem(await api.call("GET", f"{path}?qpay_payment_id={ID}", key=None), 404, "not_found")
    assert list(folder.iterdir()) == []


async def test_what_the_spool_does_is_counted_and_told(
    api: Api, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session = await api.open()
    api.database_down()
    for _ in range(3):
        await api.call_back(session["id"], f"?qpay_payment_id={ID}")
    assert caplog.messages.count("the database is away: a callback went to the spool") == 1
    found = await metrics(api)
    assert (found["tulbur_spool_waiting"], found['tulbur_spooled_callbacks_total{what="kept"}']) == (3, 3)
    (folder / "0.hint").write_bytes(b"x")
    await back(api)
    assert "a file of the spool is none of ours, or damaged; it is set aside" in caplog.messages
    found = await metrics(api)
    assert found["tulbur_spool_waiting"] == 0
    assert found['tulbur_spooled_callbacks_total{what="replayed"}'] == 3
    assert found['tulbur_spooled_callbacks_total{what="set_aside"}'] == 1
    assert found['tulbur_spooled_callbacks_total{what="failed"}'] == 0


# --- readiness -------------------------------------------------------------------------------------------------------


async def ready(api: Api) -> tuple[int, str, str]:
    answer = await api.get("/readyz", key=None)
    return answer.status_code, answer.json()["status"], answer.json()["checks"]["spool"]


async def test_with_a_spool_a_process_without_its_database_still_takes_callbacks(api: Api, folder: Path) -> None:
    assert await ready(api) == (200, "ready", "ok")
    api.database_down()
    assert await ready(api) == (200, "degraded", "ok")
    folder.rename(folder.with_name("gone"))
    assert await ready(api) == (503, "unready", "down")
    api.store.fault = None
    assert await ready(api) == (200, "degraded", "down")


async def test_a_schema_that_cannot_be_used_is_unready_all_the_same(api: Api) -> None:
    api.store.fault = SettingsError("a newer release made it")
    assert await ready(api) == (503, "unready", "ok")


# --- the old shop's webhook ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", HOOKS)
async def test_the_old_routes_get_is_success_too(shop: Shop, session_id: str, path: str) -> None:
    shop.api.qpay.pay("inv1")
    shop.api.database_down()
    params = {"sessionId": session_id, "token": shop.callback_token(session_id), "qpay_payment_id": PAYMENT}
    assert_success(await shop.outside.get(path, params=params))
    await back(shop.api)
    assert (await shop.stored(session_id)).status is Status.PAID


@pytest.mark.parametrize("cached", [True, False])
async def test_the_old_routes_post_says_that_it_is_not_yet_known(shop: Shop, session_id: str, cached: bool) -> None:
    shop.api.qpay.pay("inv1")
    if not cached:
        await uncached(shop.api, session_id)
    shop.api.database_down()
    body = told(await shop.hook(session_id, hook_body(payment_id=PAYMENT)), "PAYMENT_CHECK_API_FAILED")
    assert (body["sessionId"], body["orderIds"]) == (session_id, [])
    told(await shop.hook_inside(session_id), "PAYMENT_CHECK_API_FAILED")
    await back(shop.api)
    stored = await shop.stored(session_id)
    assert (stored.status, len(stored.orders)) == (Status.PAID, 2)
    assert outcomes(shop.api) == {"spooled": 2}


async def test_without_a_spool_the_old_routes_are_503() -> None:
    async with make_shop() as shop:
        session_id = str((await shop.opened())["sessionId"])
        await uncached(shop.api, session_id)
        shop.api.database_down()
        params = {"sessionId": session_id, "token": shop.callback_token(session_id), "qpay_payment_id": PAYMENT}
        assert (await shop.outside.get(HOOK, params=params)).status_code == 503
        assert (await shop.outside.post(HOOK, params=params)).status_code == 503
        assert (await shop.hook_inside(session_id, path=INTERNAL_HOOK)).status_code == 503
        assert (await shop.outside.get(HOOK, params=params | {"token": "old"})).status_code == 503


async def imported(shop: Shop, session_id: str) -> None:
    claim = Claim(status="PENDING", digest="d", token_digest=sha256(b"old-token").hexdigest())
    before = await shop.stored(session_id)
    after = replace(before, custody=Custody.OURS, claim=claim).with_news("session.imported", before.created_at)
    await shop.api.store.commit(before, after)


@pytest.mark.parametrize(("token", "good"), [("old-token", True), ("old-tokem", False)])
async def test_a_token_of_the_old_shop_is_checked_when_the_database_is_back(
    shop: Shop, session_id: str, folder: Path, token: str, good: bool
) -> None:
    await imported(shop, session_id)
    shop.api.database_down()
    params = {"sessionId": session_id, "token": token, "qpay_payment_id": PAYMENT}
    assert_success(await shop.outside.get(HOOK, params=params))
    assert token.encode() not in b"".join(path.read_bytes() for path in folder.iterdir())
    await back(shop.api)
    assert [hint.payment_id for hint in (await shop.stored(session_id)).hints] == ([PAYMENT] if good else [])
    assert await shop.api.store.unmatched(10) == []


async def test_a_token_that_nobody_can_check_needs_a_payment(shop: Shop, session_id: str, folder: Path) -> None:
    shop.api.database_down()
    params = {"sessionId": session_id, "token": "old-token"}
    assert (await shop.outside.get(HOOK, params=params)).status_code == 503
    assert (await shop.outside.get(HOOK, params={"sessionId": session_id})).status_code == 403
    assert list(folder.iterdir()) == []


class Deaf:
    """An old shop whose Redis does not answer."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def read(self, session_id: str) -> None:
        raise SourceUnavailable

    def changed(self) -> Any:
        raise NotImplementedError


async def test_with_neither_database_nor_redis_the_payment_is_kept(spool: FileSpool) -> None:
    async with make_shop(spool=spool, old_shop=Deaf()) as shop:
        params = {"sessionId": "of-the-old-shop", "token": "old", "qpay_payment_id": PAYMENT}
        shop.api.database_down()
        assert_success(await shop.outside.get(HOOK, params=params))
        await back(shop.api)
        rows = await shop.api.store.unmatched(10)
        assert [(row.payment_id, row.hinted_session_id) for row in rows] == [(PAYMENT, "")]


class Empty(Deaf):
    """An old shop whose Redis has no such session, or no more."""

    async def read(self, session_id: str) -> None:
        return None


@pytest.mark.parametrize("old_shop", [Empty(), None])
async def test_a_session_that_is_gone_when_the_database_is_back_loses_no_payment(
    spool: FileSpool, old_shop: Empty | None
) -> None:
    """Its key in the old shop's Redis ended meanwhile: nobody can tell any more whether the token was right."""
    async with make_shop(spool=spool, old_shop=old_shop) as shop:
        params = {"sessionId": "of-the-old-shop", "token": "old", "qpay_payment_id": PAYMENT}
        shop.api.database_down()
        assert_success(await shop.outside.get(HOOK, params=params))
        await back(shop.api)
        rows = await shop.api.store.unmatched(10)
        assert [(row.payment_id, row.hinted_session_id) for row in rows] == [(PAYMENT, "")]
        assert await spool.waiting(10) == []


async def test_nobody_can_tell_of_an_unknown_session_while_redis_is_silent() -> None:
    async with make_shop(old_shop=Deaf()) as shop:
        answer = await shop.api.get("/v1/sessions/of-the-old-shop")
        assert_problem(answer, 503, "store_unavailable")
        assert answer.headers["retry-after"] == "5"
