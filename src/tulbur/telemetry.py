"""What tulbur tells of itself: Prometheus metrics on a registry of its own, and structured logs without secrets."""

from __future__ import annotations

import logging
import logging.config
import re
import sys
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor

from tulbur.core.session import SECOND, ExceptionName, Micros, Reason, Session, Status
from tulbur.ports import BECAME, Outcome, Store, StoreStats, SweepRun

CACHE_ERROR_SECONDS: Final = 30.0
"""A broken cache is told of at most this often; the metric counts every error."""

SPOOL_DID: Final = ("kept", "replayed", "set_aside", "failed")

SPOOL_SECONDS: Final = 30.0
"""Callbacks that go to the spool are told of at most this often; the metric counts every one."""

_CALLBACK_BUCKETS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 3.5, 5.0, 10.0)
_PROVIDER_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 200)

_TOLD: Final[Mapping[str, tuple[str, ...]]] = {
    "session.invoiced": ("invoice_id", "attempt"),
    "session.paid": ("order_ids",),
    "session.expired": (),
    "session.cancelled": (),
    "session.exception": ("exception",),
    "refund.due": ("payment_id", "amount"),
    "invoice.unknown": ("attempt",),
    "invoice.refused": ("attempt", "key"),
}
"""The events that are logged, with the parts of them that are; never a cart, never a person."""

_WARNINGS: Final = frozenset({"session.exception", "refund.due", "invoice.unknown", "invoice.refused"})

_log: Final = logging.getLogger("tulbur")


