"""The table at the start of a store's file: its header, and at which byte each column begins.

A store is an HDF5 file that begins with a user block, bytes that HDF5 leaves to its users. The
block holds one line, `embedding store 2 <bytes> <CRC-32>`, and as many bytes of JSON. Rows are read
by this table alone: the HDF5 library crashes on some damaged files, so it only writes here. For a
file of format 1, or with a damaged block, a child process makes the table from what HDF5 says.
"""

from __future__ import annotations

import json
import math
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cache.failures import DamagedError, repair_advice
from cache.format import (
    COLUMNS,
    FORMAT,
    VECTOR_TYPES,
    StoreHeader,
    decode_key,
    header_of,
    parse_json,
)
from cache.sandbox import ask

_LINE = re.compile(rb"embedding store (\d{1,6}) {1,12}(\d{1,10}) ([0-9a-f]{8})\n")
_LINE_BYTES = 48
_PATIENCE_S = 20.0
"""A busy computer must not make a store look damaged."""
LARGEST_OFFSET = 10**18
"""Takes as many digits as the first byte of any column."""

Stamp = tuple[int, int, int]
"""Inode, size and mtime_ns of a file; zeros where there is none."""


@dataclass(frozen=True)
class Column:
    """One column of a file: its rows lie in pieces of equal length, the last one may be shorter."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]  # (n_rows, ...)
    offsets: tuple[int, ...]  # first byte of each piece
    piece_rows: int

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def read(self, file: BinaryIO, first: int, last: int) -> np.ndarray:
        """Read the rows from `first` to `last`, which is not included; OSError if some lack."""
        out = np.empty((last - first, *self.shape[1:]), dtype=self.dtype)
        left = memoryview(out.reshape(-1).view(np.uint8).data)
        row = first
        while row < last:
            piece, within = divmod(row, self.piece_rows)
            stop = min(last, (piece + 1) * self.piece_rows)
            file.seek(self.offsets[piece] + within * self.row_bytes)
            end = (stop - row) * self.row_bytes
            here, left = left[:end], left[end:]
            while here:
                n = file.readinto(here)  # type: ignore[attr-defined]
                if not n:
                    raise EOFError("the file ends before its rows do")
                here = here[n:]
            row = stop
        return out


@dataclass(frozen=True)
class Table:
    """What the file of a store holds."""

    header: StoreHeader
    merged: str
    notes: Mapping[str, str]
    merged_parts: frozenset[str]
    columns: Mapping[str, Column]
    problem: str = ""
    """Why the table comes from HDF5's own description; "" for the file's own table."""

    @property
    def n_rows(self) -> int:
        return self.columns["sizes"].shape[0]


def encode_table(
    header: StoreHeader,
    merged: str,
    notes: Mapping[str, str],
    merged_parts: Sequence[str],
    columns: Mapping[str, tuple[str, Sequence[int], int]],
) -> bytes:
    """Write a table as the bytes of a user block; `columns` are type, shape and first byte."""
    facts = {
        "header": asdict(header),
        "merged": merged,
        "notes": dict(notes),
        "merged_parts": list(merged_parts),
        "columns": {name: list(column) for name, column in columns.items()},
    }
    text = json.dumps(facts).encode()
    line = b"embedding store %d %10d %08x\n" % (FORMAT, len(text), zlib.crc32(text, FORMAT))
    return line + text + b"\n"


def block_bytes(table: bytes) -> int:
    """Return the size of the user block for a table; HDF5 takes powers of two from 512."""
    return max(512, 1 << (len(table) - 1).bit_length())


def stamp_of(path: Path | int) -> Stamp:
    """Note which file lies at a path, or is open; FileNotFoundError if there is none."""
    stat = os.stat(path)  # noqa: PTH116 - also takes a descriptor
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def table_at(path: Path) -> Table:
    """Read the table of the store's file at `path`.

    Raises FileNotFoundError, ValueError for a file that is no store of this project or of a later
    version, and DamagedError where the table cannot be had any more.
    """
    return _table(path, stamp_of(path))


@lru_cache(maxsize=16)
def _table(path: Path, stamp: Stamp) -> Table:
    """Read the table of a file, or have a child process describe the file by HDF5."""
    size = stamp[1]
    with path.open("rb") as file:
        line = _LINE.fullmatch(file.read(_LINE_BYTES).partition(b"\n")[0] + b"\n")
        if line is None:
            problem = "its first line is not that of a store"
        else:
            version, length, checksum = int(line[1]), int(line[2]), int(line[3], 16)
            file.seek(len(line[0]))
            text = file.read(length)
            if len(text) == length and zlib.crc32(text, version) == checksum:
                _check_version(path, version)
                try:
                    return _checked(_parsed(text), size)
                except ValueError as error:
                    raise _damaged(path, str(error)) from None
            problem = "the checksum of its table does not fit"
    return _table_by_child(path, size, problem, is_ours=line is not None)


def _check_version(path: Path, version: int) -> None:
    if version > FORMAT:
        raise ValueError(f"{path} has cache format {version}, newer than {FORMAT}; update this")


def _parsed(text: bytes) -> Table:
    """Read the table from its JSON; ValueError for what is not one."""
    facts = parse_json(text)
    try:
        columns = {
            str(name): Column(np.dtype(kind), tuple(shape), (offset,), max(1, shape[0]))
            for name, (kind, shape, offset) in facts["columns"].items()
        }
        return Table(
            header=header_of(facts["header"]),
            merged=str(facts["merged"]),
            notes={str(name): str(note) for name, note in facts["notes"].items()},
            merged_parts=frozenset(map(str, facts["merged_parts"])),
            columns=columns,
        )
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"its table lacks {error}") from None


def _checked(table: Table, size: int) -> Table:
    """Refuse columns that are not as they must be or leave the file, by ValueError."""
    columns = table.columns
    types = {name: (np.dtype(kind), shape) for name, (kind, shape) in COLUMNS.items()}
    types["lengths"] = (np.dtype("<i4"), ())
    vectors = np.dtype(VECTOR_TYPES[table.header.dtype])
    if missing := {*COLUMNS, "embeddings"} - columns.keys():
        raise ValueError(f"it has no column {min(missing)}")
    for name, column in columns.items():
        numbers = (*column.shape, *column.offsets)
        if not column.shape or not all(isinstance(n, int) and 0 <= n <= size for n in numbers):
            raise ValueError(f"its column {name} leaves the file")
        of_row = column.shape[1:]
        if name == "embeddings":
            is_right = column.dtype == vectors and bool(of_row)
        elif name == "filenames":
            is_right = column.dtype.kind == "S" and not of_row
        else:
            is_right = types.get(name) == (column.dtype, of_row)
        if not is_right:
            raise ValueError(f"its column {name} has rows of {of_row} {column.dtype}")
        if column.shape[0] != table.n_rows:
            raise ValueError(f"its columns have {table.n_rows} and {column.shape[0]} rows")
        if (end := _end(column)) > size:
            raise ValueError(f"its column {name} ends at byte {end}, the file at {size}")
    return table


def _end(column: Column) -> int:
    """Return the byte after the last piece; ValueError where there are too few pieces."""
    n_pieces = -(-column.shape[0] // column.piece_rows)
    if len(column.offsets) < n_pieces:
        raise ValueError(f"{n_pieces} pieces of a column, of which {len(column.offsets)} are there")
    rows = min(column.piece_rows, column.shape[0])
    last = (column.shape[0] - 1) % column.piece_rows + 1
    ends = [at + rows * column.row_bytes for at in column.offsets[: n_pieces - 1]]
    ends += [at + last * column.row_bytes for at in column.offsets[n_pieces - 1 : n_pieces]]
    return max(ends, default=0)


def _damaged(path: Path, reason: str) -> DamagedError:
    return DamagedError(
        path,
        f"damaged beyond reading ({reason}); {repair_advice(path)} sets it aside, and the next "
        "run computes its clips again",
    )


# -- what HDF5 says, told by a child ----------------------------------------------------------


def _table_by_child(path: Path, size: int, problem: str, *, is_ours: bool) -> Table:
    """Make the table from HDF5's own description of the file."""
    try:
        facts, columns = _description(path, size)
    except ValueError as error:
        raise _damaged(path, f"{problem}, and {error}") from None
    version = facts.pop("format")
    if not is_ours and not version:
        raise ValueError(
            f"{path} is not a store of this project; import it instead, or delete it if it was one"
        )
    _check_version(path, version)
    try:
        parts = parse_json(facts["merged_parts"])
        table = Table(
            header=header_of(facts["header"]),
            merged=str(facts["merged"]),
            notes=dict(facts["notes"]),
            merged_parts=frozenset(map(str, parts)),
            columns=columns,
            problem=problem if version > 1 else "",
        )
        return _checked(table, size)
    except (ValueError, TypeError) as error:
        raise _damaged(path, str(error)) from None


