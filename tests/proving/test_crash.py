"""A sample of the crash table on each database, within a budget of time; and that the table can fail."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.proving.planted import PLANTED

from proving.crash.databases import migrated
from proving.crash.many import run_shares
from proving.crash.results import OtherVersion, Results
from proving.crash.shared import Edge, Point
from proving.crash.table import FAULTS, Counted, Database, Share, Trial
from proving.crash.trial import Plan

if TYPE_CHECKING:
    from testbed.plugin import TestServers

ROOT = Path(__file__).parent.parent.parent
BUDGET_SECONDS = 8
"""For one database; what a loaded machine does not do in it is not run, but every fault strikes."""

HANDLERS = ("callback", "open", "worker at the deadline", "outbox", "refund", "cleanup")


@pytest.mark.parametrize("database", ["sqlite", "postgres", "mariadb", "mongodb"])
def test_processes_that_are_killed_and_answers_that_are_lost(
    database: str, servers: TestServers, record_property: Callable[[str, object], None]
) -> None:
    where = []
    if database == "mongodb":  # ending what a dead process left open ends it for everybody
        where = ["--url", servers.own_server(database).url()]
    elif database != "sqlite":
        where = ["--url", servers.url(database)]
    chosen = [argument for handler in HANDLERS for argument in ("--handler", handler)]
    command = [sys.executable, "-m", "proving.crash", "--database", database, *where, *chosen]
    sample = ["--budget", str(BUDGET_SECONDS), "--cores", "1"]
    done = subprocess.run([*command, *sample], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for handler in HANDLERS:
        assert re.search(
            rf"^{handler} × {database}: lines \d+ of \d+; killed \d+ of [\d,]+, twice", done.stdout, re.MULTILINE
        ), handler
    for fault in FAULTS:
        struck = re.search(rf"^ +(\d+)  {fault}$", done.stdout, re.MULTILINE)
        assert struck, fault
        assert int(struck[1]) > 0, fault
    record_property("told", f"crash table, {database}: {'; '.join(done.stdout.splitlines()[-2:])}")
    for line in done.stdout.splitlines():
        if " × " in line:
            record_property("told", f"  {line}")


@pytest.mark.parametrize("defect", PLANTED)
def test_a_planted_defect_is_caught(defect: str) -> None:
    handler, parts, kind, law = PLANTED[defect]
    share = Share("sqlite", "", (handler,), kinds=(kind,), until_broken=True)
    table = run_shares([share], 2, lambda _: None, parts)
    assert table.broken, f"{table.ran} trials and nothing was noticed"
    assert law in table.broken[0], table.broken[0]


def test_a_line_is_struck_where_it_was_counted() -> None:
    with closing(Database("sqlite", "")) as database:
        counted = database.run(Plan("cancel"))
        spot = max(counted.spots, key=lambda each: counted.spots[each])
        for number in (1, counted.spots[spot], counted.spots[spot] + 1):
            outcome = database.run(Plan("cancel", (Point(Edge.LINE, number, spot),)))
            assert not outcome.broken, outcome.broken
            assert outcome.where == (spot if number <= counted.spots[spot] else "")


def test_cleaning_up_ends_among_the_sessions_of_other_trials(servers: TestServers) -> None:
    """Only ten were cleaned at once, whoever they were of: after many other trials the law was broken by nobody."""
    with closing(Database("postgres", migrated("postgres", servers.url("postgres")).url)) as database:
        for plan in [*[Plan("callback")] * 12, Plan("cleanup", (Point(Edge.BEFORE_STATEMENT, 1),), again=True)]:
            outcome = database.run(plan)
            assert not outcome.broken, outcome.broken


SMALL = Share("sqlite", "", ("cancel",), kinds=(Edge.BEFORE_REQUEST, Edge.AFTER_REQUEST, Edge.END))
"""A table of a few trials."""


def test_what_ran_is_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "results"
    with closing(Results(path, "abc", 0)) as results:
        first = run_shares([SMALL], 1, print, results=results)
    with path.open("a") as file:
        file.write('{"database": "sqli')  # killed while it wrote
    with closing(Results(path, "abc", 0)) as results:
        again = run_shares([SMALL], 1, print, results=results)
    assert first.ran == again.ran == first.ran_now - 1  # all but the counting
    assert (again.ran_now, again.ran_before) == (1, first.ran)
    with closing(Results(path, "abc", 0)) as results:
        kept = run_shares([], 1, print, results=results)
    assert first.rows == again.rows == kept.rows


@pytest.mark.parametrize("commit", ["abd", "abc-dirty"])
def test_what_ran_of_another_source_shows_nothing(tmp_path: Path, commit: str) -> None:
    Results(tmp_path / "results", "abc", 0).close()
    with pytest.raises(OtherVersion):
        Results(tmp_path / "results", commit, 0)


class CtrlC(Results):
    """Presses it after the first trial."""

    def keep(self, told: Trial | Counted) -> None:
        super().keep(told)
        if isinstance(told, Trial) and not self.pressed:
            self.pressed = True
            signal.raise_signal(signal.SIGINT)

    pressed = False


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Also where the tests run in the background of a shell, which has its programs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_ends_it_and_what_ran_is_told(tmp_path: Path) -> None:
    whole = Share("sqlite", "", ("cancel",))
    with closing(CtrlC(tmp_path / "results", "abc", 0)) as results:
        table = run_shares([whole, whole], 1, print, results=results)
    (row,) = table.rows.values()
    assert 1 <= table.ran < row.points.total()
    assert not table.broken
