"""What the use cases need of the world: a store, a cache, a provider, and somebody to tell. All matched by shape."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Final, Protocol, TypeAlias

from tulbur.core.money import Mongo
from tulbur.core.moving import OldSession
from tulbur.core.orders import Order
from tulbur.core.session import Event, ExceptionName, Micros, Reason, Session, Status
from tulbur.core.settling import InvoiceAnswer, InvoiceSeen, SeenPayment
from tulbur.core.steps import InvoiceMade
from tulbur.errors import Conflict

Clock: TypeAlias = Callable[[], Micros]
"""The time now, in microseconds since the epoch, UTC."""

MOST_ROWS: Final = 200
"""Rows in any one page, claim or batch."""

MOST_COUNTED: Final = 10_000
"""Where counting ahead of a run ends."""


# --- the store -----------------------------------------------------------------------------------------------------


class Committed(Enum):
    """What became of a commit. Never inferred: the database said so."""

    WON = "won"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class PaymentTaken:
    """The commit did not happen: these payment ids belong to another session, or were closed before being assigned."""

    ids: frozenset[str]


CommitResult: TypeAlias = Committed | PaymentTaken


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmatched:
    """A payment, or the bare hint of one (`amount` None), for which there is no session.

    `due_at` is when to look at it next, None when nobody looks any more; `tries` counts the looks so far. Once somebody
    dealt with it, `closed_at` says when and `note` how; only `close_unmatched` writes these.
    """

    payment_id: str
    seen_at: Micros
    due_at: Micros | None
    hinted_session_id: str = ""
    invoice_id: str = ""
    amount: Mongo | None = None
    currency: str = "MNT"
    status: str = ""
    method: str = ""
    wallet: str = ""
    paid_at: Micros | None = None
    raw: str = ""
    tries: int = 0
    closed_at: Micros | None = None
    note: Mapping[str, str] = field(default_factory=dict, compare=False)


class Disposition(StrEnum):
    """What somebody has to decide about a payment."""

    UNMATCHED = "unmatched"
    HELD = "held"
    REFUND_DUE = "refund_due"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentQuery:
    """Which payments to list, oldest first. `cursor` is the (seen_at, payment_id) of the last row before this page."""

    disposition: Disposition
    cursor: tuple[Micros, str] | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPayment:
    """A payment on the list of work; `amount` None is a bare hint, `note` what was written down when it was closed."""

    payment_id: str
    session_id: str | None
    hinted_session_id: str
    invoice_id: str
    amount: Mongo | None
    currency: str
    status: str
    method: str
    wallet: str
    seen_at: Micros
    paid_at: Micros | None
    ordered: Mongo
    refund_due: Mongo
    refunded: Mongo
    held: Mongo
    closed_at: Micros | None
    note: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NumberedEvent:
    """A committed event; `no` grows without a gap that could still be filled, so a reader's cursor skips nothing.

    `attempts` counts the deliveries that failed.
    """

    no: int
    session_id: str
    event: Event
    attempts: int = 0


class Telling(StrEnum):
    """Where an event stands on its way to the shop; ENDED says that nobody sends it, and that no time was noted."""

    WAITING = "waiting"
    PARKED = "parked"
    DELIVERED = "delivered"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDelivery:
    """A public event and how far the shop was told of it.

    `no` None: it has no number yet. `attempts` counts the deliveries that failed; before `retry_at` none is made again.
    `delivered_at` is by the database's clock.
    """

    event: Event
    state: Telling
    no: int | None = None
    attempts: int = 0
    retry_at: Micros | None = None
    delivered_at: Micros | None = None


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many events became deliverable again, and the number up to which was looked."""

    count: int
    last_no: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionQuery:
    """Which sessions to list, newest first. `cursor` is the (created_at, id) of the last row of the page before."""

    status: Status | None = None
    exception: ExceptionName | None = None
    user_id: str | None = None
    created_after: Micros | None = None
    created_before: Micros | None = None
    cursor: tuple[Micros, str] | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRun:
    """One window of `payment/list` compared with our records; `end` is not in it. `complete`: all of it was seen."""

    id: str
    started_at: Micros
    ended_at: Micros | None = None
    start: Micros
    end: Micros
    reason: str
    complete: bool = False
    report: Mapping[str, Any] = field(default_factory=dict)