def _ask(function: str, path: Path, size: int) -> Iterator[tuple[dict[str, Any], bytes]]:
    return ask(f"cache.hdf5:{function}", size, patience=_PATIENCE_S, path=str(path.absolute()))


def _description(path: Path, size: int) -> tuple[dict[str, Any], dict[str, Column]]:
    """Ask a child for the attributes and columns of an HDF5 file; ValueError if it cannot."""
    columns = {}
    facts: dict[str, Any] = {}
    for message, data in _ask("answer_table", path, size):
        if "column" in message:
            columns[str(message["column"])] = Column(
                np.dtype(str(message["dtype"])),
                tuple(int(n) for n in message["shape"]),
                tuple(np.frombuffer(data, dtype="<i8").tolist()),
                max(1, int(message["piece_rows"])),
            )
        else:
            facts = message
    return facts, columns


def hdf5_problem(path: Path) -> str:
    """Say why other programs cannot read a store whose own table is intact; "" if they can."""
    table = table_at(path)
    try:
        facts, columns = _description(path, stamp_of(path)[1])
    except ValueError as error:
        return str(error)
    same = {
        name: (column.dtype, column.shape, column.offsets) for name, column in columns.items()
    } == {name: (c.dtype, c.shape, c.offsets) for name, c in table.columns.items()}
    if not same or facts.get("header") != asdict(table.header):
        return "its HDF5 structure and its table differ"
    return ""


def check_names(path: Path) -> None:
    """Raise DamagedError where the table or the names cannot be read."""
    if "filenames" not in table_at(path).columns:
        names_by_child(path, stamp_of(path))


@lru_cache(maxsize=2)
def names_by_child(path: Path, stamp: Stamp) -> tuple[str, ...]:
    """Read the names of a file of format 1, in which HDF5 alone knows where they lie."""
    names: list[str] = []
    try:
        for _, data in _ask("answer_names", path, stamp[1]):
            names += [decode_key(name) for name in data.split(b"\0")[:-1]]
    except ValueError as error:
        raise _damaged(path, f"its names cannot be read, {error}") from None
    return tuple(names)