class Telemetry:
    """Counts, and says in the log what an operator should know. An EventSink: nothing here raises or waits."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._loads = Counter(
            "tulbur_session_loads", "Callbacks by where their session was", ["source"], registry=registry
        )
        self._callbacks = Counter("tulbur_callbacks", "Callbacks by what came of them", ["outcome"], registry=registry)
        self._callback_seconds = Histogram(
            "tulbur_callback_seconds", "From callback to answer", buckets=_CALLBACK_BUCKETS, registry=registry
        )
        self._requests = Counter(
            "tulbur_provider_requests", "Requests to QPay", ["operation", "result"], registry=registry
        )
        self._request_seconds = Histogram(
            "tulbur_provider_seconds", "Time QPay took", ["operation"], buckets=_PROVIDER_BUCKETS, registry=registry
        )
        self._checks = Counter("tulbur_checks", "Questions to QPay by reason", ["reason"], registry=registry)
        self._orders = Counter("tulbur_orders", "Orders made by this process", registry=registry)
        self._cache_errors = Counter("tulbur_cache_errors", "Cache errors, each a miss", registry=registry)
        self._batches = Histogram(
            "tulbur_commit_batch_size", "Commits in one transaction", buckets=_BATCH_BUCKETS, registry=registry
        )
        self._sessions = Gauge("tulbur_sessions", "Sessions stored", ["status"], registry=registry)
        self._exceptions = Gauge("tulbur_exceptions", "Sessions by exception", ["exception"], registry=registry)
        self._refund_due = Gauge("tulbur_refund_due_tugrik", "Money due back to payers", registry=registry)
        self._unmatched = Gauge(
            "tulbur_unmatched_payments", "Payments without a session that nobody has closed", registry=registry
        )
        self._held = Gauge(
            "tulbur_held_tugrik", "Money held until somebody decides, or the payer pays the rest", registry=registry
        )
        self._held_payments = Gauge("tulbur_held_payments", "Payments of which money is held", registry=registry)
        self._undelivered = Gauge("tulbur_events_undelivered", "Events not yet delivered", registry=registry)
        self._spool_waiting = Gauge(
            "tulbur_spool_waiting", "Callbacks that wait in the spool this process uses", registry=registry
        )
        self._spooled = Counter(
            "tulbur_spooled_callbacks", "Callbacks by what the spool did", ["what"], registry=registry
        )
        self._pending: dict[str, int] = {}
        self._cache_told_at = float("-inf")
        self._spool_told_at = float("-inf")
        for source in ("cache", "database", "adopted"):
            self._loads.labels(source)
        for reason in Reason:
            self._checks.labels(reason.value)
        for what in SPOOL_DID:
            self._spooled.labels(what)
        self._begin_deliveries(registry)
        self._begin_sweeps(registry)

    def _begin_deliveries(self, registry: CollectorRegistry) -> None:
        self._parked = Gauge("tulbur_events_parked", "Events nobody tries to deliver any more", registry=registry)
        self._deliveries = Counter(
            "tulbur_webhooks", "Deliveries to the shop by what came of them", ["result"], registry=registry
        )
        self._delivery_seconds = Histogram(
            "tulbur_webhook_seconds", "Time the shop took", buckets=_PROVIDER_BUCKETS, registry=registry
        )
        for outcome in Outcome:
            self._deliveries.labels(outcome.value)

    def _begin_sweeps(self, registry: CollectorRegistry) -> None:
        self._sweeps = Counter(
            "tulbur_sweeps", "Sweeps of this process by reason and result", ["reason", "result"], registry=registry
        )
        self._swept_payments = Counter(
            "tulbur_swept_payments",
            "Payments on QPay's list by what became of them in a sweep",
            ["became"],
            registry=registry,
        )
        self._swept_until = Gauge(
            "tulbur_swept_until_seconds",
            "Up to when QPay's list was compared without a gap, since 1970; 0: never",
            registry=registry,
        )
        for became in BECAME:
            self._swept_payments.labels(became)

    # What an EventSink hears.

    def loaded(self, session_id: str, source: str) -> None:
        self._loads.labels(source).inc()
        self._pending[source] = self._pending.get(source, 0) + 1
        if source == "database":
            _log.info("session loaded from database", extra={"session_id": session_id})
        elif source == "adopted":
            _log.info("session adopted from the old shop's Redis", extra={"session_id": session_id})

    def called_back(self, outcome: str, seconds: float) -> None:
        self._callbacks.labels(outcome).inc()
        self._callback_seconds.observe(seconds)

    def asked(self, reason: Reason) -> None:
        self._checks.labels(reason.value).inc()

    def changed(self, session: Session) -> None:
        for event in session.news:
            if event.type == "order.created":
                self._orders.inc()
            parts = _TOLD.get(event.type)
            if parts is not None:
                level = logging.WARNING if event.type in _WARNINGS else logging.INFO
                told = {part: event.data.get(part) for part in parts}
                _log.log(level, event.type, extra={"session_id": session.id, **told})

    def unmatched(self, session_id: str, payment_id: str) -> None:
        _log.warning(
            "callback for a session that is not stored", extra={"session_id": session_id, "payment_id": payment_id}
        )

    def swept(self, run: SweepRun) -> None:
        self._sweeps.labels(run.reason, "complete" if run.report["seen"] == "all" else "incomplete").inc()
        for became in BECAME:
            self._swept_payments.labels(became).inc(run.report[became])

    # What the adapters report.

    def on_request(self, operation: str, result: str, seconds: float) -> None:
        """A request to QPay, or one that was "skipped" because QPay is not answering."""
        self._requests.labels(operation, result).inc()
        if result != "skipped":
            self._request_seconds.labels(operation).observe(seconds)

    def on_cache_error(self, kind: str) -> None:
        self._cache_errors.inc()
        now = time.monotonic()
        if now - self._cache_told_at >= CACHE_ERROR_SECONDS:
            self._cache_told_at = now
            _log.warning("the cache failed", extra={"kind": kind})

    def on_commit_batch(self, size: int) -> None:
        self._batches.observe(size)

    def on_delivery(self, result: str, seconds: float) -> None:
        """An event was sent to the shop, or could not be."""
        self._deliveries.labels(result).inc()
        self._delivery_seconds.observe(seconds)

    def on_spool(self, what: str, waiting: int, name: str = "") -> None:
        """The spool counted its files, or did one of `SPOOL_DID` with one of them."""
        self._spool_waiting.set(waiting)
        if what not in SPOOL_DID:
            return
        self._spooled.labels(what).inc()
        if what == "set_aside":
            _log.error("a file of the spool is none of ours, or damaged; it is set aside", extra={"file": name})
        now = time.monotonic()
        if what in ("kept", "failed") and now - self._spool_told_at >= SPOOL_SECONDS:
            self._spool_told_at = now
            _log.error("the database is away: a callback went to the spool", extra={"what": what, "waiting": waiting})

    # What is shared and shown.

    async def flush(self, store: Store, now: Micros) -> None:
        """Add this process's pending load counts to the shared ones; what could not be added stays pending.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        loads, self._pending = self._pending, {}
        if not loads:
            return
        try:
            await store.tally(now, loads)
        except BaseException:
            for source, count in loads.items():
                self._pending[source] = self._pending.get(source, 0) + count
            raise

    def show(self, stats: StoreStats) -> None:
        """Set the gauges to what is stored."""
        for status in Status:
            self._sessions.labels(status.value).set(stats.by_status.get(status, 0))
        for name in ExceptionName:
            self._exceptions.labels(name.value).set(stats.by_exception.get(name, 0))
        self._refund_due.set(stats.refund_due / 100)
        self._unmatched.set(stats.unmatched)
        self._held.set(stats.held / 100)
        self._held_payments.set(stats.held_count)
        self._swept_until.set((stats.swept_until or 0) / SECOND)
        self._undelivered.set(stats.events_undelivered)
        self._parked.set(stats.events_parked)

    def exposition(self) -> bytes:
        """Every metric in Prometheus' text format."""
        return generate_latest(self.registry)


