"""A sample of the crash table on each database, within a budget of time; and that the table can fail."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.proving.planted import PLANTED

from proving.crash.many import run_shares
from proving.crash.table import FAULTS, Share

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
        assert re.search(rf"^{handler} × {database}: killed \d+ of [\d,]+, twice", done.stdout, re.MULTILINE), handler
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
