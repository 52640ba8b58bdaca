"""Merging: store and parts become one file with the same rows, in the precision asked for."""

import h5py
import numpy as np
import pytest
from small_stores import KEYS, content, open_store


def test_frames_of_different_lengths_are_padded_with_nan(tmp_path, rng):
    store = open_store(tmp_path, pooling="frames")
    short, long = (rng.normal(size=(10, t, 4)).astype(np.float32) for t in (3, 5))
    store.append(KEYS[:10], short, [content(key) for key in KEYS[:10]])
    store.append(KEYS[10:20], long, [content(key) for key in KEYS[10:20]])

    for _ in ("parts", "merged"):
        read = store.read(KEYS[:20])
        assert read.shape == (20, 5, 4)
        assert np.array_equal(read[:10, :3], short)
        assert np.isnan(read[:10, 3:]).all()
        assert np.array_equal(read[10:], long)
        assert store.read(KEYS[:10]).shape == (10, 3, 4)
        store.merge()
    with h5py.File(store.path) as file:
        assert file["lengths"][:].tolist() == [3] * 10 + [5] * 10


def test_vectors_of_two_widths_are_refused_by_name(store, rng):
    store.append(["b.wav"], rng.normal(size=(1, 7)), [content("b.wav")])

    with pytest.raises(ValueError, match=r"rows of shapes \[\(6,\), \(7,\)\], which do not fit"):
        store.read([KEYS[0], "b.wav"])
    with pytest.raises(ValueError, match="do not fit one matrix"):
        store.merge()


def test_half_precision_is_close_and_refuses_what_it_cannot_hold(tmp_path, rows):
    store = open_store(tmp_path, dtype="float16")
    store.append(KEYS, rows, [content(key) for key in KEYS])
    store.merge()

    assert np.allclose(store.read(KEYS), rows, rtol=2**-11, atol=3e-8)
    assert open_store(tmp_path).header.dtype == "float16"
    with pytest.raises(ValueError, match="not finite as float16"):
        store.append(["b.wav"], np.full((1, 6), 1e6), [content("b.wav")])


def test_store_becomes_half_precision_and_stays_intact(store, rows):
    store.convert("float16")

    assert np.array_equal(store.read(KEYS), rows.astype(np.float16))
    assert not any(store.faults().values())


def test_part_that_outlived_its_merge_never_comes_back(store, rows):
    (part,) = store.parts_folder.glob("part-*")
    kept = part.read_bytes()
    store.append([KEYS[0]], rows[:1] * 3, [content(KEYS[0], 1)])
    store.merge()
    store.parts_folder.mkdir()
    part.write_bytes(kept)  # as if the merge had been killed before it removed this part

    for _ in range(2):
        assert np.array_equal(store.read(KEYS[:2]), np.stack([rows[0] * 3, rows[1]]))
        store.append(["b.wav"], rows[:1], [content("b.wav")])
        store.merge()
    assert len(store) == 31
