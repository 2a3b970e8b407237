"""Chance is derived from each test's name, so a run can be repeated; `--hypothesis-profile=deep` looks further."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from testbed.plugin import TestServers

ROOT = Path(__file__).parent.parent

# Test folders are not packages; what tests share is imported from the root, however pytest was started.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
pytest.register_assert_rewrite("proving.laws", "tests.core.stories")

pytest_plugins = ["testbed.plugin"]

settings.register_profile(
    "suite",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("deep", settings.get_profile("suite"), derandomize=False, max_examples=3000)
settings.load_profile("suite")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests want to be read when they pass, such as how much of a budget of time they used."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == "told":
                terminalreporter.write_line(str(value))
    _name_the_release_before(terminalreporter)


def _name_the_release_before(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the release whose tests were run against the schema of this one."""
    reports = [report for kind in ("passed", "failed", "skipped") for report in terminalreporter.getreports(kind)]
    names = {value for report in reports for name, value in report.user_properties if name == "release before"}
    for told in sorted(map(str, names)):
        terminalreporter.write_line(f"the release before: {told}")


@pytest.fixture(scope="session")
def migrated(servers: "TestServers") -> Callable[[str], str]:
    """The URL of this process's one migrated database on a server, in whatever state the test before has left it."""
    from tulbur.stores.choosing import migrations  # noqa: PLC0415 - once the test run is set up

    urls: dict[str, str] = {}

    def url(name: str) -> str:
        servers.note(name)
        if name not in urls:
            urls[name] = servers.url(name)
            migrations(urls[name]).up(urls[name])
        return urls[name]

    return url
