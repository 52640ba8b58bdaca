"""A store's files, opened and consistent with each other: the index of keys and the rows."""

from __future__ import annotations

import errno
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np

from cache.format import (
    BLOCK_BYTES,
    COLUMNS,
    MovedError,
    as_text,
    hash_keys,
    header_at,
    in_blocks,
    load_part,
    parts_folder,
    parts_in,
    row_checksums,
)

# -- reading ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Snapshot:
    """The files a store consists of at one moment."""

    path: Path
    stamp: tuple[int, int, int]  # inode, size, mtime_ns; zeros where not merged yet
    parts: tuple[Path, ...]


def snapshot_of(path: Path) -> Snapshot:
    """Note which files the store at `path` has now."""
    # Parts first: what a merge moves in between is then seen twice, which is harmless.
    parts = tuple(parts_in(parts_folder(path)))
    try:
        stat = path.stat()
    except FileNotFoundError:
        return Snapshot(path, (0, 0, 0), parts)
    return Snapshot(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns), parts)


@dataclass(frozen=True)
class Index:
    """Where each key's row is. Positions count rows over all files, the merged one first."""

    merge_id: str
    parts: tuple[Path, ...]
    starts: np.ndarray  # (n_files + 1,) first position of each file
    sizes: np.ndarray  # (n_positions,)
    mtimes: np.ndarray
    order: np.ndarray  # (n_rows,) positions of the valid rows, sorted by hash
    high: np.ndarray  # (n_rows,) first word of the hash, sorted
    low: np.ndarray

    def find(self, keys: Sequence[str]) -> np.ndarray:
        """Return each key's position, -1 where it is absent."""
        found = np.full(len(keys), -1, dtype=np.int64)
        if not len(keys) or not len(self.high):
            return found
        hashes = hash_keys([key.encode("utf-8", "surrogateescape") for key in keys])
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
    hashes, sizes, mtimes = [], [], []
    merge_id, merged_parts = "", frozenset[str]()
    if snapshot.stamp[0]:
        with h5py.File(snapshot.path, "r", locking=False) as file:
            _check_merged(snapshot.path, file)
            merge_id = str(file.attrs["merge_id"])
            merged_parts = frozenset(json.loads(as_text(file["merged_parts"][()])))
            hashes.append(file["key_hashes"][:])
            sizes.append(file["sizes"][:])
            mtimes.append(file["mtimes"][:])
    else:
        hashes.append(np.zeros((0, 2), "<u8"))
        sizes.append(np.zeros(0, "<i8"))
        mtimes.append(np.zeros(0, "<i8"))
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
        merge_id=merge_id,
        parts=parts,
        starts=np.cumsum([0, *map(len, sizes)]),
        sizes=np.concatenate(sizes),
        mtimes=np.concatenate(mtimes),
        order=order,
        high=high[order],
        low=low[order],
    )


def _check_merged(path: Path, file: h5py.File) -> None:
    """Refuse a store whose columns are not plain, local and of one length."""
    optional = ["lengths"] if file.get("lengths", getlink=True) is not None else []
    n = None
    for name in ("merged_parts", "embeddings", "filenames", *COLUMNS, *optional):
        link = file.get(name, getlink=True)
        dataset = file[name] if isinstance(link, h5py.HardLink) else None
        if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
            raise ValueError(f"{path} has no plain dataset /{name}; it is not an intact store")
        if name == "merged_parts":
            continue
        n = len(dataset) if n is None else n
        if len(dataset) != n:
            raise ValueError(f"{path}: /{name} has {len(dataset)} rows, /embeddings {n}")


