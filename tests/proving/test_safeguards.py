"""The table of safeguards is up to date: every text is there once. That tests miss each, `make ablation` shows."""

from __future__ import annotations

import pytest

from proving.ablation import ROOT, remove_all
from proving.safeguards import SAFEGUARDS, Safeguard

LEAST = 25


@pytest.mark.parametrize("safeguard", SAFEGUARDS, ids=lambda s: s.name)
def test_each_stands_where_the_table_says(safeguard: Safeguard) -> None:
    source = (ROOT / "src" / "tulbur" / safeguard.path).read_text(encoding="utf-8")
    assert source.count(safeguard.text) == 1
    assert safeguard.text != safeguard.instead
    named = [part for part in safeguard.tests if part.startswith("tests/")]
    assert named
    assert all((ROOT / part).exists() for part in named)


def test_there_are_enough_and_the_page_names_them_all() -> None:
    page = (ROOT / "docs" / "safeguards.md").read_text(encoding="utf-8")
    assert len(SAFEGUARDS) >= LEAST
    assert len({safeguard.name for safeguard in SAFEGUARDS}) == len(SAFEGUARDS)
    assert all(f"| {safeguard.name} |" in page for safeguard in SAFEGUARDS)


@pytest.mark.anyio
async def test_a_removal_is_noticed_and_one_that_removes_nothing_is_not() -> None:
    sample = SAFEGUARDS[[s.name for s in SAFEGUARDS].index("short money is named")]
    nothing = Safeguard(
        name="nothing",
        holds="",
        path=sample.path,
        text=sample.text,
        instead=sample.text,
        tests=("tests/core/test_money.py",),
    )
    stale = Safeguard(name="stale", holds="", path=sample.path, text="not there", instead="", tests=sample.tests)
    verdicts = await remove_all([sample, nothing, stale], 2)
    assert [verdict.noticed for verdict in verdicts] == [True, False, False]
    assert "out of date" in verdicts[2].why
