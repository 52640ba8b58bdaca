"""Files that cannot be read at all are set aside, and nothing is deleted."""

import json

import pytest
from small_stores import KEYS, content, open_store, stored_rows

from cache.failures import DamagedError
from cache.inspection import verify
from cache.parts import header_in, parts_in
from cache.repairing import set_aside_unreadable
from cache.store import EmbeddingStore


def test_a_store_that_cannot_be_read_is_named_and_set_aside_without_deleting_it(store):
    store.merge()
    store.path.write_bytes(store.path.read_bytes()[:700])

    with pytest.raises(DamagedError, match=r"damaged beyond reading .* --repair` sets it aside"):
        EmbeddingStore.at(store.path)
    (moved,) = set_aside_unreadable(store.path)

    assert moved.name.startswith(f"{store.path.name}.")
    assert moved.stat().st_size == 700
    assert open_store(store.path.parent).missing({KEYS[0]: (1, 1)}, str) == [KEYS[0]]


def test_a_damaged_part_is_set_aside_and_the_others_stay(store):
    store.append(["b.wav"], stored_rows()[:1], [content("b.wav")])
    first, _ = parts_in(store.parts_folder)
    first.write_bytes(first.read_bytes()[:-20])

    (moved,) = set_aside_unreadable(store.path)

    assert moved.name.startswith(f"{store.path.stem}.{first.name}.")
    assert store.keys() == ["b.wav"]
    assert verify(store.path).intact


def test_a_damaged_header_beside_parts_is_named_and_set_aside(store):
    file = store.parts_folder / "store.json"
    facts = json.loads(file.read_text())
    file.write_text(json.dumps({**facts, "data_root": "/somewhere/else"}))

    with pytest.raises(DamagedError, match=r"its checksum does not fit.* sets the parts aside"):
        header_in(store.parts_folder)
    (moved,) = set_aside_unreadable(store.path)

    assert moved.is_dir()
    assert not store.parts_folder.exists()
