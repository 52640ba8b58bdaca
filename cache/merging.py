"""Store and parts rewritten as one file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cache.format import (
    CHUNK_BYTES,
    COLUMNS,
    FORMAT,
    VECTOR_TYPES,
    StoreHeader,
    as_stored,
    in_blocks,
    of_one_length,
    row_checksums,
    utc_now,
)
from cache.hdf5 import first_byte, publishing
from cache.reader import StoreReader
from cache.table import LARGEST_OFFSET, block_bytes, encode_table


def write_merged(
    path: Path,
    header: StoreHeader,
    reader: StoreReader,
    order: np.ndarray,
    mtimes: np.ndarray,
    notes: Mapping[str, str],
) -> None:
    """Write the rows at positions `order` `(n,)`, ascending, as the store's one file.

    A damaged row is copied as it is and stays damaged, so that it can still be named. Raises
    OSError where the disk is full, ValueError where rows do not fit one matrix.
    """
    header = replace(header, created=header.created or utc_now())
    columns = _columns(reader, order, header.dtype)
    merged, parts = utc_now(), [part.name for part in reader.parts]

    def table(offsets: Mapping[str, int]) -> bytes:
        placed = {name: (*what, offsets[name]) for name, what in columns.items()}
        return encode_table(header, merged, notes, parts, placed)

    largest = table(dict.fromkeys(columns, LARGEST_OFFSET))
    with publishing(path, block_bytes(largest)) as publication:
        file = publication.file
        file.attrs.update({"format": FORMAT, "merged": merged, **asdict(header)})
        file.attrs.update({f"note_{name}": text for name, text in notes.items()})
        file["merged_parts"] = json.dumps(parts)
        for name, (kind, shape) in columns.items():
            is_text = kind.startswith("|S")
            stored = h5py.string_dtype("utf-8", int(kind[2:])) if is_text else kind
            file.create_dataset(name, shape, stored)
        file["mtimes"][:] = mtimes
        row_bytes = int(np.prod(columns["embeddings"][1][1:])) * 4 + 256
        done = 0
        for number, _, rows in reader.by_file(order):
            for block in in_blocks(rows.tolist(), max(1, CHUNK_BYTES // row_bytes)):
                here = slice(done, done + len(block))
                _copy_rows(file, here, reader, number, np.array(block))
                publication.check()
                done = here.stop
        publication.user_block = table({name: first_byte(file[name]) for name in columns})


def _columns(
    reader: StoreReader, order: np.ndarray, dtype: str
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the type and shape of each column of the new file."""
    n = len(order)
    row_shape, lengths_differ = reader.shape()
    columns = {
        "embeddings": (VECTOR_TYPES[dtype], (n, *row_shape)),
        "filenames": (f"|S{reader.longest_name()}", (n,)),
        **{name: (kind, (n, *shape)) for name, (kind, shape) in COLUMNS.items()},
    }
    return {**columns, "lengths": ("<i4", (n,))} if lengths_differ else columns


def _copy_rows(
    file: h5py.File, here: slice, reader: StoreReader, number: int, rows: np.ndarray
) -> None:
    """Copy rows of one source file into the rows `here` of the new one."""
    for column in ("key_hashes", "sizes", "sha256"):
        file[column][here] = reader.select(number, column, rows)
    names = reader.stored_names(number, rows)
    file["filenames"][here] = names.astype(file["filenames"].dtype)
    raw = reader.select(number, "embeddings", rows)
    lengths = reader.lengths(number, rows)
    checksums = reader.select(number, "checksums", rows)
    target = file["embeddings"]
    if raw.dtype != target.dtype:
        is_damaged = reader.damaged(number, rows, raw, lengths)
        checksums, raw = _converted(raw, lengths, is_damaged, target.dtype)
    file["checksums"][here] = checksums
    if "lengths" in file:
        file["lengths"][here] = lengths
    if raw.shape[1:] == target.shape[1:]:
        target[here] = raw
    else:
        padded = np.full((len(raw), *target.shape[1:]), np.nan, dtype=target.dtype)
        padded[:, : raw.shape[1]] = raw
        target[here] = padded


def _converted(
    raw: np.ndarray, lengths: np.ndarray, is_damaged: np.ndarray, dtype: np.dtype[Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Change the precision of rows `(n, ...)`; return their new checksums and the rows.

    Damaged rows get a checksum that does not fit. ValueError for values that are too large.
    """
    with np.errstate(over="ignore"):
        rows = raw.astype(dtype)
    checksums = np.zeros(len(rows), dtype=np.uint32)
    for of_length, kept in of_one_length(rows, lengths):
        good = ~is_damaged[of_length]
        as_stored(kept[good], dtype.name)
        right = row_checksums(kept)
        checksums[of_length] = np.where(good, right, ~right)
    return checksums, rows
