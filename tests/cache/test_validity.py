"""Which rows are valid: times that no disk can have, and names in any form of Unicode."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from small_stores import KEYS, content, never, open_store, sha256_of, stats, stored_rows

from cache.failures import DamagedRowsError
from cache.store import EmbeddingStore

AFTER_2262 = 2**63 + 5


@pytest.mark.parametrize("merged", [False, True])
def test_a_file_with_a_time_after_2262_is_judged_by_its_hash(tmp_path, merged):
    store = open_store(tmp_path)
    size, _, sha256 = content(KEYS[0])
    store.append(KEYS[:1], stored_rows()[:1], [(size, AFTER_2262, sha256)])
    if merged:
        store.merge()

    assert store.missing({KEYS[0]: (size, AFTER_2262)}, sha256_of) == []
    assert store.missing({KEYS[0]: (size, AFTER_2262)}, lambda _: "0" * 64) == [KEYS[0]]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("merged", [False, True])
def test_a_name_is_found_whatever_form_of_unicode_it_has(tmp_path, form, merged):
    written = [unicodedata.normalize(form, f"ventilateur/été_{i}.wav") for i in range(3)]
    asked = [unicodedata.normalize("NFC" if form == "NFD" else "NFD", key) for key in written]
    store = open_store(tmp_path)
    store.append(written, stored_rows()[:3], [content(key) for key in written])
    if merged:
        store.merge()

    assert (
        store.missing({b: content(a)[:2] for a, b in zip(written, asked, strict=True)}, never) == []
    )
    assert np.array_equal(store.read(asked), stored_rows()[:3])
    assert store.keys() == written
    assert not any(store.faults().values())
    store.append(asked[:1], stored_rows()[5:6], [content(asked[0])])
    assert len(store) == 3
    store.drop(asked[1:])
    assert np.array_equal(store.read(written[:1]), stored_rows()[5:6])


def test_a_name_that_an_older_store_hashed_as_macos_wrote_it_is_found(tmp_path, monkeypatch):
    name = unicodedata.normalize("NFD", "été.wav")
    store = open_store(tmp_path)
    with monkeypatch.context() as older:
        older.setattr("cache.parts.same_form", lambda key: key)
        store.append([name], stored_rows()[:1], [content(name)])
    store.merge()

    assert np.array_equal(store.read([unicodedata.normalize("NFC", name)]), stored_rows()[:1])
    assert not any(store.faults().values())


def test_reading_damaged_rows_names_all_of_them_and_the_rest_is_read(tmp_path):
    store = open_store(tmp_path)
    for start in (0, 15):
        keys = KEYS[start : start + 15]
        store.append(keys, stored_rows()[start : start + 15], [content(key) for key in keys])
    for part in store.parts_folder.glob("part-*"):
        data = bytearray(part.read_bytes())
        data[-1] ^= 1
        part.write_bytes(data)

    for _ in ("parts", "merged"):
        with pytest.raises(DamagedRowsError, match="the vectors of 2 clips") as error:
            store.read(KEYS[::-1])
        assert error.value.keys == (KEYS[29], KEYS[14])
        good = [key for key in KEYS if key not in error.value.keys]
        assert np.array_equal(store.read(good), np.delete(stored_rows(), [14, 29], axis=0))
        store.merge()  # a damaged row costs itself, not the merge
    store.convert("float16")
    assert store.faults()["damaged"] == [KEYS[14], KEYS[29]]
    assert store.repair() == [KEYS[14], KEYS[29]]


def test_a_damaged_row_of_another_store_is_not_taken_over(tmp_path):
    store = open_store(tmp_path)
    store.append(KEYS, stored_rows(), [content(key) for key in KEYS])
    (part,) = store.parts_folder.glob("part-*")
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    renamed = open_store(tmp_path, data_name="renamed")

    missing = renamed.missing({key: content(key)[:2] for key in KEYS}, sha256_of)

    assert missing == [KEYS[29]]
    assert np.array_equal(renamed.read(KEYS[:29]), stored_rows()[:29])


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
