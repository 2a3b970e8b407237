"""The contract, held against MongoDB."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.plugin import TestServers
from tulbur.stores import contract
from tulbur.stores.mongo_harness import MongoHarness

pytestmark = [pytest.mark.anyio, pytest.mark.store("mongodb")]


@pytest.fixture(scope="module")
def harness(servers: TestServers) -> Iterator[MongoHarness]:
    made: list[str] = []

    def new() -> str:
        made.append(servers.url("mongodb"))
        return made[-1]

    yield MongoHarness(new)
    for url in made:
        servers.drop("mongodb", url)


class TestMongoStore(contract.StoreContract):
    @pytest.fixture(autouse=True)
    def _harness(self, harness: MongoHarness) -> None:
        self.harness = harness
