"""Chance is derived from each test's name, so a run can be repeated; `--hypothesis-profile=deep` looks further."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent

# Test folders are not packages; what tests share is imported from the root, however pytest was started.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
pytest.register_assert_rewrite("tests.core.laws", "tests.core.stories")

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
