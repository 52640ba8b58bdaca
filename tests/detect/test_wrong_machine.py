"""Another machine is named only where the clip is unlike its own and usual for the other."""

import pytest

from detect.wrong_machine import better_machine


@pytest.mark.parametrize(
    ("z", "expected"),
    [
        ({"own": 8.0, "other": 0.2, "third": 5.0}, "other"),
        ({"own": 8.0, "other": 0.2, "third": -0.5}, "third"),
        ({"own": 2.0, "other": -3.0}, None),  # not clearly unlike its own
        ({"own": 8.0, "other": 2.0}, None),  # unlike both: a fault
        ({"own": 8.0}, None),
    ],
)
def test_a_machine_is_named_where_the_clip_fits_it_clearly_better(z, expected):
    assert better_machine(z, "own") == expected


def test_an_unknown_machine_is_an_error():
    with pytest.raises(KeyError):
        better_machine({"a": 1.0}, "b")
