"""One HDF5 file of vectors per data set, encoder, pooling and fingerprint.

`append` writes a part, one complete `.npy` file in a folder beside the store, and returns when it
is on disk under its name; `merge` rewrites store and parts into one file and puts it in place by
rename. A crash therefore costs at most the rows that were never acknowledged. Unmerged parts
count as present. Of several rows for one key the last appended is the row.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from cache.failures import MovedError, explaining
from cache.format import UNKNOWN, VECTOR_TYPES, Provenance, StoreHeader, T, in_blocks
from cache.locking import locked
from cache.parts import part_bytes, parts_folder, parts_in, write_part
from cache.reader import FAULTS, WRONG, StoreReader, header_at, index_of, snapshot_of
from cache.table import hdf5_problem, table_at
from cache.validity import FileStats, HashOf, judge, rows_to_adopt
from ground.files import remove_stale

ROW_OVERHEAD = 200
"""Bytes of a row besides its vector: name, hashes, size, time."""
_LONGEST_NAME = 100
"""Bytes of one part of a store's file name."""
_NOTHING = np.zeros(0, dtype=np.int64)

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class About:
    """The size and state of a store."""

    clips: int
    row_shape: tuple[int, ...]
    bytes: int
    unmerged_parts: int
    merged: str
    notes: dict[str, str]


