"""A menu imports the home of a name when the name is used."""

import pytest

from ground.menu import loaded_on_use


def test_a_name_comes_from_its_home():
    load = loaded_on_use("room", {"sqrt": "math"})

    assert load("sqrt")(9) == 3


def test_an_unknown_name_is_an_attribute_error_with_the_nearest_one():
    load = loaded_on_use("room", {"find_clips": "nowhere"})

    with pytest.raises(AttributeError, match=r"'room' has no .* 'find_clip': did you mean 'find_c"):
        load("find_clip")
