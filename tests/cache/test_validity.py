"""Which rows are valid: times that no disk can have, and names in any form of Unicode."""

import unicodedata

import numpy as np
import pytest
from small_stores import KEYS, content, never, open_store, sha256_of, stored_rows

from cache.failures import DamagedRowsError

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