@dataclass(frozen=True)
class EmbeddingStore:
    """Vectors of one data set under one fingerprint. Holds paths only, so it pickles.

    `EmbeddingStore.at("x.h5").read(keys)` reads one that is there; `open` finds the store for
    vectors that are to be computed.
    """

    path: Path
    header: StoreHeader
    donors: tuple[Path, ...] = ()
    """Stores of the same encoder, pooling and fingerprint under another data set's name."""

    @classmethod
    def open(
        cls,
        directory: str | Path,
        *,
        data_name: str,
        data_root: str | Path,
        encoder: str,
        pooling: str,
        fingerprint: str,
        configuration: Mapping[str, Any],
        source: str = "computed",
        warning: str = "",
        dtype: str = "float32",
    ) -> EmbeddingStore:
        """Find the store of these vectors, or say where it will be; nothing is written yet.

        `dtype` (float32 or float16) is for a new store; an existing one keeps its own. Raises
        ValueError where the file holds other vectors, OSError where it is damaged.
        """
        if dtype not in VECTOR_TYPES:
            raise ValueError(f"vectors are kept as float32 or float16, not {dtype!r}")
        if not re.fullmatch(r"[0-9a-f]{12,}", fingerprint):
            raise ValueError(
                f"a fingerprint is at least 12 hexadecimal digits, not {fingerprint!r}"
            )
        name = file_name_of(data_name, encoder, pooling, fingerprint)
        tail = name.removeprefix(f"{_file_name(data_name)}-")
        path = Path(directory).absolute() / name
        header = StoreHeader(
            encoder=encoder,
            pooling=pooling,
            fingerprint=fingerprint,
            configuration=json.dumps(configuration, sort_keys=True),
            data_name=data_name,
            data_root=str(Path(data_root).absolute()),
            source=source,
            warning=warning,
            dtype=dtype,
        )
        found = header_at(path)
        if found is not None:
            _check_same_vectors(path, found, header)
            header = replace(header, dtype=found.dtype)
        donors = [
            other
            for other in stores_in(path.parent)
            if other != path and other.name.endswith("-" + tail) and _has_vectors(other, header)
        ]
        return cls(path, header, tuple(donors))

    @classmethod
    def at(cls, path: str | Path) -> EmbeddingStore:
        """Open an existing store by its file, as it is; FileNotFoundError if there is none."""
        path = Path(path).absolute()
        header = header_at(path)
        if header is None:
            raise FileNotFoundError(errno.ENOENT, "no embedding store here", str(path))
        return cls(path, header)

    @property
    def parts_folder(self) -> Path:
        return parts_folder(self.path)

    @property
    def exists(self) -> bool:
        return self.path.exists() or bool(parts_in(self.parts_folder))

    def __len__(self) -> int:
        return self._reading(lambda reader: len(reader.index.order))

    # -- what is there ------------------------------------------------------------------------

    def missing(self, file_stats: FileStats, hash_of: HashOf) -> list[str]:
        """List the keys that have no valid row for `file_stats`, key -> (size, mtime_ns).

        `hash_of(key)` is called only where size and time leave a doubt. Rows of a store under
        another data set's name are taken over where key and hash agree, which appends to this
        store. Raises ValueError if this store was computed from another folder and a clip of
        the same key has other content there.
        """
        return self._retrying(lambda: self._missing(file_stats, hash_of))

    def _missing(self, file_stats: FileStats, hash_of: HashOf) -> list[str]:
        """Find the keys without a valid row, after taking over what other stores have."""
        keys = list(file_stats)
        stored = header_at(self.path)
        root = self.header.data_root if stored is None else stored.data_root
        is_home = root == self.header.data_root
        with StoreReader(self.path) as reader:
            judged = judge(reader, file_stats, hash_of, home=is_home)
        is_present = judged.is_present
        changed = np.flatnonzero(is_present & ~judged.is_valid)
        if len(changed) and not is_home:
            raise ValueError(
                f"{self.path} holds vectors of {root}, and {len(changed)} of {len(keys)} clips "
                f"under {self.header.data_root} have other content, first {keys[changed[0]]!r}; "
                "give this data its own --cache-dir"
            )
        if not is_home and is_present.any() and not Path(root).is_dir():
            self._move_home(judged.positions[is_present], judged.mtimes[is_present])
        absent = [keys[i] for i in np.flatnonzero(~judged.is_valid)]
        adopted = self._adopt([keys[i] for i in np.flatnonzero(~is_present)], file_stats, hash_of)
        return [key for key in absent if key not in adopted]

    def _move_home(self, positions: np.ndarray, mtimes: np.ndarray) -> None:
        """Take this data root for the store's, since the old one is gone and all hashes agree.

        Otherwise every later run would hash every file again.
        """
        with suppress(OSError), self.lock():  # a cache that cannot be written is still read
            self._remove_merged_parts()
            times = dict(zip(positions.tolist(), mtimes.tolist(), strict=True))
            self._remove_parts(self._rewrite(data_root=self.header.data_root, mtimes=times))

    def _adopt(self, keys: Sequence[str], file_stats: FileStats, hash_of: HashOf) -> set[str]:
        """Copy the donors' rows whose key and hash agree; return their keys."""
        adopted: set[str] = set()
        for donor in self.donors if keys else ():
            wanted = [key for key in keys if key not in adopted]
            with StoreReader(donor) as reader:
                for names, rows, provenance in rows_to_adopt(reader, wanted, file_stats, hash_of):
                    self.append(names, rows, provenance)
                    adopted.update(names)
        return adopted

    def read(self, keys: Sequence[str]) -> np.ndarray:
        """Return the rows of `keys`, float32 `(n, ...)`, in that order.

        Frames of clips that differ in length are padded with NaN at the end. Raises KeyError for
        a key that is not there, DamagedRowsError for rows whose checksum does not fit; `keys` of
        the error are all of them, so that a caller can go on without.
        """
        return self.read_with_lengths(keys)[0]

    def read_with_lengths(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Read rows, and how many frames of each are real; -1 where rows are vectors."""
        keys = list(keys)

        def read(reader: StoreReader) -> tuple[np.ndarray, np.ndarray]:
            at = reader.index.find(keys)
            absent = np.flatnonzero(at < 0)
            if len(absent):
                raise KeyError(
                    f"{len(absent)} of {len(keys)} clips are not in {self.path}, "
                    f"first {keys[absent[0]]!r}; embed them before reading"
                )
            return reader.rows(keys, at)

        return self._reading(read)

    def keys(self) -> list[str]:
        """List every key, in the order of the rows."""
        return self._reading(lambda reader: reader.names(np.sort(reader.index.order)))

    def provenance(self) -> dict[str, Provenance]:
        """Return what each row was computed from, by key, in the order of the rows."""

        def read(reader: StoreReader) -> dict[str, Provenance]:
            at = np.sort(reader.index.order)
            sizes, mtimes = reader.index.sizes[at].tolist(), reader.index.mtimes[at].tolist()
            digests = [digest.tobytes().hex() for digest in reader.column("sha256", at)]
            rows = map(Provenance, sizes, mtimes, digests)
            return dict(zip(reader.names(at), rows, strict=True))

        return self._reading(read)

    def about(self) -> About:
        """Describe the files as they are."""

        def read(reader: StoreReader) -> About:
            files = [*reader.parts, *([self.path] if self.path.exists() else [])]
            return About(
                clips=len(reader.index.order),
                row_shape=reader.shape()[0] if len(reader.index.order) else (),
                bytes=sum(file.stat().st_size for file in files),
                unmerged_parts=len(reader.parts),
                merged="" if reader.table is None else reader.table.merged,
                notes={} if reader.table is None else dict(reader.table.notes),
            )

        return self._reading(read)

    def notes(self) -> dict[str, str]:
        """Return the notes that merges left."""
        try:
            return dict(table_at(self.path).notes)
        except FileNotFoundError:
            return {}

    def faults(self) -> dict[str, list[str]]:
        """Check every row: keys by what is wrong with them.

        `damaged` rows do not fit their checksum, `misnamed` ones not the hash of their name;
        `zero` rows are suspicious, not wrong.
        """
        return self._reading(
            lambda reader: {kind: reader.names(at) for kind, at in _faulty(reader).items()}
        )

    # -- writing ------------------------------------------------------------------------------

    def check_space(self, n_rows: int, row_shape: Sequence[int]) -> int:
        """Estimate the bytes that `n_rows` more need until they are merged; OSError if too many.

        Until a merge is done, its parts, the old file and the new one lie beside each other.
        """
        row = int(np.prod(row_shape)) * np.dtype(self.header.dtype).itemsize + ROW_OVERHEAD
        kept = self.path.stat().st_size if self.path.exists() else 0
        needed = 2 * n_rows * row + kept
        folder = next(p for p in (self.path.parent, *self.path.parents) if p.is_dir())
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise OSError(
                errno.ENOSPC,
                f"{n_rows:,} more vectors of {' x '.join(map(str, row_shape))} need "
                f"{needed / 1e9:.3g} GB while they are merged, and {free / 1e9:.3g} GB are free; "
                "free some space, or use another --cache-dir",
                str(self.path),
            )
        return needed

    def append(
        self,
        keys: Sequence[str],
        embeddings: np.ndarray,
        provenance: Sequence[tuple[int, int, str]],
    ) -> None:
        """Keep `embeddings` `(n, ...)` for good: on return they survive a crash.

        `provenance` has size, modification time and sha256 of each file. Raises ValueError for
        rows that are not finite, and OSError where the disk is full or read-only; nothing that
        was kept before is touched.
        """
        if not len(keys):
            return
        part = part_bytes(self.header.dtype, keys, embeddings, provenance)
        with explaining(self.path, f"{len(keys)} vectors were not kept"):
            write_part(self.parts_folder, self.header, part)

    def merge(self, notes: Mapping[str, str] | None = None) -> None:
        """Rewrite the store and its parts as one file, put in place by rename.

        `notes` are kept in the file. Without parts nothing is written, and no lock is needed.
        """
        if not self.parts_folder.exists():
            return
        with self.lock(), explaining(self.path, "merging stopped; its parts stay"):
            remove_stale(self.parts_folder)
            remove_stale(self.path.parent, self.path.name)
            self._remove_merged_parts()
            parts = parts_in(self.parts_folder)
            self._remove_parts(self._rewrite(notes=notes or {}) if parts else [])

    def drop(self, keys: Sequence[str]) -> None:
        """Remove the rows of `keys`; the rest is rewritten and put in place by rename."""
        with self._changing("nothing was removed"):
            with StoreReader(self.path) as reader:
                at = reader.index.find(keys)
            self._remove_parts(self._rewrite(dropped=at[at >= 0]))

    def repair(self) -> list[str]:
        """Remove the rows that `faults` calls wrong; return their keys, to be computed again.

        A file whose table or HDF5 structure is damaged is rewritten.
        """
        with self._changing("nothing was repaired"):
            with StoreReader(self.path) as reader:
                faulty = _faulty(reader)
                wrong = np.unique(np.concatenate([faulty[kind] for kind in WRONG]))
                names = sorted(set(reader.names(wrong)))
            if len(wrong) or self.structure_problem():
                self._remove_parts(self._rewrite(dropped=wrong))
            return names

    def structure_problem(self) -> str:
        """Say what is damaged in the merged file besides rows; "" if nothing is."""
        if not self.path.exists():
            return ""
        return table_at(self.path).problem or hdf5_problem(self.path)

    def convert(self, dtype: str) -> None:
        """Rewrite the store as float32 or float16; float16 keeps about three digits."""
        with self._changing("the store is as it was"):
            self._remove_parts(self._rewrite(dtype=dtype))

    @contextmanager
    def _changing(self, outcome: str) -> Iterator[None]:
        """Hold the lock, know no merged part any more, and explain a failure by `outcome`."""
        with self.lock(), explaining(self.path, outcome):
            self._remove_merged_parts()
            yield

    def _rewrite(
        self,
        dropped: np.ndarray = _NOTHING,
        dtype: str = "",
        data_root: str = "",
        notes: Mapping[str, str] = MappingProxyType({}),
        mtimes: Mapping[int, int] = MappingProxyType({}),
    ) -> list[Path]:
        """Write all rows but the positions `dropped` into a new file; return its merged parts.

        `mtimes` are new modification times, by position; those of other rows are then unknown.
        """
        from cache.merging import write_merged

        with StoreReader(self.path) as reader:
            order = np.setdiff1d(reader.index.order, dropped)
            header = header_at(self.path) or self.header
            header = replace(
                header,
                dtype=dtype or header.dtype,
                data_root=data_root or header.data_root,
            )
            times = reader.index.mtimes[order]
            if mtimes:
                times = np.array([mtimes.get(position, UNKNOWN) for position in order.tolist()])
            write_merged(self.path, header, reader, order, times, {**self.notes(), **notes})
            return list(reader.parts)

    def _remove_merged_parts(self) -> None:
        """Remove what a merge that was killed left: the next file will not know these parts."""
        snapshot = snapshot_of(self.path)
        current = index_of(snapshot).parts
        self._remove_parts([part for part in snapshot.parts if part not in current])

    def _remove_parts(self, parts: Sequence[Path]) -> None:
        for part in parts:
            part.unlink(missing_ok=True)
        folder = self.parts_folder
        if folder.is_dir() and not parts_in(folder) and self.path.exists():
            (folder / "store.json").unlink(missing_ok=True)
            with suppress(OSError):  # a temporary file of another writer is still there
                folder.rmdir()

    def lock(
        self, timeout: float = -1.0, tell: Tell | None = None, *, reading: bool = False
    ) -> AbstractContextManager[bool]:
        """Be the only run that writes this store; hold it around missing, append and merge.

        While another run holds it, `tell` hears once who that is, and after `timeout` seconds
        (negative: never) TimeoutError says so. Within one process it can be taken again. Where
        the folder cannot be written this is an OSError; with `reading`, for a caller that
        perhaps only reads, the body runs without a lock. Yields whether the lock is held.
        """
        return locked(self.path, timeout, tell, reading=reading)

    def _reading(self, action: Callable[[StoreReader], T]) -> T:
        """Open the files and call `action`; again where a merge has moved them meanwhile."""

        def read() -> T:
            with StoreReader(self.path) as reader:
                return action(reader)

        return self._retrying(read)

    def _retrying(self, action: Callable[[], T]) -> T:
        for _ in range(20):
            try:
                return action()
            except (MovedError, FileNotFoundError):
                time.sleep(0.05)
        return action()


def _faulty(reader: StoreReader) -> dict[str, np.ndarray]:
    """Return the positions of faulty rows, by kind of fault."""
    found: dict[str, list[np.ndarray]] = {kind: [_NOTHING] for kind in FAULTS}
    for block in in_blocks(np.sort(reader.index.order).tolist(), 2048):
        for kind, at in reader.find_faults(np.array(block)).items():
            found[kind].append(at)
    return {kind: np.concatenate(pieces) for kind, pieces in found.items()}


# -- the files of stores --------------------------------------------------------------------------


def file_name_of(data_name: str, encoder: str, pooling: str, fingerprint: str) -> str:
    """Name the file of a store."""
    return "-".join([*map(_file_name, (data_name, encoder, pooling)), fingerprint[:12]]) + ".h5"


def _file_name(name: str) -> str:
    """Make one part of a store's file name; a long one ends in a hash of the whole."""
    plain = re.sub(r"[^\w.+=-]", "_", unicodedata.normalize("NFC", name)).lstrip(".") or "_"
    if len(plain.encode()) <= _LONGEST_NAME:
        return plain
    digest = hashlib.sha256(plain.encode()).hexdigest()[:12]
    return f"{plain.encode()[:_LONGEST_NAME].decode('utf-8', 'ignore')}+{digest}"


def stores_in(directory: Path) -> list[Path]:
    """List the stores of a cache folder, merged or not, by their (future) file."""
    if not directory.is_dir():
        return []
    merged = set(directory.glob("[!.]*.h5"))
    folders = [p for p in directory.glob("[!.]*.parts") if is_store(p.with_suffix(".h5"))]
    return sorted(merged | {p.with_suffix(".h5") for p in folders})


def is_store(path: Path) -> bool:
    """Tell whether there is a store at `path`, merged or not; a killed start leaves none."""
    folder = parts_folder(path)
    return path.exists() or (folder / "store.json").exists() or bool(parts_in(folder))


def _has_vectors(path: Path, header: StoreHeader) -> bool:
    """Tell whether another store has such vectors; a damaged one counts as none."""
    try:
        found = header_at(path)
    except (OSError, ValueError):
        return False
    return found is not None and (
        (found.encoder, found.pooling, found.fingerprint, found.source)
        == (header.encoder, header.pooling, header.fingerprint, header.source)
    )


def _check_same_vectors(path: Path, found: StoreHeader, wanted: StoreHeader) -> None:
    """Raise ValueError where a store holds other vectors than those that are wanted."""
    for what in ("fingerprint", "encoder", "pooling", "source"):
        have, want = getattr(found, what), getattr(wanted, what)
        if have != want:
            raise ValueError(
                f"{path} holds vectors of {what} {have}, not {want}; use another --cache-dir"
            )
