"""The machine types tell the year, as far as they can."""

import pytest

from embed.recordings.dcase_years import TYPES, year_of


@pytest.mark.parametrize("year", TYPES)
def test_the_machines_of_a_year_tell_it(year):
    assert year_of(TYPES[year], has_supplemental=year >= 2025) == (year, "")


@pytest.mark.parametrize(
    ("types", "has_supplemental", "year"),
    [
        (["fan", "slider"], False, 2023),
        (["fan", "slider"], True, 2025),
        (["ToothBrush"], False, 2024),
        (["ToothBrush", "ToyDrone"], False, 2026),
        (["my press"], False, 2023),
        (["my press", "sliderEmu"], False, 2026),
    ],
)
def test_the_earliest_year_that_fits_is_told(types, has_supplemental, year):
    assert year_of(types, has_supplemental=has_supplemental) == (year, "")
