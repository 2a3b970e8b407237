"""What every store must do, as tests that ship with it: an adapter of your own can be held against them.

With pytest, subclass `StoreContract` and give it a `harness`; without, `await run(harness)`. No test sleeps: an ended
lease is one of 0 seconds.
"""

from __future__ import annotations

from collections.abc import Collection

from tulbur.stores.contracts.committing import CommittingContract
from tulbur.stores.contracts.console import ConsoleContract
from tulbur.stores.contracts.delivery import DeliveryContract
from tulbur.stores.contracts.keeping import KeepingContract
from tulbur.stores.contracts.money import MoneyContract
from tulbur.stores.contracts.outbox import OutboxContract
from tulbur.stores.contracts.samples import Harness
from tulbur.stores.contracts.upkeep import UpkeepContract
from tulbur.stores.contracts.work import WorkContract
from tulbur.stores.contracts.worklist import WorkListContract

__all__ = ["Harness", "StoreContract", "names", "run"]


class StoreContract(
    KeepingContract,
    CommittingContract,
    MoneyContract,
    WorkListContract,
    WorkContract,
    OutboxContract,
    DeliveryContract,
    ConsoleContract,
    UpkeepContract,
):
    """All of it; each test opens a store of its own."""


def names() -> list[str]:
    """The names of all tests."""
    return sorted(name for name in dir(StoreContract) if name.startswith("test_"))


async def run(harness: Harness, only: Collection[str] | None = None) -> dict[str, Exception]:
    """Run the tests one after another; what failed, by name, and how."""
    contract = StoreContract()
    contract.harness = harness
    failed: dict[str, Exception] = {}
    for name in names():
        if only is not None and name not in only:
            continue
        try:
            await getattr(contract, name)()
        except Exception as failure:  # noqa: BLE001 - whatever a store does wrong is a finding, not the end
            failed[name] = failure
    return failed
