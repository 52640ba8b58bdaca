"""A store's files, opened and consistent with each other: the index of keys and the rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cache.failures import DamagedError, DamagedRowsError, MovedError, repair_advice
from cache.format import (
    CHUNK_BYTES,
    StoreHeader,
    decode_key,
    encode_key,
    hash_keys,
    in_blocks,
    of_one_length,
    other_forms,
    row_checksums,
    same_form,
)
from cache.parts import header_in, load_part, parts_folder, parts_in
from cache.table import Stamp, Table, names_by_child, stamp_of, table_at

WRONG = ("damaged", "not_finite", "misnamed")
FAULTS = (*WRONG, "zero")


@dataclass(frozen=True)
class Snapshot:
    """The files a store consists of at one moment."""

    path: Path
    stamp: Stamp
    parts: tuple[Path, ...]


def snapshot_of(path: Path) -> Snapshot:
    """Note which files the store at `path` has now."""
    # Parts first: what a merge moves in between is then seen twice, which is harmless.
    parts = tuple(parts_in(parts_folder(path)))
    try:
        return Snapshot(path, stamp_of(path), parts)
    except FileNotFoundError:
        return Snapshot(path, (0, 0, 0), parts)


def header_at(path: Path) -> StoreHeader | None:
    """Read what the store at `path` says it is; None if there is none.

    Raises ValueError for a file that is no store, DamagedError for a damaged one.
    """
    try:
        return table_at(path).header
    except (FileNotFoundError, NotADirectoryError):
        return header_in(parts_folder(path))


@dataclass(frozen=True)
class Index:
    """Where each key's row is. Positions count rows over all files, the merged one first."""

    table: Table | None  # None where not merged yet
    parts: tuple[Path, ...]
    starts: np.ndarray  # (n_files + 1,) first position of each file
    sizes: np.ndarray  # (n_positions,)
    mtimes: np.ndarray
    order: np.ndarray  # (n_rows,) positions of the valid rows, sorted by hash
    high: np.ndarray  # (n_rows,) first word of the hash, sorted
    low: np.ndarray

    def find(self, keys: Sequence[str]) -> np.ndarray:
        """Return each key's position, -1 where it is absent; spellings of Unicode count alike."""
        found = self._find_exactly([same_form(key) for key in keys])
        if not len(self.high):
            return found
        spellings = [
            (i, spelling)
            for i in np.flatnonzero(found < 0).tolist()
            for spelling in other_forms(keys[i])
        ]
        positions = self._find_exactly([spelling for _, spelling in spellings])
        for (i, _), position in zip(spellings, positions, strict=True):
            found[i] = max(found[i], position)
        return found

    def _find_exactly(self, keys: Sequence[str]) -> np.ndarray:
        """Return the position of each key as it is written; -1 where it is absent."""
        found = np.full(len(keys), -1, dtype=np.int64)
        if not len(keys) or not len(self.high):
            return found
        hashes = hash_keys(keys)
        asked = np.arange(len(keys))
        at = np.searchsorted(self.high, hashes[:, 0])
        while len(asked):  # more than once only if two keys share the first 64 bits
            inside = at < len(self.high)
            asked, at = asked[inside], at[inside]
            near = self.high[at] == hashes[asked, 0]
            asked, at = asked[near], at[near]
            same = self.low[at] == hashes[asked, 1]
            found[asked[same]] = self.order[at[same]]
            asked, at = asked[~same], at[~same] + 1
        return found


@lru_cache(maxsize=4)
def index_of(snapshot: Snapshot) -> Index:
    """Read the hashed keys of all files of a store, and where the last row of each is."""
    table = None
    hashes, sizes, mtimes = [np.zeros((0, 2), "<u8")], [np.zeros(0, "<i8")], [np.zeros(0, "<i8")]
    if snapshot.stamp[0]:
        table = table_at(snapshot.path)
        with _opened(snapshot) as file:
            hashes = [_read(snapshot.path, table, "key_hashes", file)]
            sizes = [_read(snapshot.path, table, "sizes", file)]
            mtimes = [_read(snapshot.path, table, "mtimes", file)]
    merged_parts = frozenset[str]() if table is None else table.merged_parts
    parts = tuple(part for part in snapshot.parts if part.name not in merged_parts)
    for path in parts:
        part = load_part(path)
        hashes.append(np.array(part["key_hashes"]))
        sizes.append(np.array(part["sizes"]))
        mtimes.append(np.array(part["mtimes"]))
    words = np.concatenate(hashes)
    high, low = np.ascontiguousarray(words[:, 0]), words[:, 1]
    order = np.argsort(high)
    if len(order) and (np.diff(high[order]) == 0).any():
        # Some key has several rows (or two keys share 64 bits): of equal hashes keep the last.
        order = np.lexsort((np.arange(len(high)), low, high))
        last = np.ones(len(order), dtype=bool)
        last[:-1] = (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0)
        order = order[last]
    return Index(
        table=table,
        parts=parts,
        starts=np.cumsum([0, *map(len, sizes)]),
        sizes=np.concatenate(sizes),
        mtimes=np.concatenate(mtimes),
        order=order,
        high=high[order],
        low=low[order],
    )


