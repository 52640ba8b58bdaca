"""Training clips that spoil a fit are found, ordinary ones are not."""

import tracemalloc

import numpy as np
import pytest
from fitted_units import Embeddings, table

from detect.fitting import ClipTable, FitUnit, units
from detect.training_clips import CopiedClip, copies, training_outliers


def test_a_training_clip_far_from_the_others_is_listed_and_ordinary_ones_are_not():
    (unit,) = units(table(ids=("id_00",), n_train=60))
    read = Embeddings((20,))
    odd = unit.train_keys[17]

    def with_a_fault(keys):
        return np.stack([read.of(key) + 6 * (key == odd) for key in keys])

    assert training_outliers(unit, read) == []
    (found,) = training_outliers(unit, with_a_fault)
    assert found.key == odd
    assert found.distance > 2
    assert found.nearest_key != odd


def test_frames_are_compared_by_their_mean_and_never_held_all_at_once():
    (unit,) = units(table(ids=("id_00",), n_train=1024))
    read = Embeddings((200, 8))
    odd = unit.train_keys[17]

    def with_a_fault(keys):
        X = np.stack([read.of(key) + (key == odd) for key in keys]).astype(np.float32)
        X[:, 150:] = np.nan
        return X

    tracemalloc.start()
    (found,) = training_outliers(unit, with_a_fault)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert found.key == odd
    assert peak < 1.5 * 1024 * 200 * 8 * 8  # all frames in float64 twice would be 2


def clips(*rows):
    """Return a table of (key, machine ID, split)."""
    keys, ids, splits = zip(*rows, strict=True)
    return ClipTable(keys, ("fan",) * len(keys), ids, splits, ("normal",) * len(keys))


@pytest.mark.parametrize("test_id", ["id_00", "id_02"])
def test_a_training_clip_copied_into_the_test_set_is_found(test_id):
    table = clips(("train/a", "id_00", "train"), ("test/b", test_id, "test"))

    (found,) = copies({"train/a": "f00", "test/b": "f00"}, table)

    assert found == CopiedClip("test/b", f"fan {test_id}", "train/a", "fan id_00", is_test=True)
    assert "the test clip 'test/b'" in str(found)


def test_one_clip_in_two_machines_training_sets_is_found_once():
    table = clips(("a", "id_00", "train"), ("b", "id_02", "train"), ("c", "id_00", "train"))

    (found,) = copies({"a": "f00", "b": "f00", "c": "f01"}, table)

    assert (found.key, found.training_key, found.is_test) == ("b", "a", False)


def test_different_clips_unhashed_clips_and_shared_keys_are_no_copies():
    table = clips(
        ("a", "id_00", "train"),
        ("a", "id_02", "test"),
        ("b", "id_00", "test"),
        ("c", "id_00", "test"),
    )

    assert copies({"a": "f00", "b": "f01"}, table) == []


def test_fewer_than_eight_clips_say_nothing():
    unit = FitUnit("fan", "id_00", tuple("abcdefg"), ("id_00",) * 7, (), ())

    assert training_outliers(unit, Embeddings()) == []
