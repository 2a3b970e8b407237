"""What becomes of a commit whose answer is lost, and of connections and servers that die."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError
from tests.stores.servers import SERVERS, checked_out, connected, emptied, in_transaction, started, waiting

from testbed.proxy import Proxy
from testbed.servers import Server
from tulbur.errors import CommitUnknown, StoreUnavailable
from tulbur.ports import Committed
from tulbur.stores import dialects, migrate
from tulbur.stores.contracts.samples import NOW, added, answered, called_back, invoiced, told, won
from tulbur.stores.network import NetworkStore

pytestmark = pytest.mark.anyio

T = TypeVar("T")
Work = Callable[[Connection], T]


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(migrated: Callable[[str], str], server: str) -> str:
    return migrated(server)


# --- lost answers


class Commits(NetworkStore):
    """Calls `before_commit` when it is about to send COMMIT, once."""

    before_commit: Callable[[], object] | None = None

    async def _send_commit(self, connection: Any) -> None:
        called, self.before_commit = self.before_commit, None
        if called:
            result = called()
            if asyncio.iscoroutine(result):
                await result
        await super()._send_commit(connection)


@pytest.mark.parametrize("executed", [True, False])
async def test_a_lost_answer_to_commit_is_found_out(url: str, *, executed: bool) -> None:
    async with (
        emptied(url),
        Proxy(url).running() as proxy,
        started(Commits(proxy.url(url))) as store,
    ):
        assert isinstance(store, Commits)
        before = await invoiced(store)
        store.before_commit = lambda: proxy.lose_next(executed=executed)
        assert await store.commit(before, answered(before, "pay-1")) is Committed.WON
        assert proxy.fired == 1
        stored = await store.get("s-1")
        assert stored
        assert stored.version == before.version + 1
        assert len(stored.orders) == 2
        assert len(await told(store, "s-1")) == stored.event_count


async def test_a_backend_that_is_killed_before_commit_is_no_loss(url: str, server: str) -> None:
    async with emptied(url), started(Commits(url)) as store, connected(url) as other:
        assert isinstance(store, Commits)
        before = await invoiced(store)
        end = {"postgres": "SELECT pg_terminate_backend({})", "mariadb": "KILL {}"}

        async def kill() -> None:
            (found,) = await in_transaction(server, other)
            await other.exec_driver_sql(end[server].format(found))

        store.before_commit = kill
        assert await store.commit(before, answered(before, "pay-1")) is Committed.WON
        stored = await store.get("s-1")
        assert stored
        assert (stored.version, len(stored.orders)) == (before.version + 1, 2)


async def test_an_outcome_nobody_can_tell_is_unknown(url: str) -> None:
    class Silent(NetworkStore):
        silent, sent = False, 0

        async def _send_commit(self, connection: Any) -> None:
            await super()._send_commit(connection)
            self.sent += 1
            if self.silent:
                raise OperationalError("COMMIT", None, ConnectionError("the answer was lost"))

    async with emptied(url), started(Silent(url)) as store:
        assert isinstance(store, Silent)
        before = await invoiced(store)
        store.silent, store.sent = True, 0
        with pytest.raises(CommitUnknown):
            await store.commit(before, called_back(before))
        assert store.sent == 4
        with pytest.raises(CommitUnknown):
            await store.tally(NOW, {"cache": 1})
        assert store.sent == 5  # counting twice would be a lie, so it is not sent again
        store.silent = False
        assert (await store.stats(NOW)).loads == {"cache": 1}


class Synchronous(NetworkStore):
    """Its commits wait for a standby while `waiting` is set."""

    waiting = False

    async def _send_commit(self, connection: Any) -> None:
        if self.waiting:
            await connection.exec_driver_sql("SET LOCAL synchronous_commit = on")
        await super()._send_commit(connection)


async def test_a_waiting_commit_is_never_cancelled(own_server: Callable[[str], Server]) -> None:
    """PostgreSQL would call it a success although no standby has it."""
    server = own_server("postgres")
    url = server.url()
    migrate.up(url)
    async with connected(url) as operator:
        await operator.exec_driver_sql(f"ALTER DATABASE {urlsplit(url).path[1:]} SET synchronous_commit = local")
        await operator.exec_driver_sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    server.stop()
    server.start()
    async with Proxy(url).running() as proxy, emptied(url) as witness:
        async with started(Synchronous(proxy.url(url), answer_seconds=0.5)) as store:
            assert isinstance(store, Synchronous)
            before = await invoiced(store)
            store.waiting = True
            with pytest.raises(CommitUnknown):
                await store.commit(before, called_back(before))
            assert proxy.cancel_requests == 0
            assert await witness.get("s-1") == before  # not acknowledged, and not to be seen
        async with connected(url) as operator:
            await operator.exec_driver_sql("ALTER SYSTEM RESET synchronous_standby_names")
            await operator.exec_driver_sql("SELECT pg_reload_conf()")
        async with asyncio.timeout(10):
            while (stored := await witness.get("s-1")) == before:
                pass
        assert stored
        assert stored.version == before.version + 1
        assert await witness.commit(before, called_back(before)) is Committed.LOST


# --- connections that die


async def test_dead_connections_are_replaced(url: str) -> None:
    async with emptied(url), Proxy(url).running() as proxy, started(NetworkStore(proxy.url(url))) as store:
        await asyncio.gather(*(added(store, f"s-{n}") for n in range(8)))
        proxy.reset()
        assert all(await asyncio.gather(*(store.get(f"s-{n}") for n in range(8))))
        proxy.reset()
        await asyncio.gather(*(added(store, f"t-{n}") for n in range(8)))


async def test_a_silent_connection_is_cut(url: str) -> None:
    async with (
        emptied(url),
        Proxy(url).running() as proxy,
        started(NetworkStore(proxy.url(url), pool_size=1, answer_seconds=0.2)) as store,
    ):
        before = await invoiced(store)
        proxy.go_silent()
        with pytest.raises(StoreUnavailable, match="did not answer in time"):
            await store.get("s-1")
        assert checked_out(store) == 0
        assert await store.get("s-1") == before


async def test_a_connection_silent_at_commit_is_resolved_over_another(url: str) -> None:
    async with (
        emptied(url),
        Proxy(url).running() as proxy,
        started(Commits(proxy.url(url), answer_seconds=1)) as store,
    ):
        assert isinstance(store, Commits)
        before = await invoiced(store)
        store.before_commit = proxy.go_silent
        result = await asyncio.gather(store.commit(before, called_back(before)), return_exceptions=True)
        proxy.reset()
        # MySQL keeps the row locked until it notices; then nobody can tell yet, and that is what is said.
        assert result[0] is Committed.WON or isinstance(result[0], CommitUnknown)
        assert checked_out(store) == 0


async def test_a_transaction_whose_process_is_gone_holds_its_rows_no_longer_than_told(
    url: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host lost power or is stopped, and nothing closes its connection: the server has to end its transaction."""
    monkeypatch.setattr(dialects, "IDLE_SECONDS", 1)
    async with emptied(url), started(NetworkStore(url)) as store, connected(url) as other:
        before = await invoiced(store)
        after = answered(before, "pay-1")
        async with started(NetworkStore(url, answer_seconds=300)) as gone:
            stopped = asyncio.Event()
            holding = asyncio.create_task(gone._write(lambda c: _held(c, stopped)))
            try:
                while not await in_transaction(server, other):
                    assert not holding.done()
                assert await store.commit(before, after) is Committed.WON
            finally:
                stopped.set()
                await asyncio.wait({holding})
        assert await store.get("s-1") == after.committed()