BECAME: Final = ("no_money", "known", "settled", "waiting", "gone", "unclear", "foreign", "failed")
"""What can become of a listed payment in a sweep; a report counts each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStats:
    """Counts over everything stored; `loads` are callbacks of the last 24 hours by where the session was found.

    `by_exception` counts names of a later release too. `unmatched` are those not closed; parked events are not among
    the undelivered. Sums are in MNT. `swept_until` is the end of the latest complete sweep's window.
    """

    by_status: Mapping[Status, int]
    by_exception: Mapping[str, int]
    created_24h: int
    orders: int
    refund_due_count: int
    refund_due: Mongo
    unmatched: int
    checks_due: int
    events_undelivered: int
    events_parked: int = 0
    held_count: int = 0
    held: Mongo = 0
    swept_until: Micros | None = None
    loads: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """Which finished sessions retention leaves alone: the named ones; with `untold` those with undelivered events.

    With `payable`, `blank` also passes over EXPIRED and CANCELLED ones whose invoice is open at QPay.
    """

    ids: frozenset[str] = frozenset()
    untold: bool = True
    payable: bool = False


UNTOLD: Final = Leave()


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A provider login's tokens; `expires_at` as QPay gave it, already read as a point in time."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at: Micros


class Store(Protocol):
    """The truth. Every method may raise StoreUnavailable; then nothing was changed, except by `commit` as it says."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def ping(self) -> None:
        """Return when the database answers and its schema can be used."""

    async def add(self, session: Session) -> None:
        """Store a new session (version 0 becomes 1) with its events.

        Raises:
            SessionExists: the id, or the idempotency key within its scope, is taken; it names the stored session.
        """

    async def get(self, session_id: str) -> Session | None: ...

    async def by_invoice(self, invoice_id: str) -> Session | None: ...

    async def by_payment(self, payment_id: str) -> Session | None: ...

    async def owner_of(self, id_: str) -> str | None:
        """The id of the session that an invoice number of ours, or an event, belongs to."""

    async def by_sender(self, sender_invoice_no: str) -> Session | None:
        """The session one of whose attempts has this number, whether its invoice's id is known or not."""

    async def order(self, order_id: str) -> tuple[str, Order] | None:
        """The order and the id of its session."""

    async def commit(self, before: Session, after: Session) -> CommitResult:
        """Compare-and-set on `before.version`: the row, its invoices, payments, orders and events, or nothing at all.

        PaymentTaken: a payment of `after` belongs to another session; decide again without it. So is one that is being
        assigned to this session and that somebody has closed meanwhile.

        Raises:
            CommitUnknown: whether it was committed could not be found out.
            Conflict: an invoice, order or event of `after` is kept under another session; nothing was changed.
        """

    async def commit_many(self, pairs: Sequence[tuple[Session, Session]]) -> list[CommitResult | Conflict]:
        """The same for many sessions, at most one pair each, in one transaction; a bad pair fails alone.

        The Conflict that `commit` would have raised for a pair stands in its place.
        """

    async def record_unmatched(self, unmatched: Unmatched) -> bool:
        """Keep a payment that has no session; False when the payment is known already (a later one adds its facts).

        A closed one opens again when it was a bare hint, or when this shows money that had not been seen on it.
        """

    async def unmatched(self, limit: int) -> list[Unmatched]:
        """Payments without a session that nobody has closed, oldest first."""

    async def unmatched_payment(self, payment_id: str) -> Unmatched | None:
        """A payment without a session, closed or not; None when it has one, or is not known."""

    async def unmatched_due(self, now: Micros, limit: int) -> list[Unmatched]:
        """Payments without a session, not closed, whose `due_at` has come, the longest due first."""

    async def unmatched_looked(self, unmatched: Unmatched, before_due_at: Micros | None) -> bool:
        """Write what a look has shown, its `tries` and its next `due_at`; False when that was somebody else's to do.

        Compare-and-set on the `due_at` that was read, which the new one must differ from: of two lookers one goes on.
        Facts are added and a status never goes backwards. Nothing is written to what has a session or is closed.

        Raises:
            CommitUnknown: whether it was written could not be found out; look at the payment again.
        """

    async def close_unmatched(self, payment_id: str, *, now: Micros, note: Mapping[str, str]) -> bool:
        """Take a payment without a session off the list, with a note; False when it has a session or is closed.

        A later commit may claim it all the same, and keeps the note.
        """

    async def payments(self, query: PaymentQuery) -> list[ListedPayment]:
        """The work list: payments that wait for somebody's decision."""

    async def claim_due(self, now: Micros, owner: str, limit: int, lease_seconds: float) -> list[Session]:
        """Lease sessions whose `next_check_at` has come, the longest due first. A commit ends the lease early."""

    async def publish(self, limit: int, *, deliver: bool = True) -> int:
        """Give committed public events their numbers; how many got one.

        `deliver` False: nobody is to be sent these, whoever wants them reads `events`.
        """

    async def claim_events(self, owner: str, limit: int, lease_seconds: float) -> list[NumberedEvent]:
        """Lease numbered events not yet delivered, oldest first; a session's later events wait for its earlier ones.

        They wait while an earlier one waits for its retry, and no longer when that one is parked.
        """

    async def events_done(self, owner: str, event_ids: Sequence[str]) -> None:
        """The shop took these, which the owner holds; the time is noted."""

    async def events_failed(self, owner: str, event_ids: Sequence[str], *, retry_at: Micros | None) -> None:
        """End the owner's leases and count an attempt on each event; none is claimed before `retry_at`, by that clock.

        `retry_at` None parks them: they stay visible, and are claimed again only after a replay.
        """

    async def parked(self, after_no: int, limit: int) -> list[NumberedEvent]:
        """Parked events with a number greater than `after_no`, in order."""

    async def replay_events(
        self, after_no: int, *, since: Micros, before: Micros, limit: int, parked_only: bool = False
    ) -> Replayed:
        """Make delivered and parked events of the time from `since` to `before` deliverable again, with no attempts.

        Looks at the next `limit` numbers after `after_no`, so the count may be 0 though more follow: begin with 0 and
        go on from `last_no` until that no longer grows. Only clocks that are a day apart could hide one from it.
        """

    async def events(self, after: int, limit: int) -> list[NumberedEvent]:
        """Public events with a number greater than `after`, in order."""

    async def history(self, session_id: str, limit: int) -> list[Event]:
        """Every event of one session, oldest first, the private ones too."""

    async def deliveries(self, session_id: str, limit: int) -> list[EventDelivery]:
        """How far the shop was told of one session's public events, oldest first."""

    async def find(self, query: SessionQuery) -> list[Session]: ...

    async def stats(self, now: Micros) -> StoreStats: ...

    async def tally(self, now: Micros, loads: Mapping[str, int]) -> None:
        """Add to the hour's counters of callbacks by load source, shared by all processes."""

    async def blank(
        self, *, finished_before: Micros, late_before: Micros, now: Micros, limit: int, leave: Leave = UNTOLD
    ) -> int:
        """Take cart and personal data out of finished sessions, keeping every key; how many were blanked.

        PAID sessions last changed before `finished_before`; EXPIRED and CANCELLED ones before `late_before`. Never one
        with money held or due back, with looks pending, or that `leave` names; nor one that `core.retention` says is
        not over. One that is not over is found by no later call; one that cannot be read is passed over.
        """

    async def blankable(
        self, *, finished_before: Micros, late_before: Micros, limit: int, leave: Leave = UNTOLD
    ) -> int:
        """How many `blank` would find by now, counted up to `limit` and never beyond MOST_COUNTED."""

    async def unreadable(
        self, *, finished_before: Micros, late_before: Micros, limit: int, leave: Leave = UNTOLD
    ) -> list[str]:
        """Of the next `limit` of each status that `blank` would find, the ids of those this release cannot read."""

    async def late_invoices(self, *, late_before: Micros, limit: int, leave: Leave = UNTOLD) -> list[Session]:
        """Of the EXPIRED and the CANCELLED sessions that `blank` would take next, those that have an open invoice.

        It looks at `limit` of each, so whoever cancels these at QPay may then `blank` as many; none are left open.
        """

    async def closed_unmatched(self, closed_before: Micros, limit: int) -> list[str]:
        """Payments without a session, closed before that, of which QPay's raw answer is still kept."""

    async def blank_unmatched(self, payment_ids: Sequence[str]) -> None:
        """Take QPay's raw answer out of these, where they are closed and have no session."""

    async def sweep_put(self, run: SweepRun) -> None:
        """Keep a sweep, or what has become of it since."""

    async def sweeps(self, limit: int, before: tuple[Micros, str] | None = None) -> list[SweepRun]:
        """Newest first; `before` is the (started_at, id) of the last row of the page before."""

    async def swept_until(self) -> Micros | None:
        """The latest end of a complete sweep's window."""

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        """Take or renew a named lease; it ends by itself. `seconds` 0 gives it up."""

    async def token_get(self, login: str) -> StoredToken | None: ...

    async def token_put(self, login: str, token: StoredToken) -> None: ...


