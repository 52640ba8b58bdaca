"""Vectors in HDF5: append, resume, verify, merge, import.

This page is the menu. `EmbeddingStore` keeps what this project computes, `read_import` reads what
other programs left; both are loaded on first use, so that importing the room costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cache.store import EmbeddingStore

__all__ = ["EmbeddingStore"]

_HOMES = {"EmbeddingStore": "cache.store"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cache' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
