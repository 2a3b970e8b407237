from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulbur.core.delivering import LONGEST_ASKED_SECONDS, WAITS_SECONDS, retry_at
from tulbur.core.session import SECOND


def test_the_schedule_is_about_28_hours() -> None:
    assert WAITS_SECONDS[0] == 5
    assert WAITS_SECONDS[-1] == 36_000
    assert 27 * 3600 < sum(WAITS_SECONDS) < 28 * 3600


@given(st.floats(0, 1), st.integers(0, len(WAITS_SECONDS) - 1))
def test_every_pause_is_near_its_own(chance: float, attempts: int) -> None:
    at = retry_at(attempts, 7, chance)
    assert at is not None
    assert 0.9 * WAITS_SECONDS[attempts] - 1e-6 <= (at - 7) / SECOND <= 1.1 * WAITS_SECONDS[attempts] + 1e-6


@pytest.mark.parametrize("attempts", [len(WAITS_SECONDS), len(WAITS_SECONDS) + 1, 1000])
def test_the_last_failure_parks(attempts: int) -> None:
    assert retry_at(attempts, 0, 0.5, 600) is None


@pytest.mark.parametrize(
    ("asked", "waited"), [(0, 5), (4, 5), (600, 600), (10**9, LONGEST_ASKED_SECONDS), (float("inf"), 3600)]
)
def test_a_shop_may_ask_for_a_pause(asked: float, waited: float) -> None:
    assert retry_at(0, 0, 0.5, asked) == waited * SECOND


def test_what_the_shop_asks_never_shortens_a_pause() -> None:
    assert retry_at(6, 0, 0.5, 3600) == 36_000 * SECOND