def _held(connection: Connection, stopped: asyncio.Event) -> None:
    """Lock every session, then be away."""
    connection.exec_driver_sql("UPDATE tulbur_sessions SET lease_until = lease_until + 1")
    waiting(stopped)(connection)
    connection.exec_driver_sql("UPDATE tulbur_sessions SET lease_until = 0")


async def test_a_server_that_dies_and_comes_back(own_server: Callable[[str], Server], server: str) -> None:
    running = own_server(server)
    url = running.url()
    migrate.up(url)
    async with started(NetworkStore(url)) as store:
        before = await invoiced(store)
        running.kill()
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1"):
            await store.commit(before, called_back(before))
        with pytest.raises(StoreUnavailable):
            await store.get("s-1")
        running.start()
        assert await store.get("s-1") == before
        await won(store, before, called_back(before))


@pytest.mark.store("postgres")
async def test_postgresql_is_asked_to_notice_a_client_that_is_gone(migrated: Callable[[str], str]) -> None:
    """Found by `make chaos`: one that is gone in the middle of a statement is 'active', and its locks are held."""
    async with started(NetworkStore(migrated("postgres"))) as store, store._engine.connect() as connection:
        seconds = [
            int((await connection.exec_driver_sql(f"SHOW tcp_keepalives_{name}")).scalar_one())
            for name in ("idle", "interval", "count")
        ]
    idle, interval, count = seconds
    assert idle + interval * count <= 60
