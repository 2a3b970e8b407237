"""Builds the parts and ties them together: the only module that knows everyone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

from starlette.types import ASGIApp, Receive, Scope, Send

from tulbur.cache import Backend, MemoryBackend, SessionCache
from tulbur.core.session import Micros, Reason
from tulbur.core.session import Session as CoreSession
from tulbur.errors import SettingsError, StoreUnavailable
from tulbur.events import Webhook
from tulbur.links import Links
from tulbur.payments import Payments, Policy
from tulbur.payments.cleaning import Keep
from tulbur.payments.desk import Desk
from tulbur.ports import EventSink, OldShop, Spool, Store, SweepRun
from tulbur.qpay.client import QPay
from tulbur.settings import Required, Settings, WebhookSettings
from tulbur.spool import FileSpool, Told
from tulbur.stores import choosing
from tulbur.telemetry import Telemetry
from tulbur.web.app import WebParts, create_app
from tulbur.web.decisions import Decisions, name_of
from tulbur.web.intake import SessionOpen, body_digest, open_request
from tulbur.web.live import LiveSessions
from tulbur.web.models import Session
from tulbur.web.seed_parts import SeedParts
from tulbur.web.shapes import session_shape
from tulbur.worker import Cleaner, Deliverer, Follower, Replayer, Sweeper, Worker

FLUSH_SECONDS: Final = 5.0
"""How often a process adds its counts to the shared ones."""

AWAY_SECONDS: Final = 2.0
"""How often a database that was away at the start is tried again."""

STOP_SECONDS: Final = 20.0
"""How long the loops may take to their end; a sweep or a cleaning takes longer, and goes on in another process."""

_log: Final = logging.getLogger("tulbur")


def now() -> Micros:
    return time.time_ns() // 1000


def new_id() -> str:
    """32 hexadecimal characters: the time first, so that new rows lie together, then 80 random bits."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def open_store(settings: Settings) -> Store:
    """The store that DATABASE_URL chooses; nothing is opened yet.

    Raises:
        SettingsError: no store of this release speaks that URL, or its driver is not installed.
    """
    return choosing.open_store(settings.database_url)


def open_cache_backend(settings: Settings) -> tuple[Backend, str]:
    """What keeps cached sessions, as REDIS_URL chooses, and of which kind that is; nothing is opened yet.

    Raises:
        SettingsError: that is no address, or the driver is not installed.
    """
    if settings.redis_url is None:
        return MemoryBackend(now), "in-process"
    try:
        from tulbur.cache.redis import RedisBackend  # noqa: PLC0415 - for those who use it
    except ModuleNotFoundError as missing:
        raise SettingsError(
            'REDIS_URL is set, but its driver is not installed: pip install "tulbur[redis]".'
        ) from missing
    try:
        backend = RedisBackend(settings.redis_url)
    except ValueError as wrong:
        raise SettingsError(
            "REDIS_URL is not an address such as redis://:password@host:6379/0; rediss:// is TLS, and "
            "?cluster=1 means a cluster, which has no numbered databases."
        ) from wrong
    return backend, backend.kind


def open_spool(settings: Settings, on_change: Told | None = None) -> Spool | None:
    """Where callbacks are kept while the database is away, if SPOOL_DIR says so; nothing is opened yet."""
    folder = settings.spool_path()
    return FileSpool(folder, settings.secret_keys(), on_change=on_change) if folder else None


def open_webhook(webhook: WebhookSettings, on_delivery: Callable[[str, float], None] | None = None) -> Webhook:
    """Where the shop hears of events; nothing is opened yet."""
    return Webhook(webhook.url, webhook.keys, now, allow_private=webhook.allow_private, on_delivery=on_delivery)


def open_old_shop(settings: Settings) -> OldShop | None:
    """The old shop's sessions in Redis, while its routes are answered here and there is a Redis to share with it.

    Raises:
        SettingsError: REDIS_URL is no address.
    """
    if settings.redis_url is None or settings.old_shop() is None:
        return None
    from tulbur.importer.keys import LiveKeys  # noqa: PLC0415 - for those who use it

    return LiveKeys(settings.redis_url, now)