# --- the cache -----------------------------------------------------------------------------------------------------


class Cache(Protocol):
    """Speed. Never raises: an error, a foreign or a poisoned value is a miss."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def get(self, session_id: str) -> Session | None: ...

    async def put(self, session: Session) -> None:
        """Keep a committed session for its `cache_seconds`, unless a newer version is kept already."""

    async def drop(self, session_id: str) -> None: ...

    async def flush(self) -> bool:
        """Forget every session of ours and nothing else; False when some may be left."""

    async def ping(self) -> bool: ...


# --- the provider --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceRequest:
    """What QPay is asked to make; `amount` in möngö, whole tugrik."""

    sender_invoice_no: str
    receiver_code: str
    description: str
    amount: Mongo
    callback_url: str


class Cancelling(StrEnum):
    """What QPay answered to cancelling an invoice."""

    CANCELLED = "cancelled"
    ALREADY = "already"
    PAID = "paid"
    NOT_FOUND = "not_found"


class GivingBack(StrEnum):
    """What QPay answered to giving a payment back; whether it did so, the payment tells."""

    ACCEPTED = "accepted"
    SETTLED = "settled"
    NOT_FOUND = "not_found"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentPage:
    """A page of `list_payments`: `complete` when its every row was read, `more` when a page may follow.

    `total` is how many rows QPay says the whole list has, None where it does not say. A page that took several
    `requests` is not one moment's truth.
    """

    payments: tuple[SeenPayment, ...]
    complete: bool
    more: bool
    total: int | None = None
    requests: int = 1


class Provider(Protocol):
    """QPay. Every method raises ProviderUnavailable when it got no answer and ProviderRefused for a key."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def answering(self) -> bool:
        """False while its breaker for questions is open: asking would only wait."""

    def taking_invoices(self) -> bool:
        """False while its breaker for invoices is open: nothing would be sent."""

    async def login(self) -> None:
        """Make sure there is a live token."""

    async def create_invoice(self, request: InvoiceRequest) -> InvoiceMade: ...

    async def get_invoice(self, invoice_id: str) -> InvoiceSeen | None: ...

    async def cancel_invoice(self, invoice_id: str) -> Cancelling: ...

    async def check(self, invoice_id: str) -> InvoiceAnswer: ...

    async def get_payment(self, payment_id: str) -> SeenPayment | None: ...

    async def list_payments(self, start: Micros, end: Micros, page: int = 1) -> PaymentPage:
        """A page, counted from 1, of all payments on our invoice code between two seconds, both of them in it."""

    async def refund_payment(self, payment_id: str, note: str) -> GivingBack:
        """Give the whole of a card payment back; never to be repeated when no answer came."""


