"""The memory store and every database do the same, whatever is asked of them in whatever order."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.stores.servers import SERVERS, emptied

from tulbur.core.session import SECOND, ExceptionName, Session, Status
from tulbur.core.steps import cancelled, expired
from tulbur.errors import Conflict, SessionExists
from tulbur.ports import MOST_ROWS, Disposition, PaymentQuery, SessionQuery, Store, SweepRun, Unmatched
from tulbur.stores.contracts.samples import NOW, answered, called_back, session, with_qr
from tulbur.stores.memory import MemoryStore
from tulbur.stores.mongo import MongoStore
from tulbur.stores.mongo_harness import emptied as mongo_emptied
from tulbur.stores.sqlite import SqliteStore

pytestmark = pytest.mark.anyio

STEPS = 500


class Script:
    """A seeded series of calls; each is made of what the first store answered so far."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = NOW
        self.seen: dict[str, list[Session]] = {}
        self.due: list[int] = []

    def call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        self.now += self.random.randrange(0, 300) * SECOND
        name = self.random.choice(NAMES)
        made = getattr(self, name)()
        return (name, (), made) if isinstance(made, dict) else (name, made, {})

    def learn(self, result: object) -> None:
        for one in result if isinstance(result, list) else [result]:
            if isinstance(one, Unmatched) and one.due_at is not None:
                self.due.append(one.due_at)
            if isinstance(one, Session):
                self.seen.setdefault(one.id, []).append(one)

    def some_id(self) -> str:
        return f"s-{self.random.randrange(12)}"

    def pair(self, id_: str) -> tuple[Session, Session]:
        before = self.random.choice(self.seen[id_][-2:])
        payment = f"pay-{self.random.randrange(8)}"
        steps = (
            lambda: with_qr(before, now=self.now),
            lambda: called_back(before, payment, now=self.now),
            lambda: answered(before, payment, amount=self.random.choice((10_00, 50_000_00)), now=self.now),
            lambda: expired(before, self.now),
            lambda: cancelled(before, self.now),
        )
        after = self.random.choice(steps)()
        return before, after if after is not before else before.with_news("noted", self.now)

    def add(self) -> tuple[Session]:
        key = self.random.choice((None, "k-1", "k-2"))
        new = session(self.some_id(), now=self.now, scope=self.random.choice("ab"), idempotency_key=key)
        return (replace(new, user_id=self.random.choice("uv")),)

    def get(self) -> tuple[str]:
        return (self.some_id(),)

    def by_payment(self) -> tuple[str]:
        return (f"pay-{self.random.randrange(8)}",)

    def by_invoice(self) -> tuple[str]:
        return (f"inv-{self.some_id()}",)

    def by_sender(self) -> tuple[str]:
        return (f"TB-{self.some_id()}",)

    def history(self) -> tuple[str, int]:
        return self.some_id(), self.random.choice((1, 200))

    def deliveries(self) -> tuple[str, int]:
        return self.some_id(), self.random.choice((1, 200))

    def commit(self) -> tuple[Session, Session] | tuple[()]:
        return self.pair(self.random.choice(list(self.seen))) if self.seen else ()

    def commit_many(self) -> tuple[list[tuple[Session, Session]]]:
        ids = self.random.sample(list(self.seen), min(3, len(self.seen)))
        return ([self.pair(id_) for id_ in ids],)

    def record_unmatched(self) -> tuple[Unmatched]:
        payment_id = f"pay-{self.random.randrange(8)}"
        amount = self.random.choice((None, 5))
        status = self.random.choice(("", "NEW", "PAID", "REFUNDED"))
        return (Unmatched(payment_id=payment_id, seen_at=self.now, due_at=self.now, amount=amount, status=status),)

    def unmatched(self) -> tuple[int]:
        return (self.random.choice((1, 200)),)

    def unmatched_due(self) -> tuple[int, int]:
        return self.now, self.random.choice((1, 200))

    def unmatched_looked(self) -> tuple[Unmatched, int]:
        (unmatched,) = self.record_unmatched()
        due = self.random.choice((None, self.now + 60 * SECOND))
        return replace(unmatched, due_at=due, tries=self.random.randrange(3)), self.random.choice(
            self.due or [self.now]
        )

    def close_unmatched(self) -> dict[str, Any]:
        return {"payment_id": f"pay-{self.random.randrange(8)}", "now": self.now, "note": {"by": "bat"}}

    def unmatched_payment(self) -> tuple[str]:
        return (f"pay-{self.random.randrange(8)}",)

    def payments(self) -> tuple[PaymentQuery]:
        pick = self.random.choice
        cursor = pick((None, (self.now - 3600 * SECOND, "pay-3")))
        return (PaymentQuery(disposition=pick(list(Disposition)), cursor=cursor, limit=pick((0, 1, 50))),)

    def parked(self) -> tuple[int, int]:
        return self.random.randrange(-1, 30), self.random.choice((1, 200))

    def replay_events(self) -> dict[str, Any]:
        since = self.now - self.random.choice((600, 9000, 900_000)) * SECOND
        return {
            "after_no": self.random.choice((0, 0, 9)),
            "since": since,
            "before": self.now - self.random.choice((0, 1200)) * SECOND,
            "limit": self.random.choice((1, 5, 200)),
            "parked_only": self.random.choice((True, False)),
        }

    def sweep_put(self) -> tuple[SweepRun]:
        pick = self.random.choice
        end = pick((self.now, NOW))
        ended = pick((None, self.now))
        run = SweepRun(id=f"w-{pick('abc')}", started_at=self.now, start=NOW, end=end, reason="daily", ended_at=ended)
        return (replace(run, complete=pick((True, False)), report={"seen": 1}),)

    def sweeps(self) -> tuple[int, tuple[int, str] | None]:
        return self.random.choice((0, 1, 50)), self.random.choice((None, (self.now, "w-b")))

    def swept_until(self) -> tuple[()]:
        return ()

    def blankable(self) -> dict[str, int]:
        before = self.now - self.random.choice((0, 3600)) * SECOND
        return {"finished_before": before, "late_before": before, "limit": self.random.choice((1, 200))}

    def closed_unmatched(self) -> tuple[int, int]:
        return self.now, self.random.choice((0, 1, 200))

    def blank_unmatched(self) -> tuple[list[str]]:
        return ([f"pay-{self.random.randrange(8)}"],)

    def late_invoices(self) -> dict[str, int]:
        return {"late_before": self.now - 3600 * SECOND, "limit": 200}

    def claim_due(self) -> tuple[int, str, int, float]:
        return self.now, "w", self.random.choice((1, 3, 200)), self.random.choice((0, 600))

    def publish(self) -> tuple[int]:
        return (self.random.choice((1, 4, MOST_ROWS + 1)),)

    def claim_events(self) -> tuple[str, int, float]:
        return "w", self.random.choice((1, 3, 200)), self.random.choice((0, 600))

    def events(self) -> tuple[int, int]:
        return self.random.randrange(-1, 30), self.random.choice((1, 200))

    def find(self) -> tuple[SessionQuery]:
        pick = self.random.choice
        return (
            SessionQuery(
                status=pick((None, *Status)),
                exception=pick((None, None, *ExceptionName)),
                user_id=pick((None, "u")),
                created_after=pick((None, self.now - 3600 * SECOND)),
                created_before=pick((None, self.now - 600 * SECOND)),
                cursor=pick((None, (self.now - 1800 * SECOND, "s-5"))),
                limit=pick((0, 2, 50)),
            ),
        )

    def stats(self) -> tuple[int]:
        return (self.now,)

    def tally(self) -> tuple[int, dict[str, int]]:
        return self.now, {"cache": 1, "database": 2}

    def lease(self) -> tuple[str, str, float]:
        return "token", self.random.choice("ab"), self.random.choice((0, 900))

    def blank(self) -> dict[str, int]:
        before = self.now - self.random.choice((0, 3600)) * SECOND
        return {"finished_before": before, "late_before": before, "now": self.now, "limit": 200}


