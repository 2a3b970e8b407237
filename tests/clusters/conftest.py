"""Clusters for the tests of one file each; without `make test-clusters` none of this is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from testbed.clusters.cluster import Cluster
from testbed.plugin import TestServers

C = TypeVar("C", bound=Cluster)


_figures = pytest.StashKey[dict[str, float]]()


@pytest.fixture
def figure(pytestconfig: pytest.Config) -> Callable[[str, float], None]:
    """Tell a measurement at the end of the run."""
    return pytestconfig.stash.setdefault(_figures, {}).__setitem__


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name, value in config.stash.get(_figures, {}).items():
        terminalreporter.write_line(f"{name}: {value:.1f}")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def joined(servers: TestServers) -> Iterator[Callable[[type[Cluster]], Cluster]]:
    """`joined(kind)` is a cluster that ends with the file's tests."""
    made: list[Cluster] = []

    def start(kind: type[C]) -> C:
        cluster = servers.cluster(kind)
        made.append(cluster)
        return cluster

    yield start
    for cluster in made:
        cluster.close()
