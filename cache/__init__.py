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

from ground.menu import loaded_on_use

_HOMES = {
    "DamagedRowsError": "cache.failures",
    "EmbeddingStore": "cache.store",
    "Choices": "cache.foreign_layouts",
    "import_to_store": "cache.foreign",
    "match": "cache.matching",
    "read_import": "cache.foreign",
}

__all__ = list(_HOMES)
__getattr__ = loaded_on_use(__name__, _HOMES)
