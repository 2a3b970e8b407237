"""When a sweep is due, and what it covers."""

import pytest

from tulbur.core.schedule import DAY
from tulbur.core.session import SECOND, Micros
from tulbur.core.sweeping import Last, Window, by_days, due, last_daily

HOUR = 3600 * SECOND
MIDNIGHT = 20_000 * DAY - 8 * HOUR
"""Midnight in Ulaanbaatar."""
SOON = MIDNIGHT + HOUR // 2


def asked(
    now: Micros, until: Micros | None, *, up: Micros = 0, back: bool = False, last: Last | None = None
) -> Window | None:
    return due(now, until=until, last=last, started_at=up, back=back)


def test_the_daily_one_is_due_half_an_hour_after_midnight_in_ulaanbaatar() -> None:
    until = MIDNIGHT - 86_100 * SECOND
    assert asked(SOON - SECOND, until) is None
    found = asked(SOON, until)
    assert found == Window(until - HOUR, SOON - 300 * SECOND, "daily")
    assert asked(SOON + HOUR, found.end) is None
    assert asked(SOON + DAY, found.end) == Window(found.end - HOUR, SOON + DAY - 300 * SECOND, "daily")


@pytest.mark.parametrize("hour", range(24))
def test_there_is_one_a_day(hour: int) -> None:
    now, until, runs = MIDNIGHT + hour * HOUR, MIDNIGHT - DAY, []
    for _ in range(3 * 24 * 6):
        now += 600 * SECOND
        found = asked(now, until)
        if found:
            assert found.start < until < found.end
            runs.append(found)
            until = found.end
    assert len(runs) in (3, 4)
    assert all(run.reason == "daily" for run in runs)


def test_one_that_never_swept_begins_a_little_after_its_start() -> None:
    assert asked(SOON, None, up=SOON - 599 * SECOND) is None
    found = asked(SOON, None, up=SOON - 600 * SECOND)
    assert found is not None
    assert found.end - found.start == 3 * DAY


def test_a_start_after_a_downtime_catches_up_once() -> None:
    until, now = MIDNIGHT + 5 * HOUR, MIDNIGHT + 9 * HOUR
    found = asked(now, until, up=now)
    assert found == Window(until - HOUR, now - 300 * SECOND, "catch_up")
    assert asked(now + HOUR, found.end, up=now) is None
    assert asked(now, now - HOUR + SECOND, up=now) is None, "it was not away for long"


def test_the_return_of_qpay_catches_up() -> None:
    until, now = MIDNIGHT + 5 * HOUR, MIDNIGHT + 9 * HOUR
    assert asked(now, until) is None
    found = asked(now, until, back=True)
    assert found is not None
    assert found.reason == "catch_up"


def test_after_one_there_is_a_pause_and_after_trouble_a_longer_one() -> None:
    until = MIDNIGHT - 2 * DAY
    for complete, seconds in ((True, 600), (False, 3600)):
        last = Last(SOON, complete)
        assert asked(SOON + seconds * SECOND - 1, until, back=True, last=last) is None
        assert asked(SOON + seconds * SECOND, until, back=True, last=last) is not None


def test_it_never_looks_back_without_end() -> None:
    found = asked(SOON, SOON - 400 * DAY)
    assert found is not None
    assert found.end - found.start == 90 * DAY


def test_a_long_time_is_swept_day_by_day() -> None:
    pieces = by_days(SOON, SOON + 2 * DAY + 5)
    assert pieces == [(SOON, SOON + DAY), (SOON + DAY, SOON + 2 * DAY), (SOON + 2 * DAY, SOON + 2 * DAY + 5)]
    assert by_days(5, 5) == []


def test_the_latest_daily_time() -> None:
    assert last_daily(SOON) == SOON
    assert last_daily(SOON - 1) == SOON - DAY
    assert last_daily(SOON + DAY - 1) == SOON
