"""The store: what is appended is read back, what is valid is not embedded again."""

import json
import pickle
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_stores import KEYS, content, never, open_store, sha256_of, stats, with_table

from cache.store import EmbeddingStore

DOCS = Path(__file__).resolve().parents[2] / "docs" / "cache-format.md"


@pytest.fixture
def rows(rng) -> np.ndarray:
    return rng.normal(size=(30, 6)).astype(np.float32)


@pytest.fixture
def store(tmp_path, rows) -> EmbeddingStore:
    store = open_store(tmp_path)
    store.append(KEYS, rows, [content(key) for key in KEYS])
    return store


def test_empty_store_misses_everything_and_writes_nothing(tmp_path):
    assert open_store(tmp_path / "cache").missing(stats(), never) == KEYS
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("merged", [False, True])
def test_rows_come_back_in_the_order_asked_merged_or_not(store, rows, merged, rng):
    if merged:
        store.merge()
    order = rng.permutation(30)

    assert np.array_equal(store.read([KEYS[i] for i in order]), rows[order])
    assert store.missing(stats(), never) == []
    assert len(store) == 30


def test_store_is_named_by_what_it_holds(store):
    store.merge()

    assert store.path.name == "dev_data-logmel-mean-0123456789ab.h5"
    assert [path.name for path in store.path.parent.iterdir() if path.name[0] != "."] == [
        store.path.name
    ]


def test_absent_clip_is_named(store):
    with pytest.raises(KeyError, match=r"1 of 2 clips are not in .*, first 'b.wav'; embed them"):
        store.read([KEYS[0], "b.wav"])


def test_store_pickles_and_holds_only_paths(store, rows):
    assert np.array_equal(pickle.loads(pickle.dumps(store)).read(KEYS), rows)


def test_touched_file_is_recognised_by_its_hash(store):
    touched = {key: (size, mtime + 5) for key, (size, mtime) in stats().items()}

    assert store.missing(touched, sha256_of) == []


@pytest.mark.parametrize("merged", [False, True])
def test_changed_file_is_embedded_again_and_its_new_row_counts(store, rows, merged):
    if merged:
        store.merge()
    changed = {**stats(), KEYS[3]: content(KEYS[3], 1)[:2], KEYS[4]: (1, 1)}

    assert store.missing(changed, lambda key: sha256_of(f"{key}1")) == [KEYS[3], KEYS[4]]
    store.append([KEYS[3]], rows[:1] * 2, [content(KEYS[3], 1)])
    assert np.array_equal(store.read([KEYS[3]]), rows[:1] * 2)
    store.merge()
    assert np.array_equal(store.read(KEYS[2:5]), np.stack([rows[2], rows[0] * 2, rows[4]]))
    assert len(store) == 30


def test_file_that_cannot_be_hashed_is_embedded_again(store):
    def unreadable(key: str) -> str:
        raise PermissionError(key)

    assert store.missing({KEYS[0]: (len(KEYS[0]), 7)}, unreadable) == [KEYS[0]]


def test_deleted_clip_is_ignored(store):
    assert store.missing(stats(KEYS[:5]), never) == []


def test_data_moved_elsewhere_under_its_name_is_recognised_by_content(store, tmp_path, rows):
    store.merge()
    moved = open_store(tmp_path, data_root=Path("/elsewhere/dev_data"))

    assert moved.missing({**stats(), "new.wav": (1, 1)}, sha256_of) == ["new.wav"]
    assert np.array_equal(moved.read(KEYS), rows)


def test_moved_data_is_hashed_once_where_its_old_place_is_gone(store, tmp_path, rows):
    store.merge()
    moved = open_store(tmp_path, data_root=Path("/elsewhere/dev_data"))
    later = {key: (size, mtime + 9) for key, (size, mtime) in stats().items()}

    assert moved.missing(later, sha256_of) == []
    assert open_store(tmp_path, data_root=Path("/elsewhere/dev_data")).missing(later, never) == []
    assert np.array_equal(moved.read(KEYS), rows)
    assert EmbeddingStore.at(store.path).header.data_root == "/elsewhere/dev_data"


def test_moving_trusts_only_the_clips_that_were_looked_at(store, tmp_path):
    store.merge()
    moved = open_store(tmp_path, data_root=Path("/elsewhere/dev_data"))
    moved.missing(stats(KEYS[:10]), sha256_of)

    hashed: list[str] = []

    def hash_of(key: str) -> str:
        hashed.append(key)
        return sha256_of(key)

    assert moved.missing(stats(), hash_of) == []
    assert hashed == KEYS[10:]


def test_copied_data_leaves_the_store_to_the_folder_it_was_computed_from(tmp_path, rows):
    (tmp_path / "original").mkdir()
    store = open_store(tmp_path, data_root=tmp_path / "original")
    store.append(KEYS, rows, [content(key) for key in KEYS])
    store.merge()

    copy = open_store(tmp_path, data_root=tmp_path / "copy")
    assert copy.missing(stats(), sha256_of) == []
    assert store.missing(stats(), never) == []


