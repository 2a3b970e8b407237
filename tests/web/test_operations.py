"""/healthz, /readyz and /metrics, whatever is down."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from tests.web.api_world import START, Api

from tulbur.core.session import SECOND
from tulbur.errors import ProviderUnavailable, SettingsError
from tulbur.payments.sweeping import sweep
from tulbur.web import operations

pytestmark = pytest.mark.anyio

METRICS = {
    "tulbur_session_loads_total",
    "tulbur_callbacks_total",
    "tulbur_callback_seconds",
    "tulbur_provider_requests_total",
    "tulbur_provider_seconds",
    "tulbur_checks_total",
    "tulbur_sessions",
    "tulbur_exceptions",
    "tulbur_orders_total",
    "tulbur_refund_due_tugrik",
    "tulbur_held_tugrik",
    "tulbur_held_payments",
    "tulbur_sweeps_total",
    "tulbur_swept_payments_total",
    "tulbur_swept_until_seconds",
    "tulbur_events_undelivered",
    "tulbur_events_parked",
    "tulbur_webhooks_total",
    "tulbur_webhook_seconds",
    "tulbur_cache_errors_total",
    "tulbur_commit_batch_size",
}


async def metrics(api: Api) -> dict[str, float]:
    answer = await api.get("/metrics", key=None)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = (line.rpartition(" ") for line in answer.text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


async def test_a_process_that_answers_is_alive(api: Api) -> None:
    api.database_down()
    for method in ("GET", "HEAD"):
        assert (await api.call(method, "/healthz", key=None)).status_code == 200
    assert api.store.calls == []


async def test_ready(api: Api) -> None:
    answer = await api.get("/readyz", key=None)
    checks = {"database": "ok", "schema": "ok", "cache": "ok", "provider": "ok"}
    assert (answer.status_code, answer.json()) == (
        200,
        {"status": "ready", "checks": checks, "cache_kind": "in-process"},
    )


async def test_without_the_database_it_is_unready(api: Api) -> None:
    api.database_down()
    answer = await api.get("/readyz", key=None)
    assert (answer.status_code, answer.json()["status"]) == (503, "unready")
    assert answer.json()["checks"]["database"] == "down"
    api.store.fault = None
    assert (await api.get("/readyz", key=None)).status_code == 200


async def test_a_schema_of_another_release_is_not_called_a_database_that_is_down(api: Api) -> None:
    api.store.fault = SettingsError("a newer release made it")
    answer = await api.get("/readyz", key=None)
    assert (answer.status_code, answer.json()["status"]) == (503, "unready")
    assert answer.json()["checks"] | {"database": "ok", "schema": "unusable"} == answer.json()["checks"]


async def test_a_check_that_breaks_or_hangs_has_answered(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.store.fault = RuntimeError()
    assert (await api.get("/readyz", key=None)).status_code == 503
    api.store.fault = None
    monkeypatch.setattr(operations, "CHECK_SECONDS", 0.01)
    monkeypatch.setattr(api.store.inner, "ping", asyncio.Event().wait)
    assert (await api.get("/readyz", key=None)).status_code == 503


async def test_without_the_cache_it_is_degraded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> bool:
        return False

    monkeypatch.setattr(api.cache.inner, "ping", broken)
    answer = await api.get("/readyz", key=None)
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["checks"]["cache"] == "down"


async def test_while_qpay_is_left_alone_it_is_degraded(api: Api) -> None:
    api.qpay.is_answering = False
    answer = await api.get("/readyz", key=None)
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")


async def test_many_who_ask_at_once_cost_one_check(api: Api) -> None:
    await asyncio.gather(*(api.get("/readyz", key=None) for _ in range(50)))
    assert len(api.store.calls) < 10


async def test_every_metric_has_its_name(api: Api) -> None:
    session = await api.open()
    api.qpay.pay(session["invoice"]["id"], tugrik=60_000)
    await api.call_back(session["id"])
    api.parts.telemetry.on_request("payment_check", "ok", 0.1)
    api.parts.telemetry.on_cache_error("timeout")
    api.parts.telemetry.on_commit_batch(3)
    text = (await api.get("/metrics", key=None)).text
    assert set(re.findall(r"^# TYPE (tulbur_\w+?)(?:_created)? ", text, re.MULTILINE)) >= METRICS
    found = await metrics(api)
    assert found['tulbur_session_loads_total{source="cache"}'] == 1
    assert found['tulbur_session_loads_total{source="database"}'] == 0
    assert found['tulbur_session_loads_total{source="adopted"}'] == 0
    assert found['tulbur_callbacks_total{outcome="paid"}'] == 1
    assert found["tulbur_callback_seconds_count"] == 1
    assert found['tulbur_checks_total{reason="callback"}'] == 1
    assert found['tulbur_provider_requests_total{operation="payment_check",result="ok"}'] == 1
    assert found['tulbur_sessions{status="PAID"}'] == 1
    assert found['tulbur_sessions{status="PENDING"}'] == 0
    assert found['tulbur_exceptions{exception="overpaid"}'] == 1
    assert found["tulbur_orders_total"] == 2
    assert found["tulbur_refund_due_tugrik"] == 10_000
    assert found["tulbur_events_undelivered"] > 0
    assert found["tulbur_events_parked"] == 0
    assert found['tulbur_webhooks_total{result="timeout"}'] == 0
    assert found["tulbur_cache_errors_total"] == 1


async def test_money_that_is_held_and_what_sweeps_found_can_be_seen(api: Api) -> None:
    found = await metrics(api)
    assert (found["tulbur_held_payments"], found["tulbur_swept_until_seconds"]) == (0, 0)
    assert found['tulbur_swept_payments_total{became="foreign"}'] == 0
    session = await api.open()
    api.qpay.pay(session["invoice"]["id"], tugrik=20_000)
    await api.call_back(session["id"])
    (run,) = await sweep(api.parts.payments.desk, START - 3600 * SECOND, START, "daily")
    api.qpay.fault = ProviderUnavailable()
    api.clock.advance(5)
    await sweep(api.parts.payments.desk, START, START + SECOND, "catch_up")
    found = await metrics(api)
    assert (found["tulbur_held_tugrik"], found["tulbur_held_payments"]) == (20_000, 1)
    assert found['tulbur_sweeps_total{reason="daily",result="complete"}'] == 1
    assert found['tulbur_sweeps_total{reason="catch_up",result="incomplete"}'] == 1
    assert found['tulbur_swept_payments_total{became="known"}'] == run.report["known"] == 1
    assert found["tulbur_swept_until_seconds"] == START // SECOND


async def test_the_database_is_counted_at_most_every_five_seconds(api: Api) -> None:
    for _ in range(3):
        await metrics(api)
    assert api.store.calls == ["stats"]
    api.clock.advance(5)
    await api.open()
    api.store.calls.clear()
    assert (await metrics(api))['tulbur_sessions{status="PENDING"}'] == 1
    assert api.store.calls == ["stats"]


@pytest.mark.parametrize("fault", [RuntimeError(), OSError()])
async def test_a_scrape_never_fails(api: Api, fault: Any) -> None:
    api.store.fault = fault
    assert "tulbur_orders_total" in await metrics(api)