NAMES = [name for name in vars(Script) if not name.startswith("_") and name not in ("call", "learn", "some_id", "pair")]


async def told(store: Store, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> object:
    """What the call returned or raised, as a value."""
    try:
        result = await getattr(store, name)(*arguments, **keywords)
    except SessionExists as exists:
        return exists.session_id
    except Conflict as refused:
        return str(refused)
    if name == "claim_events":
        await store.events_done("w", [one.event.id for one in result[::3]])
        await store.events_failed("w", [one.event.id for one in result[1::3]], retry_at=NOW)
        await store.events_failed("w", [one.event.id for one in result[2::3]], retry_at=None)
    if name == "commit_many":
        return [str(one) for one in result]
    return result


@pytest.mark.store("memory")
@pytest.mark.store("sqlite")
@pytest.mark.parametrize("seed", range(12))
async def test_sqlite_does_the_same(folder: Path, seed: int) -> None:
    script = Script(seed)
    sqlite = SqliteStore(folder / "a.db", lambda: script.now)
    await sqlite.start()
    try:
        used = await compared(script, MemoryStore(lambda: script.now), sqlite)
    finally:
        await sqlite.stop()
    assert used == set(NAMES)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("seed", range(100, 104))
async def test_servers_do_the_same(migrated: Callable[[str], str], server: str, seed: int) -> None:
    script = Script(seed)
    async with emptied(migrated(server), clock=lambda: script.now) as store:
        used = await compared(script, MemoryStore(lambda: script.now), store)
    assert used == set(NAMES)


@pytest.mark.parametrize("seed", range(200, 204))
async def test_mongodb_does_the_same(migrated: Callable[[str], str], seed: int) -> None:
    script = Script(seed)
    url = migrated("mongodb")
    await mongo_emptied(url)
    store = MongoStore(url, lambda: script.now)
    await store.start()
    try:
        used = await compared(script, MemoryStore(lambda: script.now), store)
    finally:
        await store.stop()
    assert used == set(NAMES)


async def compared(script: Script, memory: Store, database: Store) -> set[str]:
    """The names of the calls that were made of both."""
    used = set()
    for step in range(STEPS):
        name, arguments, keywords = script.call()
        if name in ("commit", "commit_many") and not script.seen:
            continue
        one = await told(memory, name, arguments, keywords)
        other = await told(database, name, arguments, keywords)
        assert one == other, f"step {step}: {name}"
        script.learn(other)
        used.add(name)
    return used
