"""Small stores, their keys and the files they are said to come from."""

import hashlib
import zlib
from pathlib import Path

import numpy as np

from cache.format import Provenance
from cache.store import EmbeddingStore

KEYS = [f"fan/train/normal_id_00_{i:08d}.wav" for i in range(30)]


def content(key: str, version: int = 0) -> Provenance:
    return Provenance(len(key), 1000 + version, sha256_of(f"{key}{version or ''}"))


def sha256_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def stats(keys: list[str] = KEYS, version: int = 0) -> dict[str, tuple[int, int]]:
    return {key: content(key, version)[:2] for key in keys}


def never(key: str) -> str:
    raise AssertionError(f"{key} was hashed")


def stored_rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)


def with_table(store: bytes, text: bytes, version: int = 2) -> bytes:
    """Put another table, with a checksum that fits, at the start of a store's file."""
    line = b"embedding store %d %10d %08x\n" % (version, len(text), zlib.crc32(text, version))
    return line + text + store[len(line) + len(text) :]


def open_store(directory: Path, **other: object) -> EmbeddingStore:
    facts: dict[str, object] = {
        "data_name": "dev_data",
        "data_root": Path("/somewhere/dev_data"),
        "encoder": "logmel",
        "pooling": "mean",
        "fingerprint": "0123456789abcdef" * 4,
        "configuration": {"n_mels": 128},
    }
    return EmbeddingStore.open(directory, **{**facts, **other})  # type: ignore[arg-type]
