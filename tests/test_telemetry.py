"""What is counted, what is logged, and that no secret and nobody's data is."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import structlog
from tests.web.checkout_world import NOON, answered, waiting

from tulbur.core.session import Micros, Reason
from tulbur.errors import StoreUnavailable
from tulbur.ports import EventSink
from tulbur.telemetry import HIDDEN, MOST_TEXT, Telemetry, configure_logging, redacted, uvicorn_log_config


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def configured() -> Iterator[None]:
    """Leaves logging and structlog as they were found."""
    names = ("", "tulbur", "uvicorn", "uvicorn.error", "uvicorn.access")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.level, list(logger.handlers), logger.propagate) for logger in loggers]
    yield
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate
    structlog.reset_defaults()


@pytest.fixture
def lines(configured: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, Any]]]:
    """Configures JSON logs and reads the lines written so far."""
    written = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", written)
        configure_logging("INFO", "json")
    return lambda: [json.loads(line) for line in written.getvalue().splitlines()]


def value(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    return telemetry.registry.get_sample_value(name, labels)


class Shelf:
    """The one method of a store that is needed here."""

    def __init__(self) -> None:
        self.tallied: list[Mapping[str, int]] = []
        self.fault: Exception | None = None

    async def tally(self, now: Micros, loads: Mapping[str, int]) -> None:
        if self.fault:
            raise self.fault
        self.tallied.append(dict(loads))


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_it_is_an_event_sink() -> None:
    sink: EventSink = Telemetry()
    sink.asked(Reason.PAYER)
    assert value(Telemetry(), "tulbur_checks_total", reason="payer") == 0


def test_two_of_them_count_apart() -> None:
    one, two = Telemetry(), Telemetry()
    one.called_back("paid", 0.01)
    assert value(one, "tulbur_callbacks_total", outcome="paid") == 1
    assert value(two, "tulbur_callbacks_total", outcome="paid") is None


def test_orders_are_counted_once() -> None:
    telemetry = Telemetry()
    session = answered(waiting(), 50_000)
    news = session.with_news("order.created", NOON, order_id="o1").with_news("order.created", NOON, order_id="o2")
    telemetry.changed(news)
    telemetry.changed(session)
    assert value(telemetry, "tulbur_orders_total") == 2


def test_a_request_that_was_skipped_took_no_time() -> None:
    telemetry = Telemetry()
    telemetry.on_request("payment_check", "ok", 0.2)
    telemetry.on_request("payment_check", "skipped", 0.0)
    assert value(telemetry, "tulbur_provider_requests_total", operation="payment_check", result="skipped") == 1
    assert value(telemetry, "tulbur_provider_seconds_count", operation="payment_check") == 1


def test_a_broken_cache_is_told_once_and_counted_always(caplog: pytest.LogCaptureFixture) -> None:
    telemetry = Telemetry()
    for _ in range(100):
        telemetry.on_cache_error("timeout")
    assert value(telemetry, "tulbur_cache_errors_total") == 100
    assert caplog.messages == ["the cache failed"]


@pytest.mark.anyio
async def test_loads_are_shared_once() -> None:
    telemetry, shelf = Telemetry(), Shelf()
    for source in ("cache", "cache", "database"):
        telemetry.loaded("s1", source)
    await telemetry.flush(shelf, NOON)  # type: ignore[arg-type]
    await telemetry.flush(shelf, NOON)  # type: ignore[arg-type]
    assert shelf.tallied == [{"cache": 2, "database": 1}]
    assert value(telemetry, "tulbur_session_loads_total", source="cache") == 2


@pytest.mark.anyio
async def test_loads_that_could_not_be_shared_are_kept() -> None:
    telemetry, shelf = Telemetry(), Shelf()
    telemetry.loaded("s1", "cache")
    shelf.fault = StoreUnavailable()
    with pytest.raises(StoreUnavailable):
        await telemetry.flush(shelf, NOON)  # type: ignore[arg-type]
    telemetry.loaded("s1", "cache")
    shelf.fault = None
    await telemetry.flush(shelf, NOON)  # type: ignore[arg-type]
    assert shelf.tallied == [{"cache": 2}]


# --- logs ------------------------------------------------------------------------------------------------------------


def test_the_fallback_is_one_line(lines: Callable[[], list[dict[str, Any]]]) -> None:
    telemetry = Telemetry()
    telemetry.loaded("s1", "cache")
    telemetry.loaded("s2", "database")
    (line,) = lines()
    assert (line["event"], line["session_id"], line["level"]) == ("session loaded from database", "s2", "info")
    assert line["timestamp"].endswith("Z")


def test_what_happened_is_told_without_cart_or_person(lines: Callable[[], list[dict[str, Any]]]) -> None:
    session = waiting(user_id="bat-erdene", shipping={"phone": "99112233"}, metadata={"note": "hunter2"})
    news = (
        session.with_news("session.paid", NOON, order_ids=["o1"])
        .with_news("session.exception", NOON, exception="late")
        .with_news("callback.received", NOON, payment_id="p1")
    )
    Telemetry().changed(news)
    told = lines()
    assert [(line["event"], line["level"]) for line in told] == [
        ("session.paid", "info"),
        ("session.exception", "warning"),
    ]
    assert told[0]["order_ids"] == ["o1"]
    assert told[1]["exception"] == "late"
    assert not {"bat-erdene", "99112233", "hunter2"} & set(json.dumps(told).split('"'))


def test_the_request_id_is_on_every_line(lines: Callable[[], list[dict[str, Any]]]) -> None:
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger("tulbur.worker").info("looked", session_id="s1")
        logging.getLogger("tulbur").info("plain")
    assert [(line["request_id"], line["event"]) for line in lines()] == [("r1", "looked"), ("r1", "plain")]


def test_a_field_may_be_called_what_it_likes(lines: Callable[[], list[dict[str, Any]]]) -> None:
    structlog.get_logger("tulbur").info("x", name="n", args="a", message="m", module="o")
    (line,) = lines()
    assert (line["event"], line["name_"], line["message_"]) == ("x", "n", "m")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.def-ghi", f"Authorization: {HIDDEN} {HIDDEN}"),
        ("sent Bearer abc", f"sent Bearer {HIDDEN}"),
        ("Basic dXNlcjpwYXNz end", f"Basic {HIDDEN} end"),
        ("GET /callbacks/qpay/s1/TOKEN-x_1?qpay_payment_id=1", f"GET /callbacks/qpay/s1/{HIDDEN}?qpay_payment_id=1"),
        ("https://pay.shop.mn/pay/s1/TOKEN/status", f"https://pay.shop.mn/pay/s1/{HIDDEN}/status"),
        ("postgresql://shop:hunter2@db/tulbur", f"postgresql://{HIDDEN}@db/tulbur"),
        ('{"access_token": "abc", "expires_in": 1}', f'{{"access_token": "{HIDDEN}", "expires_in": 1}}'),
        ("/webhook?sessionId=1&token=abc&x=1", f"/webhook?sessionId=1&token={HIDDEN}&x=1"),
        ("password=hunter2;", f"password={HIDDEN};"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_secrets_within_a_text_are_hidden(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_a_text_has_its_limit() -> None:
    assert len(redacted("x" * 100_000)) == MOST_TEXT + 1


def test_secrets_are_hidden_wherever_they_stand(lines: Callable[[], list[dict[str, Any]]]) -> None:
    log = structlog.get_logger("tulbur")
    log.warning(
        "asked /callbacks/qpay/s1/TOKEN1",
        qpay_password="TOKEN2",
        headers={"Authorization": "TOKEN3", "list": ["Bearer TOKEN4", {"api_key": "TOKEN5"}]},
        phone="TOKEN6",
        shipping={"street": "TOKEN7"},
        deep={"a": {"b": {"c": {"d": {"secret": "TOKEN8"}}}}},
        payment_id="493622150113497",
    )
    broken = RuntimeError("connecting to redis://:TOKEN9@cache")
    log.error("failed", exc_info=broken)
    logging.getLogger("other").error("failed with %s", "token=TOKEN10", exc_info=broken)
    told = lines()
    assert len(told) == 3
    assert "TOKEN" not in json.dumps(told)
    assert told[0]["payment_id"] == "493622150113497"
    assert "RuntimeError" in told[1]["exception"]


def test_the_console_shows_no_secret_either(configured: None, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "console")
    log = structlog.get_logger("tulbur")
    log.error("failed", token="TOKEN", exc_info=RuntimeError("Bearer TOKEN"))
    written = capsys.readouterr().err
    assert "failed" in written
    assert "RuntimeError" in written
    assert "TOKEN" not in written


def test_the_level_is_kept(configured: None, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("WARNING", "json")
    structlog.get_logger("tulbur").info("quiet")
    logging.getLogger("tulbur").info("quiet")
    logging.getLogger("sqlalchemy").info("quiet")
    structlog.get_logger("tulbur").warning("loud")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["loud"]


def test_uvicorn_writes_our_lines_and_no_access_log(configured: None, capsys: pytest.CaptureFixture[str]) -> None:
    config = uvicorn_log_config("INFO", "json")
    logging.config.dictConfig(pickle.loads(pickle.dumps(config)))  # noqa: S301 - as it travels to worker processes
    logging.getLogger("uvicorn.access").info('%s - "%s %s"', "1.2.3.4", "GET", "/callbacks/qpay/s1/TOKEN")
    logging.getLogger("uvicorn.error").info("Started", extra={"color_message": "\x1b[1mStarted"})
    logging.getLogger("uvicorn.error").error("Exception in /pay/s1/TOKEN")
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in told] == ["Started", f"Exception in /pay/s1/{HIDDEN}"]
    assert "color_message" not in told[0]


def test_nothing_is_written_that_nobody_configured(capsys: pytest.CaptureFixture[str]) -> None:
    Telemetry().loaded("s1", "database")
    assert capsys.readouterr().out == ""
