"""A sample of each figure in each test run, and that a figure can fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from proving.figures import certificate, degraded, duplicates, hostile, outage, page
from proving.figures.attacks import KINDS, Attack
from proving.figures.figure import Figure
from proving.figures.wire import Answer
from testbed.plugin import TestServers
from tulbur.core.certificate import Certificate
from tulbur.payments.certifying import prove
from tulbur.payments.desk import Desk

pytestmark = pytest.mark.anyio

SESSIONS = 2
REQUESTS = 3 * len(KINDS)
HOURS = 1.5
DAYS = 30


@pytest.fixture
def figure(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Iterator[Figure]:
    """A figure of the test's own name, whose verdict is told at the end."""
    made = Figure(str(request.node.name), "a sample", "trials", "make test", ())
    yield made
    record_property("told", f"{made.name}: {made.verdict}")


def ended(figure: Figure) -> None:
    figure.end()
    assert not figure.failures, page.printed(figure)


@pytest.mark.store("postgres")
@pytest.mark.store("valkey")
async def test_duplicates(figure: Figure, tmp_path: Path, database: Callable[[str], str]) -> None:
    figure.listed = duplicates.MADE
    await duplicates.run(figure, tmp_path, database("postgres"), database("valkey"), sessions=SESSIONS)
    ended(figure)
    assert figure.trials == SESSIONS


@pytest.mark.store("postgres")
@pytest.mark.store("valkey")
async def test_hostile(figure: Figure, tmp_path: Path, database: Callable[[str], str]) -> None:
    figure.listed = tuple(KINDS)
    await hostile.run(figure, tmp_path, database("postgres"), database("valkey"), requests=REQUESTS)
    ended(figure)
    assert figure.trials == REQUESTS


def test_outage(figure: Figure) -> None:
    figure.listed = outage.LISTED
    outage.run(figure, sessions=30, hours=HOURS)
    ended(figure)
    assert figure.trials == 30


async def test_degraded(figure: Figure, tmp_path: Path, servers: TestServers) -> None:
    for name in ("postgres", "valkey"):
        servers.admin_url(name)  # skips where it cannot be had
    figure.listed = tuple(fault for fault in degraded.LISTED if fault != degraded.QPAY_DEADLINE)
    plan = degraded.Plan(
        rounds=1, round_seconds=1, requests=0, sessions=12, qpay_away=1, expires_in=600, compared=False
    )
    await degraded.run(figure, tmp_path, servers, plan)
    ended(figure)
    assert figure.trials > plan.sessions


def test_certificate(figure: Figure) -> None:
    figure.listed = certificate.LISTED
    certificate.run(figure, days=DAYS)
    ended(figure)
    assert figure.trials == DAYS


# --- that they can fail ----------------------------------------------------------------------------------------------


def test_a_listed_fault_that_never_struck_fails_the_figure() -> None:
    made = Figure("f", "g", "trials", "make", ("one", "other"), trials=3)
    made.struck("one")
    assert made.end().failures == ["never struck, so nothing is shown of it: other"]
    assert "1 failures" in made.verdict


def test_a_count_that_is_not_as_it_must_be_fails_the_figure() -> None:
    made = Figure("f", "g", "trials", "make", ())
    made.holds("orders", 2, 2)
    assert not made.failures
    made.holds("orders", 3, 2)
    assert made.failures == ["orders: 3, and not 2"]


REFUSAL = Answer(404, b"HTTP/1.1 404 \r\n\r\n", b"{}")


@pytest.mark.parametrize(
    ("answer", "attack"),
    [
        (Answer(500, b"", b""), Attack(b"")),
        (Answer(200, b"", b"SUCCESS"), Attack(b"")),
        (Answer(404, b"", b"Traceback (most recent call last)"), Attack(b"")),
        (Answer(404, b"HTTP/1.1 404 \r\nset-cookie: stolen=1\r\n", b""), Attack(b"")),
        (Answer(200, b"", b"canary"), Attack(b"", refused=False)),
    ],
    ids=["5xx", "accepted", "traceback", "header", "secret"],
)
def test_an_answer_that_a_stranger_may_not_cause_is_noticed(answer: Answer, attack: Attack) -> None:
    made = Figure("f", "g", "requests", "make", ())
    judge = hostile.Judge(made, ["canary"])
    judge.answer("kind", attack, REFUSAL)
    assert not made.failures
    judge.answer("kind", attack, answer)
    assert made.failures


def test_a_secret_in_a_log_is_noticed() -> None:
    made = Figure("f", "g", "requests", "make", ())
    judge = hostile.Judge(made, ["canary"])
    judge.log(b"all is well")
    assert not made.failures
    judge.log(b"a line with a canary in it")
    assert made.failures


async def test_a_certificate_that_says_yes_to_everything_is_caught() -> None:
    async def yes(desk: Desk, start: int, end: int) -> Certificate:
        return replace(await prove(desk, start, end), trouble="", differences=(), sums={})

    days = certificate.Days(1, Counter(), yes)

    async def all_of_them() -> None:
        for _ in range(DAYS):
            await days.next()

    with pytest.raises(certificate.Wrong):
        await all_of_them()


def test_a_run_renews_its_own_section_and_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "figures.md"
    for name, trials in (("b", 1), ("a", 2), ("b", 3_000)):
        page.renew(path, [Figure(name, "g", "trials", f"make {name}", (), trials=trials)], ["a", "b"])
    text = path.read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## a", "## b"]
    assert "3,000 clean trials bound the failure rate at about 3/n = 1.0e-03" in text
    assert "2 clean trials" in text
