"""10,000 seeded runs of the real use cases under faults; a seed is the same run again, everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from proving.faults import Fault, swarm
from proving.many import Many, run_many
from proving.report import page, printed
from proving.schedules import Recipe, run
from proving.uses import Deed

ROOT = Path(__file__).parent.parent.parent
SEEDS = 10_000
BUDGET_SECONDS = 120
"""Where the machine does not do it in this, what ran is said."""

TRACES = """
import hashlib
from proving.schedules import Recipe, run
told = "\\n".join("\\n".join(run(Recipe(seed), trace=True).trace) for seed in range(40))
print(hashlib.sha256(told.encode()).hexdigest(), told.count("\\n") > 1000)
"""


def proving(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=os.environ | env, capture_output=True, text=True, check=False
    )


def test_ten_thousand_schedules(record_property: Callable[[str, object], None]) -> None:
    done = proving("-m", "proving", "--seeds", str(SEEDS), "--budget", str(BUDGET_SECONDS))
    assert done.returncode == 0, done.stdout + done.stderr
    rate, bound = done.stdout.splitlines()[-2:]
    assert "clean trials bound the failure rate" in bound
    record_property("told", f"schedules: {rate}; {bound}")


def test_a_seed_is_the_same_run_in_every_process() -> None:
    digests = {proving("-c", TRACES, PYTHONHASHSEED=seed).stdout for seed in ("1", "2")}
    assert len(digests) == 1
    assert digests.pop().endswith(" True\n")


def test_being_watched_changes_nothing() -> None:
    for seed in range(20):
        watched, alone = run(Recipe(seed), trace=True), run(Recipe(seed))
        assert (watched.counts, watched.steps, watched.outcomes) == (alone.counts, alone.steps, alone.outcomes)
        assert watched.deeds == alone.deeds
        assert watched.trace
        assert not alone.trace


def test_leaving_a_fault_out_leaves_the_others_as_they_are() -> None:
    whole = next(odds for odds in (swarm(Random(n)) for n in range(20)) if len(odds) > 10)
    seed = next(n for n in range(20) if swarm(Random(n)) == whole)
    left_out = next(iter(whole))
    rest = swarm(Random(seed), frozenset({left_out}))
    assert rest == {fault: odds for fault, odds in whole.items() if fault is not left_out}


def test_a_fault_that_never_strikes_fails_the_run() -> None:
    done = proving("-m", "proving", "--seeds", "3", "--cores", "1")
    assert done.returncode == 1
    assert "never struck, so nothing is shown of it: " in done.stdout


def test_a_deed_that_was_never_done_fails_a_long_run() -> None:
    many = Many(0, 2000, 0.0, 1, ran=2000, counts=Counter(dict.fromkeys(Fault, 5)), deeds=Counter({Deed.SWEPT: 5}))
    assert set(many.silent) == set(Deed) - {Deed.SWEPT}
    assert f"never struck, so nothing is shown of it: {Deed.ASSIGNED}" in list(printed(many))


def test_a_used_up_budget_says_how_many_ran() -> None:
    done = run_many(0, 1_000_000, budget=0.001, cores=1)
    assert 0 < done.ran <= 25
    assert any("asked for 1,000,000; the budget was used up" in line for line in printed(done))


def test_a_failure_is_told_with_its_seed() -> None:
    done = Many(0, 10, 0.0, 1, ran=10, failed={7: "law 1: twice"})
    assert "1 of 10 runs broke a law; seeds 7" in list(printed(done))
    assert "clean trials" not in page(done)


def test_the_page_tells_machine_commit_counts_and_the_bound() -> None:
    done = Many(0, 3000, 0.0, 1, "abc1234", ran=3000, seconds=10.0, counts=Counter(dict.fromkeys(Fault, 5)))
    told = page(done)
    assert "commit `abc1234`" in told
    assert "cores" in told
    assert all(f"| {fault} | 5 |" in told for fault in Fault)
    assert "3,000 clean trials bound the failure rate at about 3/n = 1.0e-03" in told


@pytest.mark.parametrize("seed", range(3))
def test_a_replay_tells_the_story(seed: int) -> None:
    done = proving("-m", "proving", "--replay", str(seed))
    assert done.returncode == 0
    assert f"seed {seed}: every law held" in done.stdout
    assert "session.opened" in done.stdout
    assert not done.stderr, "a run prints its own lines only, whatever the worker survives in it"
