"""The servers in pytest: one set for the whole run, started when first needed, and a count of tests on each store.

A server that cannot be had skips its tests and says why; with CI=true it fails them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

import pytest

from testbed import debian
from testbed.binaries import Missing
from testbed.broker import Broker, ask
from testbed.clusters import CLUSTERS
from testbed.clusters.cluster import Cluster
from testbed.servers import Server, Servers, Testbed

T = TypeVar("T")
C = TypeVar("C", bound=Cluster)

STORES: Final = ("memory", "sqlite", "postgres", "mariadb", "mongodb", "valkey", *CLUSTERS)

_state: Final = pytest.StashKey["_Run"]()


class TestServers(Servers):
    """Servers that note which test used which, and skip the tests of those that are missing."""

    __test__ = False

    def __init__(self, local: Testbed, admin_url: Callable[[str], str]) -> None:
        super().__init__(local, admin_url)
        self.item: pytest.Item | None = None

    def admin_url(self, name: str) -> str:
        self.note(name)
        return _or_skip(lambda: super(TestServers, self).admin_url(name))

    def own_server(self, name: str) -> Server:
        self.note(name)
        return _or_skip(lambda: self._local.own(name))

    def cluster(self, kind: type[C]) -> C:
        """A cluster for the caller alone, which closes it."""
        self.note(kind.name)
        return _or_skip(lambda: self._joined(kind))

    def _joined(self, kind: type[C]) -> C:
        made = kind(self._local)
        try:
            made.start()
        except BaseException:
            made.close()
            raise
        return made

    def note(self, store: str) -> None:
        """Count the running test for this store."""
        if self.item is not None:
            _note(self.item, store)


def _or_skip(work: Callable[[], T]) -> T:
    try:
        return work()
    except Missing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"with CI=true every server must be had: {missing}", pytrace=False)
        pytest.skip(str(missing))


def _note(item: pytest.Item, store: str) -> None:
    if ("store", store) not in item.user_properties:
        item.user_properties.append(("store", store))


class _Run:
    """What one pytest process has."""

    def __init__(self, config: pytest.Config) -> None:
        self.local = Testbed()
        self.broker: Broker | None = None
        address = getattr(config, "workerinput", {}).get("testbed")
        admin_url = partial(ask, tuple(address)) if address else self.local.admin_url
        self.servers = TestServers(self.local, admin_url)
        self.ran: Counter[str] = Counter()
        self.skipped: Counter[tuple[str, str]] = Counter()

    def share(self) -> tuple[str, str]:
        if self.broker is None:
            self.broker = Broker(self.local.admin_url)
        return self.broker.address

    def count(self, report: pytest.TestReport) -> None:
        stores = [str(value) for name, value in report.user_properties if name == "store"]
        for store in stores:
            if report.skipped:
                reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
                self.skipped[store, reason.removeprefix("Skipped: ")] += 1
            elif report.when == "call":
                self.ran[store] += 1

    def close(self) -> None:
        if self.broker is not None:
            self.broker.close()
        self.local.close()


class _Sharing:
    """What is only there when tests run in several processes."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:  # noqa: ANN401 - xdist's
        node.workerinput["testbed"] = node.config.stash[_state].share()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "store(name): runs on this store, for the count at the end")
    config.stash[_state] = _Run(config)
    config.pluginmanager.register(_Sharing(), "testbed-sharing")


def pytest_unconfigure(config: pytest.Config) -> None:
    run = config.stash.get(_state, None)
    if run is not None:
        run.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    servers = item.config.stash[_state].servers
    for marker in item.iter_markers("store"):
        for store in marker.args:
            _note(item, store)
    servers.item = item
    try:
        return (yield)
    finally:
        servers.item = None


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> TestServers:
    """The servers: `servers.url("postgres")` is a new, empty database."""
    return pytestconfig.stash[_state].servers


@pytest.fixture(scope="session")
def wrk() -> None:
    """The load generator, where a test needs it."""
    _or_skip(debian.wrk)


@pytest.fixture
def database(servers: TestServers) -> Iterator[Callable[[str], str]]:
    """`database("postgres")` is the URL of a new, empty database that is dropped after the test."""
    made: list[tuple[str, str]] = []

    def make(name: str) -> str:
        made.append((name, servers.url(name)))
        return made[-1][1]

    yield make
    for name, url in made:
        servers.drop(name, url)


@pytest.fixture
def own_server(servers: TestServers) -> Iterator[Callable[[str], Server]]:
    """`own_server("postgres")` is a server for this test alone: `url`, `kill`, `stop`, `start`."""
    started: list[Server] = []

    def start(name: str) -> Server:
        started.append(servers.own_server(name))
        return started[-1]

    yield start
    for server in started:
        server.kill()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if _counting is not None:
        _counting.count(report)


_counting: _Run | None = None


def pytest_sessionstart(session: pytest.Session) -> None:
    # The one hook that counts is not told whose report it is.
    global _counting  # noqa: PLW0603
    _counting = session.config.stash[_state]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    run = config.stash[_state]
    if not run.ran and not run.skipped:
        return
    terminalreporter.section("tests by store")
    for store in STORES:
        missing = [(reason, number) for (name, reason), number in run.skipped.items() if name == store]
        if run.ran[store] or missing:
            told = "".join(f", {number} skipped: {reason}" for reason, number in missing)
            terminalreporter.write_line(f"{store:14} {run.ran[store]:5} ran{told}")