def test_size_of_a_run_is_compared_with_the_free_disk(store):
    assert store.check_space(1000, (768,)) == 2 * 1000 * (768 * 4 + 200)
    with pytest.raises(OSError, match=r"1,000,000,000,000 more vectors of 10 x 768 need .* GB"):
        store.check_space(10**12, (10, 768))


def test_other_data_under_the_same_name_is_refused(store, tmp_path):
    other = open_store(tmp_path, data_root=Path("/elsewhere/dev_data"))

    with pytest.raises(ValueError, match=r"holds vectors of /somewhere/dev_data, and 30 of 30 .*"):
        other.missing(stats(), lambda key: "0" * 64)
    with pytest.raises(ValueError, match="give this data its own --cache-dir"):
        other.missing({KEYS[0]: (1, 1)}, sha256_of)


def test_renamed_data_set_takes_over_the_rows_whose_key_and_hash_agree(store, tmp_path, rows):
    store.merge()
    renamed = open_store(tmp_path, data_name="renamed")

    missing = renamed.missing(
        {**stats(), "new.wav": (1, 1)}, lambda key: "0" * 64 if key == KEYS[7] else sha256_of(key)
    )

    assert missing == [KEYS[7], "new.wav"]
    kept = [key for key in KEYS if key != KEYS[7]]
    assert np.array_equal(renamed.read(kept), np.delete(rows, 7, axis=0))


def test_rows_of_another_fingerprint_or_pooling_are_never_taken_over(store, tmp_path):
    store.merge()

    for other in ({"fingerprint": "f" * 64}, {"pooling": "max"}, {"encoder": "mfcc"}):
        renamed = open_store(tmp_path, data_name="renamed", **other)
        assert renamed.missing(stats(), sha256_of) == KEYS


def test_fingerprints_that_share_twelve_digits_are_told_apart(store, tmp_path):
    store.merge()

    with pytest.raises(ValueError, match="holds vectors of fingerprint 0123456789abcdef"):
        open_store(tmp_path, fingerprint="0123456789ab" + "0" * 52)


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


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_never_kept(store, rows, bad):
    rows[4, 2] = bad

    with pytest.raises(ValueError, match="1 of 30 vectors are not finite as float32, first row 4"):
        store.append([f"{key}2" for key in KEYS], rows, [content(key) for key in KEYS])
    assert len(store) == 30


def test_misaligned_rows_are_refused(store, rows):
    with pytest.raises(ValueError, match=r"29 keys with 30 provenances need vectors of shape"):
        store.append(KEYS[1:], rows, [content(key) for key in KEYS])


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


def test_damaged_row_is_never_read(store):
    store.merge()
    with h5py.File(store.path, "r+") as file:
        file["embeddings"][5, 0] += 1e-3

    with pytest.raises(OSError, match=f"the vector of '{KEYS[5]}' is damaged"):
        store.read(KEYS)
    assert len(store.read(KEYS[:5])) == 5
    assert store.faults()["damaged"] == [KEYS[5]]


def test_damaged_part_is_named(store):
    (part,) = store.parts_folder.glob("part-*")
    part.write_bytes(part.read_bytes()[:-20])

    with pytest.raises(OSError, match=r"damaged part of .* --repair` sets it aside"):
        store.read(KEYS)


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


def test_reader_survives_a_merge_between_its_looks(store, rows, monkeypatch):
    from cache import reader as module

    stale = module.snapshot_of(store.path)
    store.merge()
    snapshots = iter([stale])
    current = module.snapshot_of
    monkeypatch.setattr(module, "snapshot_of", lambda s: next(snapshots, None) or current(s))

    assert np.array_equal(store.read(KEYS), rows)


def test_page_on_the_format_reads_a_store_with_plain_h5py(store, rows, capsys):
    store.merge()
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    found: dict[str, object] = {"store": store.path}

    exec(example, found)

    assert np.array_equal(np.asarray(found["embeddings"]), rows)
    assert list(found["filenames"]) == KEYS  # type: ignore[call-overload]
    assert capsys.readouterr().out == "logmel mean (30, 6)\n"


def test_page_on_the_format_names_every_dataset_and_attribute(store):
    store.merge(notes={"report": "none"})
    page = DOCS.read_text()

    with h5py.File(store.path) as file:
        for name in file:
            assert f"`/{name}`" in page
        for name in file.attrs:
            assert f"`{name}`" in page or name.startswith("note_")
        assert json.loads(file.attrs["configuration"]) == {"n_mels": 128}


def test_foreign_file_in_the_place_of_a_store_is_refused(tmp_path):
    store = open_store(tmp_path)
    with h5py.File(store.path, "w") as file:
        file["embeddings"] = np.zeros((3, 3))

    with pytest.raises(ValueError, match="is not a store of this project; import it instead"):
        open_store(tmp_path)


def test_store_of_a_later_version_is_refused(store):
    store.merge()
    store.path.write_bytes(with_table(store.path.read_bytes(), b"{}", version=99))

    with pytest.raises(ValueError, match="has cache format 99, newer than 2"):
        EmbeddingStore.at(store.path)