# --- the shop we replace -------------------------------------------------------------------------------------------


class OldShop(Protocol):
    """The sessions the old shop keeps in its Redis; only read. An error is SourceUnavailable, never "unknown"."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def read(self, session_id: str) -> OldSession | None:
        """The session under this id, or None when there is none that can be read as one."""

    def changed(self) -> AsyncIterator[Sequence[OldSession]]:
        """Those that are new or different since this was last read to its end, in batches."""


class OldKeys(Protocol):
    """The old shop's `payment-session:<id>` keys, to be written; what our own cache keeps there counts as nothing.

    Every method raises SourceUnavailable; then it is not known whether the key was changed.
    """

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def get(self, session_id: str) -> bytes | None:
        """What stands there, b"" where it is no text, or None."""

    async def put(self, session_id: str, value: bytes, ttl_seconds: int) -> bool:
        """Write a session's JSON, which our cache never replaces; False when something stands there already."""

    async def remove(self, session_id: str, value: bytes) -> bool:
        """Remove the key while it still holds `value`; False when it does not."""


# --- callbacks that wait for the database --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spooled:
    """A callback that waits in a file of this name.

    With a `token_digest` its token could not be checked yet: it may be the old shop's own.
    """

    name: str
    session_id: str
    payment_id: str
    received_at: Micros
    token_digest: str = ""


