"""Vectors in HDF5: append, resume, verify, merge, import.

This page is the menu; each entry is loaded on first use, so that importing the room costs nothing.

    EmbeddingStore   keeps what this project computes: missing, append, merge, read
    read_import      reads what another program left, into memory
    import_to_store  the same, into a store, with memory flat
    match            finds which of its names is which clip
    Choices          what overrides the recognition of a file
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cache.foreign import import_to_store, read_import
    from cache.foreign_reader import Choices
    from cache.matching import match
    from cache.store import EmbeddingStore

__all__ = ["Choices", "EmbeddingStore", "import_to_store", "match", "read_import"]

_HOMES = {
    "EmbeddingStore": "cache.store",
    "Choices": "cache.foreign",
    "import_to_store": "cache.foreign",
    "match": "cache.foreign",
    "read_import": "cache.foreign",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cache' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
