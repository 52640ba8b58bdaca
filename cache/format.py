"""What rows and headers are: keys and their hashes, checksums, provenance, JSON with a checksum."""

from __future__ import annotations

import hashlib
import json
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")
FORMAT = 2
"""Version of the layout that docs/cache-format.md describes; 1 is still read."""

CHUNK_BYTES = 8 << 20
"""How much of a store is read or copied at a time."""

UNKNOWN = -1
"""A modification time that fits no file, so that the hash of the file decides."""

COLUMNS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "key_hashes": ("<u8", (2,)),
    "sizes": ("<i8", ()),
    "mtimes": ("<i8", ()),
    "sha256": ("|u1", (32,)),
    "checksums": ("<u4", ()),
}
"""Type and shape of one row of each column beside names and vectors."""

VECTOR_TYPES = {"float32": "<f4", "float16": "<f2"}


class Provenance(NamedTuple):
    """The file that a row was computed from: size in bytes, modification time in ns, sha256."""

    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class StoreHeader:
    """What a store holds and where it came from."""

    encoder: str
    pooling: str
    fingerprint: str
    configuration: str  # JSON
    data_name: str
    data_root: str
    source: str = "computed"  # or import:<sha256 of the file>
    warning: str = ""
    dtype: str = "float32"
    created: str = ""


def header_of(facts: Any) -> StoreHeader:
    """Make a header from what a file says; ValueError where it says something else."""
    names = StoreHeader.__dataclass_fields__
    found = facts if isinstance(facts, dict) else {}
    if not all(isinstance(found.get(name), str) for name in names):
        raise ValueError("it has no header of an embedding store")
    if found["dtype"] not in VECTOR_TYPES:
        raise ValueError(f"it holds vectors of type {found['dtype']!r}")
    return StoreHeader(**{name: found[name] for name in names})


def utc_now() -> str:
    """Return the time of now in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def in_blocks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut a sequence into blocks of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def parse_json(text: str | bytes) -> Any:
    """Parse JSON that may be damaged or made to do harm; every failure is a ValueError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


# -- keys -------------------------------------------------------------------------------------


def same_form(key: str) -> str:
    """Write a key in Unicode's NFC, in which keys are compared; macOS hands out NFD."""
    return key if key.isascii() else unicodedata.normalize("NFC", key)


def other_forms(key: str) -> list[str]:
    """List the other spellings of a key, as rows of older stores and other systems have them."""
    if key.isascii():
        return []
    spellings = dict.fromkeys((key, unicodedata.normalize("NFD", key)))
    return [spelling for spelling in spellings if spelling != same_form(key)]


def encode_key(key: str) -> bytes:
    """Encode a key as the bytes that are kept; ValueError for what names no file."""
    name = key.encode("utf-8", "surrogateescape")
    if not name or b"\0" in name:
        raise ValueError(f"a key is a file's path below the data root, not {key!r}")
    return name


def decode_key(name: bytes) -> str:
    """Decode a kept name; bytes that are not UTF-8 become surrogates."""
    return name.decode("utf-8", "surrogateescape")


def hash_keys(keys: Sequence[str]) -> np.ndarray:
    """Hash keys as they are to `(n, 2)` uint64: 16 bytes of BLAKE2b, little-endian."""
    blake2b = hashlib.blake2b
    digests = b"".join(
        [blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).digest() for key in keys]
    )
    return np.frombuffer(digests, dtype="<u8").reshape(-1, 2)


# -- rows -------------------------------------------------------------------------------------


def storable_mtime(mtime_ns: int) -> int:
    """Return a modification time that fits 64 bits, or UNKNOWN for one after 2262."""
    return mtime_ns if -(2**63) <= mtime_ns < 2**63 else UNKNOWN


def row_checksums(rows: np.ndarray) -> np.ndarray:
    """CRC-32 of each row's bytes."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    return np.fromiter((zlib.crc32(row.data) for row in flat), dtype=np.uint32, count=len(rows))


def as_stored(embeddings: np.ndarray, dtype: str) -> np.ndarray:
    """Turn vectors into what is kept, finite and little-endian; ValueError for other values."""
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(embeddings, dtype=VECTOR_TYPES[dtype])
    finite = np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{np.count_nonzero(~finite)} of {len(rows)} vectors are not finite as {dtype}, "
            f"first row {np.argmin(finite)}; they were not kept"
        )
    return rows


def of_one_length(rows: np.ndarray, lengths: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Split rows by their length: which ones, and those rows without their padding.

    `rows` has shape `(n, ...)`, `lengths` `(n,)` with -1 where rows are vectors.
    """
    different = np.unique(lengths)
    for length in different:
        of_length = np.flatnonzero(lengths == length)
        selected = rows if len(different) == 1 else rows[of_length]
        yield of_length, selected if length < 0 else selected[:, :length]