class Spool(Protocol):
    """Callbacks kept on this machine while the database cannot be written; any process replays any of them.

    Every method but `start`, `stop` and `ping` may raise SpoolUnavailable.
    """

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def ping(self) -> bool:
        """Whether a callback could be kept now."""

    async def keep(self, session_id: str, payment_id: str, received_at: Micros, token_digest: str = "") -> None:
        """When this returns, the callback is durable; when it raises, it does not count."""

    async def waiting(self, limit: int, without: Collection[str] = ()) -> list[Spooled]:
        """Callbacks that wait, the first to arrive first, but for the named ones."""

    async def done(self, name: str) -> bool:
        """Forget a callback whose replay is durable; False when another process did already."""


# --- somebody to tell ----------------------------------------------------------------------------------------------


class Outcome(StrEnum):
    """What became of one delivery: the shop took it, or why not."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    REDIRECTED = "redirected"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    FORBIDDEN = "forbidden"


ANSWERED: Final = frozenset({Outcome.DELIVERED, Outcome.REFUSED, Outcome.REDIRECTED})
"""The shop is there, whatever it says."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery; `status` 0 is no answer, `asked_seconds` the pause the shop asked for."""

    outcome: Outcome
    status: int = 0
    asked_seconds: float = 0


class Shop(Protocol):
    """Where events are sent, so that the shop need not ask."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def deliver(self, numbered: NumberedEvent) -> Delivery:
        """Send one event, in bounded time. Whatever the shop does is an outcome; the same event is the same message."""


class EventSink(Protocol):
    """Hears what happened, for metrics, logs and live pages; must not raise and must not wait."""

    def loaded(self, session_id: str, source: str) -> None:
        """A callback found its session in the "cache", in the "database", or "adopted" it from the old shop's Redis."""

    def called_back(self, outcome: str, seconds: float) -> None: ...

    def asked(self, reason: Reason) -> None: ...

    def changed(self, session: Session) -> None:
        """A commit was won; `session` is as stored, `session.news` is what it told."""

    def unmatched(self, session_id: str, payment_id: str) -> None:
        """A callback with a right token named a session that is not stored."""

    def swept(self, run: SweepRun) -> None:
        """A sweep of one window is over, whether it saw everything or not."""
