"""The store: what is appended is read back, what is valid is not embedded again."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from small_stores import KEYS, never, open_store, stats

DOCS = Path(__file__).resolve().parents[2] / "docs" / "cache-format.md"


def test_empty_store_misses_everything_and_writes_nothing(tmp_path):
    assert open_store(tmp_path / "cache").missing(stats(), never) == KEYS
    assert not (tmp_path / "cache").exists()


def test_store_is_named_by_what_it_holds(store):
    store.merge()

    assert store.path.name == "dev_data-logmel-mean-0123456789ab.h5"
    assert [path.name for path in store.path.parent.iterdir() if path.name[0] != "."] == [
        store.path.name
    ]


def test_store_pickles_and_holds_only_paths(store, rows):
    assert np.array_equal(pickle.loads(pickle.dumps(store)).read(KEYS), rows)


def test_size_of_a_run_is_compared_with_the_free_disk(store):
    assert store.check_space(1000, (768,)) == 2 * 1000 * (768 * 4 + 200)
    with pytest.raises(OSError, match=r"1,000,000,000,000 more vectors of 10 x 768 need .* GB"):
        store.check_space(10**12, (10, 768))


def test_fingerprints_that_share_twelve_digits_are_told_apart(store, tmp_path):
    store.merge()

    with pytest.raises(ValueError, match="holds vectors of fingerprint 0123456789abcdef"):
        open_store(tmp_path, fingerprint="0123456789ab" + "0" * 52)


def test_a_notebook_reads_a_store_in_one_line(store, rows):
    import cache

    assert np.array_equal(cache.EmbeddingStore.at(str(store.path)).read(KEYS), rows)
    assert all(getattr(cache, name) for name in cache.__all__)
