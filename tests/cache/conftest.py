"""A small store and its rows, for every test of the cache."""

import numpy as np
import pytest
from small_stores import KEYS, content, open_store, stored_rows

from cache.store import EmbeddingStore


@pytest.fixture
def rows() -> np.ndarray:
    return stored_rows()


@pytest.fixture
def store(tmp_path, rows) -> EmbeddingStore:
    """A store of 30 vectors in one part, not merged yet."""
    store = open_store(tmp_path)
    store.append(KEYS, rows, [content(key) for key in KEYS])
    return store
