"""Amounts are read as a person writes them."""

from datetime import time

import pytest

from pipeline.exits import UsageError
from pipeline.watching.amounts import QuietHours, bytes_of, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("1d", 86400), ("0", 0)]
)
def test_durations(text, seconds):
    assert seconds_of(text, "--cooldown") == seconds


@pytest.mark.parametrize(("text", "size"), [("500MB", 500 * 10**6), ("1gb", 10**9), ("0", 0)])
def test_sizes(text, size):
    assert bytes_of(text, "--keep-sound") == size


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "10 parsecs", "1e3s"])
def test_what_is_no_amount_is_refused_by_the_name_of_its_flag(text):
    with pytest.raises(UsageError, match="--flag"):
        seconds_of(text, "--flag")
    with pytest.raises(UsageError, match="--flag"):
        bytes_of(text, "--flag")


def test_quiet_hours_go_over_midnight():
    night, noon = QuietHours.parse("22:00-06:00"), QuietHours.parse("12:00-13:00")

    assert [night.covers(time(h)) for h in (21, 22, 0, 5, 6)] == [False, True, True, True, False]
    assert [noon.covers(time(h)) for h in (11, 12, 13)] == [False, True, False]


@pytest.mark.parametrize("text", ["22:00", "22-6", "22:00-22:00", "25:00-06:00", "-"])
def test_quiet_hours_that_are_none_are_refused(text):
    with pytest.raises(UsageError, match="--quiet-hours"):
        QuietHours.parse(text)
