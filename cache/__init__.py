"""Vectors in HDF5: append, resume, verify, merge, import.

This page is the menu; each entry is loaded on first use, so that importing the room costs nothing.

    EmbeddingStore    keeps what this project computes: missing, append, merge, read
    DamagedRowsError  names the keys whose rows cannot be read any more
    read_import       reads what another program left, into memory
    import_to_store   the same, into a store, with memory flat
    match             finds which of its names is which clip
    Choices           what overrides the recognition of a file

    from cache import EmbeddingStore
    vectors = EmbeddingStore.at("embeddings/x.h5").read(keys)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cache.failures import DamagedRowsError
    from cache.foreign import import_to_store, read_import
    from cache.foreign_layouts import Choices
    from cache.matching import match
    from cache.store import EmbeddingStore

__all__ = [
    "Choices",
    "DamagedRowsError",
    "EmbeddingStore",
    "import_to_store",
    "match",
    "read_import",
]

_HOMES = {
    "DamagedRowsError": "cache.failures",
    "EmbeddingStore": "cache.store",
    "Choices": "cache.foreign_layouts",
    "import_to_store": "cache.foreign",
    "match": "cache.matching",
    "read_import": "cache.foreign",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cache' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
