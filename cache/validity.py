"""Which rows of a store are valid for the files as they are, and which can be taken over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cache.failures import DamagedRowsError
from cache.format import UNKNOWN, Provenance, in_blocks, of_one_length, storable_mtime
from cache.reader import StoreReader

_ROWS_AT_ONCE = 256

FileStats = Mapping[str, tuple[int, int]]
"""Key -> size in bytes and modification time in ns of the file as it is now."""
HashOf = Callable[[str], str]
"""Key -> sha256 of the file as it is now; OSError if it cannot be read."""


@dataclass(frozen=True)
class Judgement:
    """Which keys have a row, and which of these rows are valid."""

    positions: np.ndarray  # (n_keys,), -1 where there is no row
    is_valid: np.ndarray  # (n_keys,)
    mtimes: np.ndarray  # (n_keys,) of the files, UNKNOWN after 2262

    @property
    def is_present(self) -> np.ndarray:
        return self.positions >= 0


def judge(reader: StoreReader, file_stats: FileStats, hash_of: HashOf, *, home: bool) -> Judgement:
    """Compare the rows of a store with the files.

    At `home`, in the folder that the rows were computed from, size and time suffice; a file is
    hashed where the time differs or, elsewhere, always.
    """
    keys = list(file_stats)
    positions = reader.index.find(keys)
    sizes, mtimes = _columns_of(file_stats)
    here = np.flatnonzero(positions >= 0)
    rows = positions[here]
    has_size = np.zeros(len(keys), dtype=bool)
    has_size[here] = reader.index.sizes[rows] == sizes[here]
    is_valid = np.zeros(len(keys), dtype=bool)
    if home:
        has_time = (reader.index.mtimes[rows] == mtimes[here]) & (mtimes[here] != UNKNOWN)
        is_valid[here] = has_size[here] & has_time
    doubtful = np.flatnonzero(has_size & ~is_valid)
    hashes = reader.column("sha256", positions[doubtful])
    for i, sha256 in zip(doubtful, hashes, strict=True):
        is_valid[i] = _hash_or_nothing(hash_of, keys[i]) == sha256.tobytes().hex()
    return Judgement(positions, is_valid, mtimes)


def rows_to_adopt(
    donor: StoreReader, keys: Sequence[str], file_stats: FileStats, hash_of: HashOf
) -> Iterator[tuple[list[str], np.ndarray, list[Provenance]]]:
    """Yield rows of another store whose key and hash agree with the files, a block at a time."""
    positions = donor.index.find(keys)
    candidates = [
        (key, int(position))
        for key, position in zip(keys, positions, strict=True)
        if position >= 0 and donor.index.sizes[position] == file_stats[key][0]
    ]
    hashes = donor.column("sha256", np.array([at for _, at in candidates], dtype=int))
    same = [
        (key, at, Provenance(*file_stats[key], sha256.tobytes().hex()))
        for (key, at), sha256 in zip(candidates, hashes, strict=True)
        if _hash_or_nothing(hash_of, key) == sha256.tobytes().hex()
    ]
    for block in in_blocks(same, _ROWS_AT_ONCE):
        intact, rows, lengths = _intact(donor, block)
        for of_length, kept in of_one_length(rows, lengths):
            chosen = [intact[i] for i in of_length]
            yield [key for key, _, _ in chosen], kept, [facts for _, _, facts in chosen]


def _intact(
    donor: StoreReader, block: Sequence[tuple[str, int, Provenance]]
) -> tuple[Sequence[tuple[str, int, Provenance]], np.ndarray, np.ndarray]:
    """Read rows of another store; its damaged ones are left out."""
    try:
        keys = [key for key, _, _ in block]
        return block, *donor.rows(keys, np.array([at for _, at, _ in block], dtype=int))
    except DamagedRowsError as error:
        damaged = frozenset(error.keys)
        return _intact(donor, [row for row in block if row[0] not in damaged])


def _columns_of(file_stats: FileStats) -> tuple[np.ndarray, np.ndarray]:
    """Return sizes and modification times as arrays `(n,)`."""
    stats = list(file_stats.values())
    try:
        both = np.array(stats, dtype=np.int64)
    except OverflowError:
        both = np.array([(size, storable_mtime(mtime)) for size, mtime in stats], dtype=np.int64)
    both = both.reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _hash_or_nothing(hash_of: HashOf, key: str) -> str:
    """Hash a file; one that cannot be read is embedded again, which then says what is wrong."""
    try:
        return hash_of(key)
    except OSError:
        return ""
