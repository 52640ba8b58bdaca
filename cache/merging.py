"""Store and parts rewritten as one file."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cache.format import (
    BLOCK_BYTES,
    CHUNK_BYTES,
    CHUNK_ROWS,
    FORMAT,
    StoreHeader,
    as_stored,
    row_checksums,
    utc_now,
)
from cache.hdf5 import publishing
from cache.reader import StoreReader, of_one_length

# -- merging ----------------------------------------------------------------------------------


def write_merged(
    path: Path,
    identity: StoreHeader,
    reader: StoreReader,
    order: np.ndarray,
    mtimes: np.ndarray,
    notes: Mapping[str, str],
) -> None:
    """Write the rows at positions `order`, ascending, as the store's one file."""
    row_shape, lengths_differ = reader.shape()
    kind = np.dtype(identity.dtype).newbyteorder("<")
    row_bytes = max(1, int(np.prod(row_shape)) * kind.itemsize)
    chunk = max(1, min(CHUNK_ROWS, CHUNK_BYTES // row_bytes, len(order)))
    n = len(order)
    with publishing(path) as publication:
        file = publication.file
        facts = {**asdict(identity), "created": identity.created or utc_now()}
        file.attrs.update({"format": FORMAT, "merge_id": secrets.token_hex(16), **facts})
        file.attrs["merged"] = utc_now()
        file.attrs.update({f"note_{name}": text for name, text in notes.items()})
        file["merged_parts"] = json.dumps([part.name for part in reader.parts])
        file.create_dataset("embeddings", (n, *row_shape), kind, chunks=(chunk, *row_shape))
        file.create_dataset("filenames", (n,), h5py.string_dtype())
        file.create_dataset("key_hashes", (n, 2), "<u8")
        file.create_dataset("sizes", (n,), "<i8")
        file.create_dataset("mtimes", data=mtimes, dtype="<i8")
        file.create_dataset("sha256", (n, 32), "u1")
        file.create_dataset("checksums", (n,), "<u4")
        if lengths_differ:
            file.create_dataset("lengths", (n,), "<i4")
        done = 0
        for number, _, rows in reader.by_file(order):
            rows_at_once = max(1, BLOCK_BYTES // (row_bytes + 256))
            for start in range(0, len(rows), rows_at_once):
                block = rows[start : start + rows_at_once]
                here = slice(done, done + len(block))
                _copy_rows(file, here, reader, number, block)
                publication.check()
                done = here.stop


def _copy_rows(
    file: h5py.File, here: slice, reader: StoreReader, number: int, rows: np.ndarray
) -> None:
    """Copy rows of one source file into the rows `here` of the new one."""
    for column in ("filenames", "key_hashes", "sizes", "sha256"):
        file[column][here] = reader.select(number, column, rows)
    raw = reader.select(number, "embeddings", rows)
    lengths = reader.lengths(number, rows)
    right = reader.check(number, rows, raw, lengths)
    target = file["embeddings"]
    if raw.dtype != target.dtype:
        right, raw = _converted(raw, lengths, target.dtype)
    file["checksums"][here] = right
    if "lengths" in file:
        file["lengths"][here] = lengths
    if raw.shape[1:] == target.shape[1:]:
        target[here] = raw
    else:
        padded = np.full((len(raw), *target.shape[1:]), np.nan, dtype=target.dtype)
        padded[:, : raw.shape[1]] = raw
        target[here] = padded


def _converted(
    raw: np.ndarray, lengths: np.ndarray, dtype: np.dtype[Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Change the precision of rows; return their new checksums and the rows."""
    with np.errstate(over="ignore"):
        rows = raw.astype(dtype)
    checksums = np.zeros(len(rows), dtype=np.uint32)
    for of_length, kept in of_one_length(rows, lengths):
        checksums[of_length] = row_checksums(as_stored(kept, dtype.name))
    return checksums, rows
