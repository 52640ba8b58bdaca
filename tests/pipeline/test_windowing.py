"""How recordings are cut, and what windows are called."""

import pytest

from pipeline.windowing import Windows, recording_of, window_key


def test_the_hop_is_half_a_window_where_none_is_given():
    assert Windows.of(10.0, None) == Windows(10.0, 5.0)
    assert Windows.of(10.0, 2.0) == Windows(10.0, 2.0)
    assert Windows.of(None, 2.0) is None


@pytest.mark.parametrize("key", ["press7/a.wav", "press@7/b@3.wav"])
def test_a_window_names_its_recording(key):
    assert window_key(key, 2.5) == f"{key}@2.5"
    assert recording_of(window_key(key, 2.5)) == key