# --- logs ------------------------------------------------------------------------------------------------------------

HIDDEN: Final = "***"

ACCESS_LOG: Final = "tulbur.access"
"""The logger of one line for each request; all its values are chosen by us, so nothing is looked for in them."""

MOST_TEXT: Final = 8_192
"""Characters of one logged value."""

_HIDDEN_KEYS: Final = re.compile(
    r"(?i)(^|[_-])(password|passwd|secret|secrets|token|authorization|cookie|api_key|apikey|key_digest|credentials"
    r"|phone|email|address|shipping|metadata|cart|items|user_id|body|qr_text|qr_image)$"
)
_HIDDEN_TEXTS: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"(?i)\b(bearer|basic)(\s+|%20)[^\s\"',;]+"), rf"\1 {HIDDEN}"),
    (re.compile(r"(/callbacks/qpay/[^/\s?\"']+/)[^/\s?#\"']+"), rf"\1{HIDDEN}"),
    (re.compile(r"(/pay/[^/\s?\"']+/)[^/\s?#\"']+"), rf"\1{HIDDEN}"),
    (re.compile(r"(://)[^/\s@\"']+@"), rf"\1{HIDDEN}@"),
    (
        re.compile(
            r"(?i)(\b(?:access_token|refresh_token|token|password|secret|api_key|authorization)[\"']?\s*[=:]\s*[\"']?)"
            r"[^\s&\"',;}]+"
        ),
        rf"\1{HIDDEN}",
    ),
)


_TELLING: Final = re.compile(r"(?i)bearer|basic|/callbacks/|/pay/|://|token|password|secret|api_key|authorization")
"""Without one of these words no pattern above fits; most texts have none."""

_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""Names a log record keeps for itself."""


def redacted(text: str) -> str:
    """A text without tokens, passwords and credentials, and not longer than `MOST_TEXT`."""
    if _TELLING.search(text):
        for pattern, replacement in _HIDDEN_TEXTS:
            text = pattern.sub(replacement, text)
    return text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + "…"


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: masks the values of telling keys, and secrets within any text."""
    if event.get("logger") == ACCESS_LOG:
        return event
    for key, value in event.items():
        event[key] = _masked(key, value)
    return event


@lru_cache(maxsize=1024)
def _is_hidden(key: str) -> bool:
    return bool(_HIDDEN_KEYS.search(key))


def _masked(key: str, value: object, depth: int = 4) -> object:
    if _is_hidden(key):
        return HIDDEN
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping() if depth:
            return {str(name): _masked(str(name), item, depth - 1) for name, item in value.items()}
        case list() | tuple() | set() | frozenset() if depth:
            return [_masked("", item, depth - 1) for item in value]
    return redacted(str(value))


def _for_stdlib(_logger: object, _method: str, event: EventDict) -> EventDict:
    """The last structlog processor: the event becomes a log record whose extra attributes are its fields."""
    message = {"msg": event.pop("event", "")}
    for key in ("exc_info", "stack_info", "stacklevel"):
        if key in event:
            message[key] = event.pop(key)
    message["extra"] = {f"{key}_" if key in _RECORD else key: value for key, value in event.items()}
    return message


def _without_colour(_logger: object, _method: str, event: EventDict) -> EventDict:
    event.pop("color_message", None)
    return event


def log_formatter(fmt: str) -> logging.Formatter:
    """What turns every record, ours and others', into one redacted line."""
    renderer: Processor = structlog.processors.JSONRenderer()
    if fmt == "console":
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    return ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.ExtraAdder(),
            _without_colour,
        ],
        processors=[
            ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact,
            renderer,
        ],
    )


def uvicorn_log_config(level: str, fmt: str) -> dict[str, Any]:
    """A `logging.config` dictionary: uvicorn's logs take our form; its access log, which prints tokens, is off."""
    others = "WARNING" if level in ("DEBUG", "INFO") else level
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"tulbur": {"()": "tulbur.telemetry.log_formatter", "fmt": fmt}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "tulbur", "stream": "ext://sys.stderr"},
        },
        "root": {"handlers": ["stderr"], "level": others},
        "loggers": {
            "tulbur": {"level": level},
            "uvicorn": {"level": level, "handlers": [], "propagate": True},
            "uvicorn.error": {"level": level, "handlers": [], "propagate": True},
            "uvicorn.access": {"level": "CRITICAL", "handlers": [], "propagate": False},
        },
    }


def configure_logging(level: str, fmt: str) -> None:
    """Write logs to stderr, as JSON lines or for a console, through structlog and the standard library alike."""
    logging.config.dictConfig(uvicorn_log_config(level, fmt))
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, _for_stdlib],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
