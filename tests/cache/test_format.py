"""What can be kept: finite rows under keys that name a file, in any script."""

import numpy as np
import pytest
from small_stores import KEYS, content, open_store, sha256_of


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_never_kept(store, rows, bad):
    rows[4, 2] = bad

    with pytest.raises(ValueError, match="1 of 30 vectors are not finite as float32, first row 4"):
        store.append([f"{key}2" for key in KEYS], rows, [content(key) for key in KEYS])
    assert len(store) == 30


@pytest.mark.parametrize("key", ["", "a\0b"])
def test_impossible_key_is_refused(store, rows, key):
    with pytest.raises(ValueError, match="a key is a file's path below the data root"):
        store.append([key], rows[:1], [content(key)])


def test_names_in_any_script_and_undecodable_ones_come_back(tmp_path, rows):
    keys = [
        "ventilateur/été.wav",
        "扇风机/正常.wav",
        b"fan/\xff.wav".decode("utf-8", "surrogateescape"),
    ]
    store = open_store(tmp_path)
    store.append(keys, rows[:3], [(1, 1, sha256_of("x"))] * 3)

    for _ in ("parts", "merged"):
        assert store.keys() == keys
        assert np.array_equal(store.read(keys[::-1]), rows[2::-1])
        store.merge()
