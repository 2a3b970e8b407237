"""The contract, held against every store that is shipped."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tulbur.stores import contract
from tulbur.stores.harnesses import MemoryHarness, NetworkHarness, SqliteHarness

pytestmark = pytest.mark.anyio


@pytest.mark.store("memory")
class TestMemoryStore(contract.StoreContract):
    harness = MemoryHarness()


@pytest.mark.store("sqlite")
class TestSqliteStore(contract.StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, folder: Path) -> None:
        self.harness = SqliteHarness(folder)


class TestPostgresStore(contract.StoreContract):
    @pytest.fixture(autouse=True)
    def _url(self, migrated: Callable[[str], str]) -> None:
        self.harness = NetworkHarness(migrated("postgres"))


class TestMariadbStore(contract.StoreContract):
    @pytest.fixture(autouse=True)
    def _url(self, migrated: Callable[[str], str]) -> None:
        self.harness = NetworkHarness(migrated("mariadb"))


async def test_the_contract_runs_without_pytest() -> None:
    assert await contract.run(MemoryHarness()) == {}
    assert len(contract.names()) > 80


async def test_what_fails_is_named() -> None:
    class NoHarness(MemoryHarness):
        def lose_next_commit_answer(self, *_: object, **__: object) -> None:
            raise LookupError("this harness loses nothing")

    lossy, plain = "test_a_batch_whose_answer_was_lost_is_won_once", "test_a_commit_raises_the_version_by_one"
    failed = await contract.run(NoHarness(), only={lossy, plain})
    assert list(failed) == [lossy]
    assert isinstance(failed[lossy], LookupError)
