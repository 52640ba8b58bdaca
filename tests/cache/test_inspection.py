"""Looking at a store: recordings are found, and what cannot be read is a reason in words."""

import unicodedata

import pytest

from cache.inspection import describe, file_of, verify


def test_a_recording_is_found_under_any_form_of_its_name(tmp_path):
    written, asked = (unicodedata.normalize(form, "été.wav") for form in ("NFD", "NFC"))
    (tmp_path / written).touch()

    assert file_of(tmp_path, asked) == tmp_path / written
    assert file_of(tmp_path, written) == tmp_path / written
    assert file_of(tmp_path, "x" * 5000) is None


def test_a_store_is_described_with_its_parts(store):
    found = describe(store.path)

    assert (found.clips, found.row_shape, found.unmerged_parts) == (30, [6], 1)
    assert found.configuration == {"n_mels": 128}


@pytest.mark.parametrize("look", [describe, verify])
def test_a_damaged_part_is_named_where_a_store_cannot_be_read(store, look):
    (part,) = store.parts_folder.glob("part-*")
    part.write_bytes(b"")

    with pytest.raises(ValueError, match=rf"{part.name}: damaged part of 0 bytes"):
        look(store.path)