class StoreReader:
    """A store's files, open and consistent with each other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.index = index_of(snapshot_of(path))
        self.parts = self.index.parts
        self.file: h5py.File | None = None

    def __enter__(self) -> StoreReader:
        if self.index.merge_id:
            self.file = h5py.File(self.path, "r", locking=False)
            if self.file.attrs["merge_id"] != self.index.merge_id:
                self.file.close()
                raise MovedError
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()

    @property
    def root(self) -> str:
        """The data root the rows were computed from, "" if there are no rows yet."""
        found = header_at(self.path)
        return "" if found is None else found.data_root

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
        if self.file is None:
            raise MovedError
        dataset = self.file[column]
        out = np.empty((len(rows), *dataset.shape[1:]), dtype=dataset.dtype)
        for start, stop in _runs(rows):
            first, last = rows[start], rows[stop - 1] + 1
            block = dataset[first:last]
            whole = last - first == stop - start
            out[start:stop] = block if whole else block[rows[start:stop] - first]
        return out

    def column(self, name: str, at: np.ndarray) -> np.ndarray:
        """Read a content column at positions `at`, in that order."""
        out: np.ndarray | None = None
        for number, where, rows in self.by_file(at):
            values = self.select(number, name, rows)
            if out is None:
                out = np.zeros((len(at), *values.shape[1:]), dtype=values.dtype)
            out[where] = values
        return np.zeros((0, 32), np.uint8) if out is None else out

    def names(self, at: np.ndarray) -> list[str]:
        names: list[str] = [""] * len(at)
        for number, where, rows in self.by_file(at):
            for i, name in zip(where, self.select(number, "filenames", rows), strict=True):
                names[i] = as_text(name)
        return names

    def lengths(self, number: int, rows: np.ndarray) -> np.ndarray:
        """Frames of each row of one file; -1 where rows are vectors."""
        if number == 0 and self.file is not None and "lengths" in self.file:
            return self.select(0, "lengths", rows)
        shape = self._shape(number)
        return np.full(len(rows), shape[0] if len(shape) > 1 else -1)

    def _shape(self, number: int) -> tuple[int, ...]:
        """Shape of one row of one file."""
        if number:
            shape: tuple[int, ...] = load_part(self.parts[number - 1])["embeddings"].shape[1:]
            return shape
        if self.file is None:
            raise MovedError
        return tuple(self.file["embeddings"].shape[1:])

    def shape(self) -> tuple[tuple[int, ...], bool]:
        """Shape that holds any row, and whether rows differ in length; ValueError if none can."""
        shapes = {
            self._shape(number)
            for number in range(len(self.index.starts) - 1)
            if self.index.starts[number] < self.index.starts[number + 1]
        }
        if len(shapes) == 1:
            (shape,) = shapes
            differ = self.file is not None and "lengths" in self.file
            return shape, differ
        tails = {shape[1:] for shape in shapes}
        if len(tails) != 1 or () in tails:
            raise ValueError(
                f"{self.path} holds rows of shapes {sorted(shapes)}, which do not fit one "
                "matrix; clips of one length, or a pooling that does not keep time, would"
            )
        return (max(shape[0] for shape in shapes), *tails.pop()), True

    def rows(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read rows as float32, padded with NaN, checked, and their lengths (-1: vectors)."""
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
        for number, where, rows in pieces:
            width = max(1, int(np.prod(self._shape(number)))) * 4
            for some in in_blocks(range(len(rows)), max(1, BLOCK_BYTES // width)):
                part = slice(some[0], some[-1] + 1)
                raw = self.select(number, "embeddings", rows[part])
                self.check(number, rows[part], raw, lengths[where[part]])
                out[where[part], : raw.shape[1]] = raw[:, :longest]
        return out, lengths

    def find_faults(self, at: np.ndarray, kinds: dict[str, list[str]]) -> None:
        """Add the keys of the faulty rows at positions `at` to `kinds`."""
        names = self.names(at)
        right = hash_keys([name.encode("utf-8", "surrogateescape") for name in names])
        misnamed = (self.column("key_hashes", at) != right).any(axis=1)
        kinds["misnamed"] += [names[i] for i in np.flatnonzero(misnamed)]
        for number, where, rows in self.by_file(at):
            raw = self.select(number, "embeddings", rows)
            checksums = self.select(number, "checksums", rows)
            for of_length, kept in of_one_length(raw, self.lengths(number, rows)):
                flat = kept.reshape(len(kept), -1)
                found = {
                    "damaged": row_checksums(kept) != checksums[of_length],
                    "not_finite": ~np.isfinite(flat).all(axis=1),
                    "zero": ~flat.any(axis=1),
                }
                for kind, wrong in found.items():
                    kinds[kind] += [names[i] for i in where[of_length[wrong]]]

    def check(
        self, number: int, rows: np.ndarray, raw: np.ndarray, lengths: np.ndarray
    ) -> np.ndarray:
        """Compare rows of one file with their checksums, which are returned; OSError if not."""
        right = self.select(number, "checksums", rows)
        for of_length, kept in of_one_length(raw, lengths):
            wrong = np.flatnonzero(row_checksums(kept) != right[of_length])
            if len(wrong):
                row = rows[of_length[wrong[:1]]]
                name = as_text(self.select(number, "filenames", row)[0])
                raise OSError(
                    errno.EIO,
                    f"the vector of {name!r} is damaged (its checksum does not fit); "
                    f"`python -m cache verify {self.path} --repair` removes all of them, "
                    "and the next run computes them again",
                    str(self.path),
                )
        return right


def of_one_length(rows: np.ndarray, lengths: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Split rows by their length: which ones, and those rows without their padding."""
    different = np.unique(lengths)
    for length in different:
        of_length = np.flatnonzero(lengths == length)
        some = rows if len(different) == 1 else rows[of_length]
        yield of_length, some if length < 0 else some[:, :length]


def _runs(rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Group ascending rows into stretches that are cheaper to read whole than apart."""
    if not len(rows):
        return
    cuts = np.flatnonzero(np.diff(rows) > 8) + 1
    bounds = [0, *cuts.tolist(), len(rows)]
    yield from itertools.pairwise(bounds)
