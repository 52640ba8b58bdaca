"""Reading: rows come back in the order that is asked, checked, whatever happens meanwhile."""

import h5py
import numpy as np
import pytest
from small_stores import KEYS, never, stats


@pytest.mark.parametrize("merged", [False, True])
def test_rows_come_back_in_the_order_asked_merged_or_not(store, rows, merged, rng):
    if merged:
        store.merge()
    order = rng.permutation(30)

    assert np.array_equal(store.read([KEYS[i] for i in order]), rows[order])
    assert store.missing(stats(), never) == []
    assert len(store) == 30


def test_absent_clip_is_named(store):
    with pytest.raises(KeyError, match=r"1 of 2 clips are not in .*, first 'b.wav'; embed them"):
        store.read([KEYS[0], "b.wav"])


def test_damaged_row_is_never_read(store):
    store.merge()
    with h5py.File(store.path, "r+") as file:
        file["embeddings"][5, 0] += 1e-3

    with pytest.raises(OSError, match=f"the vector of '{KEYS[5]}' is damaged"):
        store.read(KEYS)
    assert len(store.read(KEYS[:5])) == 5
    assert store.faults()["damaged"] == [KEYS[5]]


def test_reader_survives_a_merge_between_its_looks(store, rows, monkeypatch):
    from cache import reader as module

    stale = module.snapshot_of(store.path)
    store.merge()
    snapshots = iter([stale])
    current = module.snapshot_of
    monkeypatch.setattr(module, "snapshot_of", lambda s: next(snapshots, None) or current(s))

    assert np.array_equal(store.read(KEYS), rows)
