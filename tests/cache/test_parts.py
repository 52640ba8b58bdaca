"""Parts: whole under their name, and opened only if their header is what it can be."""

import json

import numpy as np
import pytest
from small_stores import KEYS, content

from cache.failures import DamagedError
from cache.format import Provenance
from cache.parts import header_in, load_part, part_bytes, parts_in


@pytest.mark.parametrize("shape", [(3,), (1,), (4, 5), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_part_comes_back_and_is_a_file_that_numpy_reads(tmp_path, shape, dtype, rng):
    rows = rng.normal(size=(2, *shape)).astype(dtype)
    path = tmp_path / "part.npy"

    path.write_bytes(part_bytes(dtype, KEYS[:2], rows, [content(key) for key in KEYS[:2]]))

    assert np.array_equal(load_part(path)["embeddings"], rows)
    assert np.array_equal(np.load(path, allow_pickle=False), load_part(path))


@pytest.mark.parametrize(
    "change",
    [("<f4", ">f4"), ("(30,)", "(31,)"), ("(6,)", "(2,)"), ("sizes", "times"), ("<u8", "|O8")],
)
def test_a_part_with_another_header_is_damaged(store, change):
    (part,) = parts_in(store.parts_folder)
    part.write_bytes(part.read_bytes().replace(*(word.encode() for word in change), 1))

    with pytest.raises(DamagedError, match=r"damaged part of .* sets it aside"):
        load_part(part)


def test_a_header_written_before_there_were_checksums_is_read(store):
    file = store.parts_folder / "store.json"
    facts = json.loads(file.read_text())
    del facts["checksum"]
    file.write_text(json.dumps(facts))

    assert header_in(store.parts_folder) is not None


def test_a_time_after_2262_is_kept_as_unknown(tmp_path):
    path = tmp_path / "part.npy"

    path.write_bytes(part_bytes("float32", ["a"], np.ones((1, 2)), [Provenance(1, 2**63, "")]))

    assert load_part(path)["mtimes"].tolist() == [-1]


def test_misaligned_rows_are_refused(store, rows):
    with pytest.raises(ValueError, match=r"29 keys with 30 provenances need vectors of shape"):
        store.append(KEYS[1:], rows, [content(key) for key in KEYS])


def test_damaged_part_is_named(store):
    (part,) = store.parts_folder.glob("part-*")
    part.write_bytes(part.read_bytes()[:-20])

    with pytest.raises(OSError, match=r"damaged part of .* --repair` sets it aside"):
        store.read(KEYS)