class Tulbur(Decisions):
    """tulbur as a library: every use case, and the whole HTTP application to serve or to mount.

    `await start()` and `await stop()`, or `async with`, bound its life; a mounted application gets no lifespan events,
    so whoever mounts `asgi` starts and stops it. `worker=False` leaves the looks that are due to other processes.
    `alone=False` says that other processes change sessions too: then only final states are cached without Redis.
    """

    def __init__(self, settings: Settings, *, worker: bool = True, alone: bool = True) -> None:
        required = settings.required()
        self.settings = settings
        self.links = Links(required.public_url, required.secret_keys)
        self.store = open_store(settings)
        self.telemetry = Telemetry()
        self.live = LiveSessions()
        # Processes have what is cached in common, or there is only one.
        shared = alone or settings.redis_url is not None
        backend, cache_kind = open_cache_backend(settings)
        self.cache = SessionCache(
            backend,
            required.secret_keys,
            now,
            on_error=self.telemetry.on_cache_error,
            final_only=not shared,
        )
        self.provider = self._qpay(required)
        self.old_shop = open_old_shop(settings)
        self.spool = open_spool(settings, self.telemetry.on_spool)
        self.payments = self._use_cases()
        owner = f"worker-{secrets.token_hex(6)}"
        webhook = settings.webhook()
        self.shop = open_webhook(webhook, self.telemetry.on_delivery) if webhook and worker else None
        self.worker = Worker(self.payments, owner=owner, publishing=self.shop is None) if worker else None
        self.deliverer = Deliverer(self.payments, self.shop, owner=owner, chance=random.random) if self.shop else None
        self.follower = Follower(self.payments, owner=owner) if worker and self.old_shop else None
        self.keep = Keep(
            retention_days=settings.retention_days,
            late_days=settings.late_days,
            telling=settings.webhook() is not None,
        )
        self.cleaner = Cleaner(self.payments, self.keep, owner=owner) if worker else None
        self.sweeper = Sweeper(self.payments, owner=owner) if worker and settings.sweep == "daily" else None
        self.replayer = Replayer(self.payments, self.spool) if self.spool else None
        old_shop = settings.old_shop()
        self._seed = SeedParts.of(old_shop, now) if old_shop else None
        self.asgi: ASGIApp = create_app(self._web_parts(required, shared=shared, cache_kind=cache_kind))
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._unusable = ""

    def _qpay(self, required: Required) -> QPay:
        return QPay(
            required.qpay_base_url,
            required.qpay_username,
            required.qpay_password,
            required.qpay_invoice_code,
            store=self.store,
            clock=now,
            on_request=self.telemetry.on_request,
        )

    def _use_cases(self) -> Payments:
        desk = Desk(
            store=self.store,
            cache=self.cache,
            provider=self.provider,
            links=self.links,
            sink=_Sinks([self.telemetry, self.live]),
            clock=now,
            new_id=new_id,
            old_shop=self.old_shop,
            spool=self.spool,
            rules=self.settings.rules(),
        )
        policy = Policy(
            session_expiry_seconds=self.settings.session_expiry_seconds,
            session_ttl_seconds=self.settings.session_ttl_seconds,
        )
        return Payments(desk, policy)

    def _web_parts(self, required: Required, *, shared: bool, cache_kind: str) -> WebParts:
        return WebParts(
            payments=self.payments,
            store=self.store,
            ping_store=self._ping_store,
            cache=self.cache,
            provider=self.provider,
            links=self.links,
            clock=now,
            api_keys=self.settings.api_keys(),
            telemetry=self.telemetry,
            live=self.live,
            policy=self.payments.policy,
            shared_cache_or_single=shared,
            cache_kind=cache_kind,
            trusted_proxies=self.settings.trusted_proxies,
            hsts=required.public_url.startswith("https://"),
            seed=self._seed,
            delivering=self.settings.webhook() is not None,
        )

    @classmethod
    def from_env(cls, **options: Any) -> Self:  # noqa: ANN401 - the options of __init__
        """Build it from the environment and `.env`.

        Raises:
            SettingsError: one sentence for each setting that is missing or wrong.
        """
        return cls(Settings.from_env(), **options)

    async def start(self) -> None:
        """Open the database and the connections, and begin to work.

        With a spool this does not wait for a database that is away: callbacks are taken from the first moment on.

        Raises:
            SettingsError: the database's schema cannot be used; the sentence says what to do.
            StoreUnavailable: the database does not answer, and there is no spool.
        """
        self._stopping.clear()
        self.live.start()
        if self.spool is not None:
            await self.spool.start()
        away = await self._store_is_away()
        await self.cache.start()
        await self.provider.start()
        if self.shop is not None:
            await self.shop.start()
        self._tasks = [asyncio.create_task(self._flush_now_and_then(), name="tulbur-flush")]
        if away:
            self._tasks.append(asyncio.create_task(self._start_the_store(), name="tulbur-database"))
        loops = (self.worker, self.deliverer, self.follower, self.replayer, self.cleaner, self.sweeper)
        self._tasks += [asyncio.create_task(loop.run(), name=f"tulbur-{type(loop).__name__}") for loop in loops if loop]

    async def stop(self) -> None:
        """Finish what is being settled, then close everything; safe to call twice."""
        self._stopping.set()
        for loop in (self.worker, self.deliverer, self.follower, self.replayer, self.cleaner, self.sweeper):
            if loop is not None:
                loop.stop()
        self.live.close()
        await self._end_the_loops()
        await self.payments.stop()
        with contextlib.suppress(StoreUnavailable):
            await self.telemetry.flush(self.store, now())
        await self.provider.stop()
        if self.shop is not None:
            await self.shop.stop()
        if self._seed is not None:
            await self._seed.stop()
        if self.old_shop is not None:
            await self.old_shop.stop()
        if self.spool is not None:
            await self.spool.stop()
        await self.cache.stop()
        await self.store.stop()

    async def _end_the_loops(self) -> None:
        """Let each finish what it is at; what takes longer may be given up, as it may be killed."""
        tasks, self._tasks = self._tasks, []
        late = (await asyncio.wait(tasks, timeout=STOP_SECONDS))[1] if tasks else ()
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def open(
        self,
        *,
        user_id: str,
        amount: Any,  # noqa: ANN401 - text, int or Decimal, as the HTTP body takes it
        items: Sequence[Mapping[str, Any]] = (),
        idempotency_key: str | None = None,
        **fields: Any,  # noqa: ANN401 - the other fields of POST /v1/sessions
    ) -> Session:
        """Open a checkout; the arguments are the fields of `POST /v1/sessions`, amounts in tugrik.

        Raises:
            Invalid, AmountMismatch: the cart does not add up.
            ProviderUnavailable, ProviderRefused: stored as `session_id`; repeat with the same `idempotency_key`.
        """
        body = SessionOpen.parse({"user_id": user_id, "amount": amount, "items": list(items), **fields})
        request = open_request(
            body, scope="", idempotency_key=idempotency_key, digest=body_digest(body), policy=self.payments.policy
        )
        return self._shape(await self.payments.open(request))

    async def get(self, session_id: str) -> Session:
        """The session as it is now. Raises NotFound."""
        return self._shape(await self.payments.get(session_id))

    async def check(self, session_id: str, reason: Reason = Reason.PAYER, *, by: str | None = None) -> Session:
        """Ask QPay now, for a payer at most once per 10 s and session; too early gives the stored state.

        `by` is who wants to know, where that is not the payer.

        Raises:
            ProviderUnavailable: QPay does not answer.
        """
        return self._shape(await self.payments.check(session_id, reason, by="" if by is None else name_of(by)))

    async def cancel(self, session_id: str, *, by: str = "the shop") -> Session:
        """Give the session up; `by` says who does. Raises AlreadyPaid when the money was there first."""
        return self._shape(await self.payments.cancel(session_id, by=name_of(by)))

    def _shape(self, session: CoreSession) -> Session:
        return session_shape(session, self.links)

    async def _store_is_away(self) -> bool:
        try:
            await self.store.start()
        except StoreUnavailable as silent:
            if self.spool is None:
                raise
            _log.error("the database is away: callbacks go to the spool", extra={"error": silent.message})
            return True
        return False

    async def _start_the_store(self) -> None:
        """Until the database is there; what needs it is told that it is away meanwhile."""
        while not self._stopping.is_set():
            await self._pause(AWAY_SECONDS)
            try:
                await self.store.start()
            except StoreUnavailable:
                continue
            except SettingsError as unusable:
                if unusable.message != self._unusable:
                    _log.error("the database is back, but cannot be used", extra={"error": unusable.message})
                self._unusable = unusable.message
                continue
            except Exception:  # noqa: BLE001 - a defect must not end the loop
                _log.exception("opening the database failed")
                continue
            self._unusable = ""
            _log.warning("the database is back")
            return

    async def _ping_store(self) -> None:
        """Raises SettingsError, StoreUnavailable."""
        if self._unusable:
            raise SettingsError(self._unusable)
        await self.store.ping()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _flush_now_and_then(self) -> None:
        while not self._stopping.is_set():
            await self._pause(FLUSH_SECONDS)
            try:
                await self.telemetry.flush(self.store, now())
            except StoreUnavailable:
                continue  # they are kept
            except Exception:  # noqa: BLE001 - a defect must not end the loop
                _log.exception("counting failed")