def _opened(snapshot: Snapshot) -> BinaryIO:
    """Open the merged file of a snapshot; MovedError if another one is in its place by now."""
    try:
        file = snapshot.path.open("rb", buffering=0)
    except FileNotFoundError:
        raise MovedError from None
    if stamp_of(file.fileno()) != snapshot.stamp:
        file.close()
        raise MovedError
    return file


def _read(
    path: Path, table: Table, name: str, file: BinaryIO, first: int = 0, last: int = -1
) -> np.ndarray:
    column = table.columns[name]
    try:
        return column.read(file, first, column.shape[0] if last < 0 else last)
    except EOFError as error:
        raise DamagedError(path, f"damaged ({error}); {repair_advice(path)}") from None


class StoreReader:
    """A store's files, open and consistent with each other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._snapshot = snapshot_of(path)
        self.index = index_of(self._snapshot)
        self.table = self.index.table
        self.parts = self.index.parts
        self._file: BinaryIO | None = None

    def __enter__(self) -> StoreReader:
        if self.table is not None:
            self._file = _opened(self._snapshot)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def by_file(self, at: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Split positions by file: number, where in `at`, row in the file (ascending)."""
        order = np.argsort(at, kind="stable")
        bounds = np.searchsorted(at[order], self.index.starts)
        for number in range(len(self.index.starts) - 1):
            mine = order[bounds[number] : bounds[number + 1]]
            if len(mine):
                yield number, mine, at[mine] - self.index.starts[number]

    def select(self, number: int, column: str, rows: np.ndarray) -> np.ndarray:
        """Read ascending rows of one column of one file."""
        if number:
            selected: np.ndarray = load_part(self.parts[number - 1])[column][rows]
            return selected
        if self._file is None or self.table is None:
            raise MovedError
        layout = self.table.columns[column]
        out = np.empty((len(rows), *layout.shape[1:]), dtype=layout.dtype)
        for start, stop in _runs(rows):
            first, last = int(rows[start]), int(rows[stop - 1]) + 1
            block = _read(self.path, self.table, column, self._file, first, last)
            is_whole = last - first == stop - start
            out[start:stop] = block if is_whole else block[rows[start:stop] - first]
        return out

    def column(self, name: str, at: np.ndarray) -> np.ndarray:
        """Read a column at positions `at` `(n,)`, in that order."""
        out: np.ndarray | None = None
        for number, where, rows in self.by_file(at):
            values = self.select(number, name, rows)
            if out is None:
                out = np.zeros((len(at), *values.shape[1:]), dtype=values.dtype)
            out[where] = values
        return np.zeros((0, 32), np.uint8) if out is None else out

    def stored_names(self, number: int, rows: np.ndarray) -> np.ndarray:
        """Read the names of ascending rows of one file as bytes, `(n,)` of type S."""
        if number == 0 and self._names_of_format_1:
            names = self._names_of_format_1
            return np.array([encode_key(names[row]) for row in rows.tolist()])
        return self.select(number, "filenames", rows)

    @property
    def _names_of_format_1(self) -> tuple[str, ...]:
        """All names of a file whose table does not say where they lie; () for other files."""
        if self.table is None or "filenames" in self.table.columns:
            return ()
        return names_by_child(self.path, self._snapshot.stamp)

    def longest_name(self) -> int:
        """Return how many bytes a name can have."""
        widths = [load_part(part).dtype["filenames"].itemsize for part in self.parts]
        if self.table is not None and "filenames" in self.table.columns:
            widths.append(self.table.columns["filenames"].dtype.itemsize)
        return max([1, *widths, *(len(encode_key(name)) for name in self._names_of_format_1)])

    def names(self, at: np.ndarray) -> list[str]:
        """Read the names at positions `at` `(n,)`, in that order."""
        names: list[str] = [""] * len(at)
        for number, where, rows in self.by_file(at):
            for i, name in zip(where, self.stored_names(number, rows).tolist(), strict=True):
                names[i] = decode_key(name)
        return names

    def lengths(self, number: int, rows: np.ndarray) -> np.ndarray:
        """Frames of each row of one file; -1 where rows are vectors, 0 for an impossible length."""
        shape = self._shape(number)
        if number == 0 and self.table is not None and "lengths" in self.table.columns:
            lengths = self.select(0, "lengths", rows)
            return np.where((lengths < 1) | (lengths > shape[0]), 0, lengths)
        return np.full(len(rows), shape[0] if len(shape) > 1 else -1)

    def _shape(self, number: int) -> tuple[int, ...]:
        """Shape of one row of one file."""
        if number:
            shape: tuple[int, ...] = load_part(self.parts[number - 1])["embeddings"].shape[1:]
            return shape
        if self.table is None:
            raise MovedError
        return self.table.columns["embeddings"].shape[1:]

    def shape(self) -> tuple[tuple[int, ...], bool]:
        """Shape that holds any row, and whether rows differ in length; ValueError if none can."""
        shapes = {
            self._shape(number)
            for number in range(len(self.index.starts) - 1)
            if self.index.starts[number] < self.index.starts[number + 1]
        }
        if not shapes:
            shapes = {self._shape(0)}
        if len(shapes) == 1:
            (shape,) = shapes
            return shape, self.table is not None and "lengths" in self.table.columns
        tails = {shape[1:] for shape in shapes}
        if len(tails) != 1 or () in tails:
            raise ValueError(
                f"{self.path} holds rows of shapes {sorted(shapes)}, which do not fit one "
                "matrix; clips of one length, or a pooling that does not keep time, would"
            )
        return (max(shape[0] for shape in shapes), *tails.pop()), True

    def rows(self, keys: Sequence[str], at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read the rows of `keys` at positions `at` as float32, and their lengths (-1: vectors).

        Frames are padded with NaN. Raises DamagedRowsError with all keys whose rows do not fit
        their checksums, ValueError where shapes do not fit one matrix.
        """
        lengths = np.full(len(at), -1)
        pieces = list(self.by_file(at))
        shapes = {self._shape(number) for number, _, _ in pieces}
        longest = max((shape[0] for shape in shapes), default=0)
        tail = next(iter(shapes))[1:] if shapes else ()
        if any(shape[1:] != tail for shape in shapes) or (not tail and len(shapes) > 1):
            self.shape()  # raises, and says what does not fit
        for number, where, rows in pieces:
            lengths[where] = self.lengths(number, rows)
        if tail:
            longest = int(lengths.max(initial=0))
        out = np.full((len(at), longest, *tail), np.nan, dtype=np.float32)
        is_damaged = np.zeros(len(at), dtype=bool)
        for number, where, rows in pieces:
            width = max(1, int(np.prod(self._shape(number)))) * 4
            for block in in_blocks(range(len(rows)), max(1, CHUNK_BYTES // width)):
                part = slice(block[0], block[-1] + 1)
                raw = self.select(number, "embeddings", rows[part])
                is_damaged[where[part]] = self.damaged(
                    number, rows[part], raw, lengths[where[part]]
                )
                out[where[part], : raw.shape[1]] = raw[:, :longest]
        if is_damaged.any():
            raise DamagedRowsError(
                self.path, [keys[i] for i in np.flatnonzero(is_damaged).tolist()]
            )
        return out, lengths

    def find_faults(self, at: np.ndarray) -> dict[str, np.ndarray]:
        """Return which of the positions `at` `(n,)` are faulty, by kind of fault."""
        names = self.names(at)
        hashes = self.column("key_hashes", at)
        right = hash_keys([same_form(name) for name in names])
        as_spelled = hash_keys(names)  # by stores of format 1
        found = {kind: np.zeros(len(at), dtype=bool) for kind in FAULTS}
        found["misnamed"] = (hashes != right).any(axis=1) & (hashes != as_spelled).any(axis=1)
        for number, where, rows in self.by_file(at):
            raw, lengths = self.select(number, "embeddings", rows), self.lengths(number, rows)
            found["damaged"][where] = self.damaged(number, rows, raw, lengths)
            for of_length, kept in of_one_length(raw, lengths):
                flat = kept.reshape(len(kept), -1)
                found["not_finite"][where[of_length]] = ~np.isfinite(flat).all(axis=1)
                found["zero"][where[of_length]] = ~flat.any(axis=1)
        return {kind: at[is_faulty] for kind, is_faulty in found.items()}

    def damaged(
        self, number: int, rows: np.ndarray, raw: np.ndarray, lengths: np.ndarray
    ) -> np.ndarray:
        """Tell which of the rows `(n, ...)` of one file do not fit their checksums."""
        checksums = self.select(number, "checksums", rows)
        is_damaged = np.zeros(len(rows), dtype=bool)
        for of_length, kept in of_one_length(raw, lengths):
            is_damaged[of_length] = row_checksums(kept) != checksums[of_length]
        return is_damaged


def _runs(rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Group ascending rows into stretches that are cheaper to read whole than apart."""
    if not len(rows):
        return
    cuts = np.flatnonzero(np.diff(rows) > 8) + 1
    bounds = [0, *cuts.tolist(), len(rows)]
    yield from itertools.pairwise(bounds)
