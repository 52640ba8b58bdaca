"""One HDF5 file of vectors per data set, encoder, pooling and fingerprint.

`append` writes a part, one complete `.npy` file in a folder beside the store, and returns when it
is on disk under its name; `merge` rewrites store and parts into one file and puts it in place by
rename. A crash therefore costs at most the rows that were never acknowledged. Unmerged parts
count as present. Of several rows for one key the last appended is the row.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import filelock
import h5py
import numpy as np

from cache.format import (
    UNKNOWN,
    Content,
    MovedError,
    StoreHeader,
    T,
    explained,
    header_at,
    in_blocks,
    next_number,
    part_bytes,
    parts_folder,
    parts_in,
    utc_now,
)
from cache.hdf5 import publish_bytes
from cache.merging import write_merged
from cache.reader import StoreReader, index_of, of_one_length, snapshot_of

ROW_OVERHEAD = 200
"""Bytes of a row besides its vector: name, hashes, size, time."""


STALE_S = 3600.0
"""A temporary file this old belongs to nobody any more."""


WRONG = ("damaged", "not_finite", "misnamed")


FAULTS = (*WRONG, "zero")


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
    """Vectors of one data set under one fingerprint. Holds paths only, so it pickles."""

    path: Path
    identity: StoreHeader
    donors: tuple[Path, ...] = ()
    """Stores of the same encoder, pooling and fingerprint under another data set's name."""

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        data_name: str,
        data_root: Path,
        encoder: str,
        pooling: str,
        fingerprint: str,
        configuration: Mapping[str, Any],
        source: str = "computed",
        warning: str = "",
        dtype: str = "float32",
    ) -> EmbeddingStore:
        """Find the store of these vectors, or say where it will be; nothing is written yet.

        `dtype` (float32 or float16) is for a new store; an existing one keeps its own.
        """
        if dtype not in ("float32", "float16"):
            raise ValueError(f"vectors are kept as float32 or float16, not {dtype!r}")
        if not re.fullmatch(r"[0-9a-f]{12,}", fingerprint):
            raise ValueError(
                f"a fingerprint is at least 12 hexadecimal digits, not {fingerprint!r}"
            )
        tail = "-".join([_plain(encoder), _plain(pooling), fingerprint[:12]]) + ".h5"
        path = directory.absolute() / f"{_plain(data_name)}-{tail}"
        asked = StoreHeader(
            encoder=encoder,
            pooling=pooling,
            fingerprint=fingerprint,
            configuration=json.dumps(configuration, sort_keys=True),
            data_name=data_name,
            data_root=str(data_root.absolute()),
            source=source,
            warning=warning,
            dtype=dtype,
        )
        found = header_at(path)
        if found is not None:
            _refuse_others(path, found, asked)
            asked = replace(asked, dtype=found.dtype)
        donors = [
            other
            for other in stores_in(path.parent)
            if other != path
            and other.name.endswith("-" + tail)
            and _same_vectors(header_at(other), asked)
        ]
        return cls(path, asked, tuple(donors))

    @classmethod
    def at(cls, path: Path) -> EmbeddingStore:
        """Open an existing store by its file, as it is; FileNotFoundError if there is none."""
        path = path.absolute()
        identity = header_at(path)
        if identity is None:
            raise FileNotFoundError(errno.ENOENT, "no embedding store here", str(path))
        return cls(path, identity)

    @property
    def parts_folder(self) -> Path:
        return parts_folder(self.path)

    @property
    def exists(self) -> bool:
        return self.path.exists() or bool(parts_in(self.parts_folder))

    def __len__(self) -> int:
        return self._retrying(lambda: len(index_of(snapshot_of(self.path)).order))

    # -- what is there ------------------------------------------------------------------------

    def missing(
        self, contents: Mapping[str, tuple[int, int]], sha256_of: Callable[[str], str]
    ) -> list[str]:
        """List the keys that have no valid row for `contents`, key -> (size, mtime_ns).

        `sha256_of(key)` is called only where size and time leave a doubt. Rows of a store under
        another data set's name are taken over where key and hash agree, which appends to this
        store. Raises ValueError if this store was computed from another folder and a clip of
        the same key has other content there.
        """
        return self._retrying(lambda: self._missing(contents, sha256_of))

    def _missing(
        self, contents: Mapping[str, tuple[int, int]], sha256_of: Callable[[str], str]
    ) -> list[str]:
        keys = list(contents)
        with StoreReader(self.path) as reader:
            at = reader.index.find(keys)
            home = reader.root in ("", self.identity.data_root)
            current = np.array(list(contents.values()), dtype=np.int64).reshape(-1, 2)
            present = at >= 0
            here, rows = np.flatnonzero(present), at[present]
            same_size = np.zeros(len(keys), dtype=bool)
            same_size[here] = reader.index.sizes[rows] == current[here, 0]
            valid = np.zeros(len(keys), dtype=bool)
            if home:
                valid[here] = same_size[here] & (reader.index.mtimes[rows] == current[here, 1])
            doubtful = np.flatnonzero(same_size & ~valid)
            known = reader.column("sha256", at[doubtful])
            for i, sha256 in zip(doubtful, known, strict=True):
                valid[i] = _hash_or_nothing(sha256_of, keys[i]) == sha256.tobytes().hex()
            changed = np.flatnonzero(present & ~valid)
            if len(changed) and not home:
                raise ValueError(
                    f"{self.path} holds vectors of {reader.root}, and {len(changed)} of "
                    f"{len(keys)} clips under {self.identity.data_root} have other content, "
                    f"first {keys[changed[0]]!r}; give this data its own --cache-dir"
                )
            if not home and present.any() and not Path(reader.root).is_dir():
                self._move_home(at[present], current[present, 1])
        absent = [keys[i] for i in np.flatnonzero(~valid)]
        adopted = self._adopt([keys[i] for i in np.flatnonzero(~present)], contents, sha256_of)
        return [key for key in absent if key not in adopted]

    def _move_home(self, at: np.ndarray, mtimes: np.ndarray) -> None:
        """Take this data root for the store's, since the old one is gone and all hashes agree.

        Otherwise every later run would hash every file again.
        """
        with suppress(OSError), self.lock():  # a cache that cannot be written is still read
            self._remove_merged_parts()
            times = dict(zip(at.tolist(), mtimes.tolist(), strict=True))
            self._remove_parts(self._rewrite(data_root=self.identity.data_root, mtimes=times))

    def _adopt(
        self,
        keys: Sequence[str],
        contents: Mapping[str, tuple[int, int]],
        sha256_of: Callable[[str], str],
    ) -> set[str]:
        """Copy the donors' rows whose key and hash agree; return their keys."""
        adopted: set[str] = set()
        for donor in map(EmbeddingStore.at, self.donors if keys else ()):
            with StoreReader(donor.path) as reader:
                wanted = [key for key in keys if key not in adopted]
                at = reader.index.find(wanted)
                candidates = [
                    (key, int(p))
                    for key, p in zip(wanted, at, strict=True)
                    if p >= 0 and reader.index.sizes[p] == contents[key][0]
                ]
                known = reader.column("sha256", np.array([p for _, p in candidates], dtype=int))
                same = []
                for (key, p), sha256 in zip(candidates, known, strict=True):
                    digest = sha256.tobytes().hex()
                    if _hash_or_nothing(sha256_of, key) == digest:
                        same.append((key, p, (*contents[key], digest)))
                for some in in_blocks(same, 256):
                    keys_here = [key for key, _, _ in some]
                    rows, lengths = reader.rows(np.array([p for _, p, _ in some]))
                    for of_length, kept in of_one_length(rows, lengths):
                        self.append(
                            [keys_here[i] for i in of_length],
                            kept,
                            [some[int(i)][2] for i in of_length],
                        )
                    adopted.update(keys_here)
        return adopted

    def read(self, keys: Sequence[str]) -> np.ndarray:
        """Return the rows of `keys`, float32 `(n, ...)`, in that order.

        Frames of clips that differ in length are padded with NaN at the end. Raises KeyError
        for a key that is not there, OSError for a row whose checksum does not fit.
        """
        return self.read_with_lengths(keys)[0]

    def _read(self, keys: list[str]) -> tuple[np.ndarray, np.ndarray]:
        with StoreReader(self.path) as reader:
            at = reader.index.find(keys)
            absent = np.flatnonzero(at < 0)
            if len(absent):
                raise KeyError(
                    f"{len(absent)} of {len(keys)} clips are not in {self.path}, "
                    f"first {keys[absent[0]]!r}; embed them before reading"
                )
            return reader.rows(at)

    def keys(self) -> list[str]:
        """List every key, in the order of the rows."""

        def read() -> list[str]:
            with StoreReader(self.path) as reader:
                return reader.names(np.sort(reader.index.order))

        return self._retrying(read)

    def read_with_lengths(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Read rows, and how many frames of each are real; -1 where rows are vectors."""
        keys = list(keys)
        return self._retrying(lambda: self._read(keys))

    def contents(self) -> dict[str, Content]:
        """Return what each row was computed from, by key, in the order of the rows."""

        def read() -> dict[str, Content]:
            with StoreReader(self.path) as reader:
                at = np.sort(reader.index.order)
                sizes, mtimes = reader.index.sizes[at].tolist(), reader.index.mtimes[at].tolist()
                digests = [digest.tobytes().hex() for digest in reader.column("sha256", at)]
                facts = zip(sizes, mtimes, digests, strict=True)
                return dict(zip(reader.names(at), facts, strict=True))

        return self._retrying(read)

    def about(self) -> About:
        """Describe the files as they are."""

        def read() -> About:
            with StoreReader(self.path) as reader:
                shape = reader.shape()[0] if len(reader.index.order) else ()
                merged = "" if reader.file is None else str(reader.file.attrs.get("merged", ""))
                files = [*reader.parts, *([self.path] if self.path.exists() else [])]
                return About(
                    clips=len(reader.index.order),
                    row_shape=shape,
                    bytes=sum(file.stat().st_size for file in files),
                    unmerged_parts=len(reader.parts),
                    merged=merged,
                    notes=self.notes(),
                )

        return self._retrying(read)

    def faults(self) -> dict[str, list[str]]:
        """Check every row: keys by what is wrong with them.

        `damaged` rows do not fit their checksum, `misnamed` ones not the hash of their name;
        `zero` rows are suspicious, not wrong.
        """

        def read() -> dict[str, list[str]]:
            kinds: dict[str, list[str]] = {k: [] for k in FAULTS}
            with StoreReader(self.path) as reader:
                for some in in_blocks(np.sort(reader.index.order).tolist(), 2048):
                    reader.find_faults(np.array(some), kinds)
            return kinds

        return self._retrying(read)

    # -- writing ------------------------------------------------------------------------------

    def check_space(self, n_rows: int, row_shape: Sequence[int]) -> int:
        """Estimate the bytes that `n_rows` more need until they are merged; OSError if too many.

        Until a merge is done, its parts, the old file and the new one lie beside each other.
        """
        row = int(np.prod(row_shape)) * np.dtype(self.identity.dtype).itemsize + ROW_OVERHEAD
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
        self, keys: Sequence[str], embeddings: np.ndarray, contents: Sequence[Content]
    ) -> None:
        """Keep `embeddings` `(n, ...)` for good: on return they survive a crash.

        Raises ValueError for rows that are not finite, and OSError where the disk is full or
        read-only; nothing that was kept before is touched.
        """
        if not len(keys):
            return
        part = part_bytes(self.identity.dtype, keys, embeddings, contents)
        try:
            self._publish_part(part)
        except OSError as error:
            raise explained(error, self.path, f"{len(keys)} vectors were not kept") from error

    def _publish_part(self, part: bytes) -> None:
        folder = self.parts_folder
        for _ in range(3):  # another process may merge and remove the folder meanwhile
            if not (folder / "store.json").exists():
                folder.mkdir(parents=True, exist_ok=True)
                identity = replace(self.identity, created=utc_now())
                with suppress(FileNotFoundError):
                    publish_bytes(folder / "store.json", json.dumps(asdict(identity)).encode())
            name = f"part-{next_number(folder):020d}-{secrets.token_hex(4)}.npy"
            try:
                return publish_bytes(folder / name, part)
            except FileNotFoundError:
                continue
        raise FileNotFoundError(errno.ENOENT, "the folder of parts disappears", str(folder))

    def merge(self, notes: Mapping[str, str] | None = None) -> None:
        """Rewrite the store and its parts as one file, put in place by rename.

        `notes` are kept as attributes of the file.
        """
        with self.lock():
            _remove_stale(self.parts_folder, self.path)
            self._remove_merged_parts()
            if not parts_in(self.parts_folder):
                self._remove_parts([])
                return
            try:
                parts = self._rewrite(notes=notes or {})
            except OSError as error:
                raise explained(error, self.path, "merging stopped; its parts stay") from error
            self._remove_parts(parts)

    def notes(self) -> dict[str, str]:
        """Return the notes that merges left."""
        try:
            with h5py.File(self.path, "r", locking=False) as file:
                return {
                    name.removeprefix("note_"): str(text)
                    for name, text in file.attrs.items()
                    if name.startswith("note_")
                }
        except FileNotFoundError:
            return {}

    def _rewrite(
        self,
        dropped: Sequence[str] = (),
        dtype: str = "",
        data_root: str = "",
        notes: Mapping[str, str] = MappingProxyType({}),
        mtimes: Mapping[int, int] = MappingProxyType({}),
    ) -> list[Path]:
        """Write all rows but `dropped` into a new file; return the parts it now holds.

        `mtimes` are new modification times, by position; those of other rows are then unknown.
        """
        with StoreReader(self.path) as reader:
            order = np.sort(reader.index.order)
            if dropped:
                gone = frozenset(dropped)
                order = order[[name not in gone for name in reader.names(order)]]
            identity = header_at(self.path) or self.identity
            identity = replace(
                identity,
                dtype=dtype or identity.dtype,
                data_root=data_root or identity.data_root,
            )
            times = reader.index.mtimes[order]
            if mtimes:
                times = np.array([mtimes.get(position, UNKNOWN) for position in order.tolist()])
            write_merged(self.path, identity, reader, order, times, {**self.notes(), **notes})
            return list(reader.parts)

    def drop(self, keys: Sequence[str]) -> None:
        """Remove the rows of `keys`; the rest is rewritten and put in place by rename."""
        with self.lock():
            self._remove_merged_parts()
            try:
                self._remove_parts(self._rewrite(keys))
            except OSError as error:
                raise explained(error, self.path, "nothing was removed") from error

    def repair(self) -> list[str]:
        """Remove the rows that `faults` calls wrong; return their keys, to be computed again."""
        with self.lock():
            self._remove_merged_parts()
            faults = self.faults()
            wrong = sorted({key for kind in WRONG for key in faults[kind]})
            if wrong:
                self.drop(wrong)
            return wrong

    def convert(self, dtype: str) -> None:
        """Rewrite the store as float32 or float16; float16 keeps about three digits."""
        with self.lock():
            self._remove_merged_parts()
            try:
                self._remove_parts(self._rewrite(dtype=dtype))
            except OSError as error:
                raise explained(error, self.path, "the store is as it was") from error

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

    @contextmanager
    def lock(
        self, timeout: float = -1.0, tell: Callable[[str], None] | None = None
    ) -> Iterator[None]:
        """Be the only run that writes this store; hold it around missing, append and merge.

        While another run holds it, `tell` hears once who that is, and after `timeout` seconds
        (negative: never) TimeoutError says so. Within one process it can be taken again.
        """
        guard = self.path.with_name(f".{self.path.name}.lock")
        holder = self.path.with_name(f".{self.path.name}.holder")
        try:
            guard.parent.mkdir(parents=True, exist_ok=True)
            mine = filelock.FileLock(guard, thread_local=False, is_singleton=True)
            try:
                mine.acquire(timeout=0)
            except filelock.Timeout:
                who = _holder(holder)
                if tell is not None:
                    tell(f"{self.path} is being written by {who}; waiting for it to finish")
                try:
                    mine.acquire(timeout=timeout)
                except filelock.Timeout:
                    raise TimeoutError(
                        errno.EAGAIN,
                        f"being written by {_holder(holder)}; wait for it to finish, "
                        "or give this run its own --cache-dir",
                        str(self.path),
                    ) from None
            with suppress(OSError):
                holder.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            raise explained(error, self.path, "cannot write to the cache") from error
        try:
            yield
        finally:
            if mine.lock_counter == 1:
                holder.unlink(missing_ok=True)
            mine.release()

    def _retrying(self, action: Callable[[], T]) -> T:
        for _ in range(20):
            try:
                return action()
            except (MovedError, FileNotFoundError):
                time.sleep(0.05)
        return action()


# -- the names and identities of stores -----------------------------------------------------------


def _plain(name: str) -> str:
    return re.sub(r"[^\w.+=-]", "_", name).lstrip(".") or "_"


def stores_in(directory: Path) -> list[Path]:
    """List the stores of a cache folder, merged or not, by their (future) file."""
    if not directory.is_dir():
        return []
    merged = set(directory.glob("[!.]*.h5"))
    return sorted(merged | {p.with_suffix(".h5") for p in directory.glob("[!.]*.parts")})


def _same_vectors(found: StoreHeader | None, asked: StoreHeader) -> bool:
    return found is not None and (
        (found.encoder, found.pooling, found.fingerprint, found.source)
        == (asked.encoder, asked.pooling, asked.fingerprint, asked.source)
    )


def _refuse_others(path: Path, found: StoreHeader, asked: StoreHeader) -> None:
    for what in ("fingerprint", "encoder", "pooling", "source"):
        have, want = getattr(found, what), getattr(asked, what)
        if have != want:
            raise ValueError(
                f"{path} holds vectors of {what} {have}, not {want}; use another --cache-dir"
            )


def _holder(path: Path) -> str:
    try:
        facts = json.loads(path.read_text())
        return f"process {int(facts['pid'])} on {str(facts['host'])[:80]!r}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _hash_or_nothing(sha256_of: Callable[[str], str], key: str) -> str:
    """Hash a file; one that cannot be read is embedded again, which then says what is wrong."""
    try:
        return sha256_of(key)
    except OSError:
        return ""


def _remove_stale(folder: Path, path: Path) -> None:
    """Remove what killed runs left half-written."""
    for leftover in (*folder.glob(".*.tmp"), *path.parent.glob(f".{path.name}.*.tmp")):
        with suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > STALE_S:
                leftover.unlink()