class Application:
    """The HTTP application of a process that a server starts by itself: its lifespan is tulbur's."""

    def __init__(self, tulbur: Tulbur) -> None:
        self._tulbur = tulbur

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._tulbur.asgi(scope, receive, send)
            return
        await receive()
        try:
            await self._tulbur.start()
        except (SettingsError, StoreUnavailable) as error:
            await send({"type": "lifespan.startup.failed", "message": error.message})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._tulbur.stop()
        await send({"type": "lifespan.shutdown.complete"})


class _Sinks:
    """Tells several listeners, in order."""

    def __init__(self, sinks: Sequence[EventSink]) -> None:
        self._sinks = sinks

    def loaded(self, session_id: str, source: str) -> None:
        for sink in self._sinks:
            sink.loaded(session_id, source)

    def called_back(self, outcome: str, seconds: float) -> None:
        for sink in self._sinks:
            sink.called_back(outcome, seconds)

    def asked(self, reason: Reason) -> None:
        for sink in self._sinks:
            sink.asked(reason)

    def changed(self, session: CoreSession) -> None:
        for sink in self._sinks:
            sink.changed(session)

    def unmatched(self, session_id: str, payment_id: str) -> None:
        for sink in self._sinks:
            sink.unmatched(session_id, payment_id)

    def swept(self, run: SweepRun) -> None:
        for sink in self._sinks:
            sink.swept(run)
