"""One HDF5 file of vectors per data set, encoder, pooling and fingerprint.

`append` writes a part, one complete `.npy` file in a folder beside the store, and returns when it
is on disk under its name; `merge` rewrites store and parts into one file and puts it in place by
rename. A crash therefore costs at most the rows that were never acknowledged. Unmerged parts
count as present. Of several rows for one key the last appended is the row.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
import socket
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import filelock
import h5py
import numpy as np

from cache.hdf5 import publish_bytes, publishing

T = TypeVar("T")

FORMAT = 1
"""Version of the layout that docs/cache-format.md describes."""

Content = tuple[int, int, str]
"""Size in bytes, modification time in ns and sha256 of the file a row was computed from."""

CHUNK_ROWS = 128
CHUNK_BYTES = 8 << 20
BLOCK_BYTES = 32 << 20
"""What a merge holds in memory at a time."""
UNKNOWN = -1
"""A modification time that no file has, so that its hash decides."""
ROW_OVERHEAD = 200
"""Bytes of a row besides its vector: name, hashes, size, time."""
STALE_S = 3600.0
"""A temporary file this old belongs to nobody any more."""

WRONG = ("damaged", "not_finite", "misnamed")
FAULTS = (*WRONG, "zero")

_COLUMNS = ("key_hashes", "sizes", "mtimes", "sha256", "checksums")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a store holds and where it came from; the file's attributes."""

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


@dataclass(frozen=True, kw_only=True)
class About:
    """The size and state of a store."""

    clips: int
    row_shape: tuple[int, ...]
    bytes: int
    unmerged_parts: int
    merged: str
    notes: dict[str, str]


class _MovedError(Exception):
    """The store was merged while it was being read."""


@dataclass(frozen=True)
class EmbeddingStore:
    """Vectors of one data set under one fingerprint. Holds paths only, so it pickles."""

    path: Path
    identity: Identity
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
        asked = Identity(
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
        found = _identity_at(path)
        if found is not None:
            _refuse_others(path, found, asked)
            asked = replace(asked, dtype=found.dtype)
        donors = [
            other
            for other in stores_in(path.parent)
            if other != path
            and other.name.endswith("-" + tail)
            and _same_vectors(_identity_at(other), asked)
        ]
        return cls(path, asked, tuple(donors))

    @classmethod
    def at(cls, path: Path) -> EmbeddingStore:
        """Open an existing store by its file, as it is; FileNotFoundError if there is none."""
        path = path.absolute()
        identity = _identity_at(path)
        if identity is None:
            raise FileNotFoundError(errno.ENOENT, "no embedding store here", str(path))
        return cls(path, identity)

    @property
    def parts_folder(self) -> Path:
        return self.path.with_suffix(".parts")

    @property
    def exists(self) -> bool:
        return self.path.exists() or bool(_parts_in(self.parts_folder))

    def __len__(self) -> int:
        return self._retrying(lambda: len(_index(_snapshot(self)).order))

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
        with _Reader(self) as reader:
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
            with _Reader(donor) as reader:
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
                for some in _blocks(same, 256):
                    keys_here = [key for key, _, _ in some]
                    rows, lengths = reader.rows(np.array([p for _, p, _ in some]))
                    for of_length, kept in _of_one_length(rows, lengths):
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
        with _Reader(self) as reader:
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
            with _Reader(self) as reader:
                return reader.names(np.sort(reader.index.order))

        return self._retrying(read)

    def read_with_lengths(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Read rows, and how many frames of each are real; -1 where rows are vectors."""
        keys = list(keys)
        return self._retrying(lambda: self._read(keys))

    def contents(self) -> dict[str, Content]:
        """Return what each row was computed from, by key, in the order of the rows."""

        def read() -> dict[str, Content]:
            with _Reader(self) as reader:
                at = np.sort(reader.index.order)
                sizes, mtimes = reader.index.sizes[at].tolist(), reader.index.mtimes[at].tolist()
                digests = [digest.tobytes().hex() for digest in reader.column("sha256", at)]
                facts = zip(sizes, mtimes, digests, strict=True)
                return dict(zip(reader.names(at), facts, strict=True))

        return self._retrying(read)

    def about(self) -> About:
        """Describe the files as they are."""

        def read() -> About:
            with _Reader(self) as reader:
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
            with _Reader(self) as reader:
                for some in _blocks(np.sort(reader.index.order).tolist(), 2048):
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
        part = _part(self.identity.dtype, keys, embeddings, contents)
        try:
            self._publish_part(part)
        except OSError as error:
            raise _explained(error, self.path, f"{len(keys)} vectors were not kept") from error

    def _publish_part(self, part: bytes) -> None:
        folder = self.parts_folder
        for _ in range(3):  # another process may merge and remove the folder meanwhile
            if not (folder / "store.json").exists():
                folder.mkdir(parents=True, exist_ok=True)
                identity = replace(self.identity, created=_now())
                with suppress(FileNotFoundError):
                    publish_bytes(folder / "store.json", json.dumps(asdict(identity)).encode())
            name = f"part-{_next_number(folder):020d}-{secrets.token_hex(4)}.npy"
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
            if not _parts_in(self.parts_folder):
                self._remove_parts([])
                return
            try:
                parts = self._rewrite(notes=notes or {})
            except OSError as error:
                raise _explained(error, self.path, "merging stopped; its parts stay") from error
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
        with _Reader(self) as reader:
            order = np.sort(reader.index.order)
            if dropped:
                gone = frozenset(dropped)
                order = order[[name not in gone for name in reader.names(order)]]
            identity = reader.identity
            identity = replace(
                identity,
                dtype=dtype or identity.dtype,
                data_root=data_root or identity.data_root,
            )
            times = reader.index.mtimes[order]
            if mtimes:
                times = np.array([mtimes.get(position, UNKNOWN) for position in order.tolist()])
            _write_merged(self.path, identity, reader, order, times, {**self.notes(), **notes})
            return list(reader.parts)

    def drop(self, keys: Sequence[str]) -> None:
        """Remove the rows of `keys`; the rest is rewritten and put in place by rename."""
        with self.lock():
            self._remove_merged_parts()
            try:
                self._remove_parts(self._rewrite(keys))
            except OSError as error:
                raise _explained(error, self.path, "nothing was removed") from error

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
                raise _explained(error, self.path, "the store is as it was") from error

    def _remove_merged_parts(self) -> None:
        """Remove what a merge that was killed left: the next file will not know these parts."""
        snapshot = _snapshot(self)
        current = _index(snapshot).parts
        self._remove_parts([part for part in snapshot.parts if part not in current])

    def _remove_parts(self, parts: Sequence[Path]) -> None:
        for part in parts:
            part.unlink(missing_ok=True)
        folder = self.parts_folder
        if folder.is_dir() and not _parts_in(folder) and self.path.exists():
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
            raise _explained(error, self.path, "cannot write to the cache") from error
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
            except (_MovedError, FileNotFoundError):
                time.sleep(0.05)
        return action()


# -- the names and identities of stores -----------------------------------------------------------


def _plain(name: str) -> str:
    return re.sub(r"[^\w.+=-]", "_", name).lstrip(".") or "_"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def stores_in(directory: Path) -> list[Path]:
    """List the stores of a cache folder, merged or not, by their (future) file."""
    if not directory.is_dir():
        return []
    merged = set(directory.glob("[!.]*.h5"))
    return sorted(merged | {p.with_suffix(".h5") for p in directory.glob("[!.]*.parts")})


def _identity_at(path: Path) -> Identity | None:
    """Read what the store at `path` says it is; None if there is none, ValueError if foreign."""
    description = path.with_suffix(".parts") / "store.json"
    try:
        with h5py.File(path, "r", locking=False) as file:
            facts = {k: file.attrs.get(k) for k in Identity.__dataclass_fields__}
            version = int(file.attrs.get("format", 0))
    except FileNotFoundError:
        try:
            facts = json.loads(description.read_text())
        except FileNotFoundError:
            return None
        version = FORMAT
    except OSError as error:
        raise _explained(error, path, "this is no readable HDF5 file") from error
    if version > FORMAT:
        raise ValueError(f"{path} has cache format {version}, newer than {FORMAT}; update this")
    if version < 1 or not all(isinstance(fact, str) for fact in facts.values()):
        raise ValueError(f"{path} is not a store of this project; import it instead")
    return Identity(**{k: str(v) for k, v in facts.items()})


def _same_vectors(found: Identity | None, asked: Identity) -> bool:
    return found is not None and (
        (found.encoder, found.pooling, found.fingerprint, found.source)
        == (asked.encoder, asked.pooling, asked.fingerprint, asked.source)
    )


def _refuse_others(path: Path, found: Identity, asked: Identity) -> None:
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


def _explained(error: OSError, path: Path, outcome: str) -> OSError:
    """Turn an error of the operating system into one that says what it means for the store."""
    advice = {
        errno.ENOSPC: "the disk is full; free some space, or use another --cache-dir",
        errno.EDQUOT: "your disk quota is used up; free some space, or use another --cache-dir",
        errno.EFBIG: "the file would be larger than allowed; use another --cache-dir",
        errno.EROFS: "the disk is read-only; use another --cache-dir",
        errno.EACCES: "no permission to write here; use another --cache-dir",
        errno.EPERM: "no permission to write here; use another --cache-dir",
        errno.ENOTDIR: "a file is where the cache folder should be; use another --cache-dir",
        errno.EEXIST: "a file is where the cache folder should be; use another --cache-dir",
    }.get(error.errno or 0, error.strerror or str(error))
    return type(error)(error.errno or errno.EIO, f"{outcome}: {advice}", str(path))


def _hash_or_nothing(sha256_of: Callable[[str], str], key: str) -> str:
    """Hash a file; one that cannot be read is embedded again, which then says what is wrong."""
    try:
        return sha256_of(key)
    except OSError:
        return ""


def _blocks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


# -- parts ------------------------------------------------------------------------------------


def _parts_in(folder: Path) -> list[Path]:
    """List the parts, oldest first."""
    try:
        return sorted(path for path in folder.iterdir() if _PART.fullmatch(path.name))
    except FileNotFoundError:
        return []


_PART = re.compile(r"part-(\d{20})-[0-9a-f]{8}\.npy")


_latest_numbers: dict[Path, int] = {}


def _next_number(folder: Path) -> int:
    """Choose a number above all earlier parts, even if the clock was set back meanwhile."""
    if folder not in _latest_numbers:
        parts = _parts_in(folder)
        _latest_numbers[folder] = int(parts[-1].name.split("-")[1]) if parts else 0
    _latest_numbers[folder] = max(time.time_ns(), _latest_numbers[folder] + 1)
    return _latest_numbers[folder]


def _remove_stale(folder: Path, path: Path) -> None:
    """Remove what killed runs left half-written."""
    for leftover in (*folder.glob(".*.tmp"), *path.parent.glob(f".{path.name}.*.tmp")):
        with suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > STALE_S:
                leftover.unlink()


def _encode_key(key: str) -> bytes:
    name = key.encode("utf-8", "surrogateescape")
    if not name or b"\0" in name:
        raise ValueError(f"a key is a file's path below the data root, not {key!r}")
    return name


def _hash_keys(names: Sequence[bytes]) -> np.ndarray:
    """Hash names to `(n, 2)` uint64: the first 16 bytes of BLAKE2b, little-endian."""
    blake2b = hashlib.blake2b
    digests = b"".join([blake2b(name, digest_size=16).digest() for name in names])
    return np.frombuffer(digests, dtype="<u8").reshape(-1, 2)


def _checksums(rows: np.ndarray) -> np.ndarray:
    """CRC-32 of each row's bytes."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    return np.fromiter((zlib.crc32(row.data) for row in flat), dtype=np.uint32, count=len(rows))


def _stored(embeddings: np.ndarray, dtype: str) -> np.ndarray:
    """Turn vectors into what is kept, finite and little-endian."""
    kind = np.dtype(dtype).newbyteorder("<")
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(embeddings, dtype=kind)
    finite = np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{np.count_nonzero(~finite)} of {len(rows)} vectors are not finite as {dtype}, "
            f"first row {np.argmin(finite)}; they were not kept"
        )
    return rows


def _part(
    dtype: str, keys: Sequence[str], embeddings: np.ndarray, contents: Sequence[Content]
) -> bytes:
    """Lay out rows as one record array in the `.npy` format."""
    if not len(keys) == len(embeddings) == len(contents) or embeddings.ndim < 2:
        raise ValueError(
            f"{len(keys)} keys and {len(contents)} contents need vectors of shape "
            f"({len(keys)}, ...), got {embeddings.shape}"
        )
    names = [_encode_key(key) for key in keys]
    rows = _stored(embeddings, dtype)
    record = np.dtype(
        [
            ("filenames", f"S{max(map(len, names))}"),
            ("key_hashes", "<u8", (2,)),
            ("sizes", "<i8"),
            ("mtimes", "<i8"),
            ("sha256", "u1", (32,)),
            ("checksums", "<u4"),
            ("embeddings", rows.dtype, rows.shape[1:]),
        ]
    )
    part = np.zeros(len(keys), dtype=record)
    part["filenames"] = names
    part["key_hashes"] = _hash_keys(names)
    part["sizes"] = [size for size, _, _ in contents]
    part["mtimes"] = [mtime for _, mtime, _ in contents]
    digests = b"".join(bytes.fromhex(sha256).ljust(32, b"\0") for _, _, sha256 in contents)
    part["sha256"] = np.frombuffer(digests, dtype=np.uint8).reshape(-1, 32)
    part["checksums"] = _checksums(rows)
    part["embeddings"] = rows
    header = np.lib.format.header_data_from_array_1_0(part)
    return _npy_header(header) + part.tobytes()


def _npy_header(header: dict[str, Any]) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    np.lib.format.write_array_header_2_0(buffer, header)
    return buffer.getvalue()


def _load_part(path: Path) -> np.ndarray:
    try:
        part: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise OSError(
            errno.EIO, f"damaged part ({error}); delete it, its clips are embedded again", str(path)
        ) from error
    return part


# -- reading ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Snapshot:
    """The files a store consists of at one moment."""

    path: Path
    stamp: tuple[int, int, int]  # inode, size, mtime_ns; zeros where not merged yet
    parts: tuple[Path, ...]


def _snapshot(store: EmbeddingStore) -> _Snapshot:
    # Parts first: what a merge moves in between is then seen twice, which is harmless.
    parts = tuple(_parts_in(store.parts_folder))
    try:
        stat = store.path.stat()
    except FileNotFoundError:
        return _Snapshot(store.path, (0, 0, 0), parts)
    return _Snapshot(store.path, (stat.st_ino, stat.st_size, stat.st_mtime_ns), parts)


@dataclass(frozen=True)
class _Index:
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
        hashes = _hash_keys([key.encode("utf-8", "surrogateescape") for key in keys])
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
def _index(snapshot: _Snapshot) -> _Index:
    hashes, sizes, mtimes = [], [], []
    merge_id, merged_parts = "", frozenset[str]()
    if snapshot.stamp[0]:
        with h5py.File(snapshot.path, "r", locking=False) as file:
            _check_merged(snapshot.path, file)
            merge_id = str(file.attrs["merge_id"])
            merged_parts = frozenset(json.loads(_text(file["merged_parts"][()])))
            hashes.append(file["key_hashes"][:])
            sizes.append(file["sizes"][:])
            mtimes.append(file["mtimes"][:])
    else:
        hashes.append(np.zeros((0, 2), "<u8"))
        sizes.append(np.zeros(0, "<i8"))
        mtimes.append(np.zeros(0, "<i8"))
    parts = tuple(part for part in snapshot.parts if part.name not in merged_parts)
    for path in parts:
        part = _load_part(path)
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
    return _Index(
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
    for name in ("merged_parts", "embeddings", "filenames", *_COLUMNS, *optional):
        link = file.get(name, getlink=True)
        dataset = file[name] if isinstance(link, h5py.HardLink) else None
        if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
            raise ValueError(f"{path} has no plain dataset /{name}; it is not an intact store")
        if name == "merged_parts":
            continue
        n = len(dataset) if n is None else n
        if len(dataset) != n:
            raise ValueError(f"{path}: /{name} has {len(dataset)} rows, /embeddings {n}")


def _text(value: object) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


class _Reader:
    """A store's files, open and consistent with each other."""

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store
        self.index = _index(_snapshot(store))
        self.parts = self.index.parts
        self.file: h5py.File | None = None

    def __enter__(self) -> _Reader:
        if self.index.merge_id:
            self.file = h5py.File(self._store.path, "r", locking=False)
            if self.file.attrs["merge_id"] != self.index.merge_id:
                self.file.close()
                raise _MovedError
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()

    @property
    def identity(self) -> Identity:
        return _identity_at(self._store.path) or self._store.identity

    @property
    def root(self) -> str:
        """The data root the rows were computed from, "" if there are no rows yet."""
        found = _identity_at(self._store.path)
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
            selected: np.ndarray = _load_part(self.parts[number - 1])[column][rows]
            return selected
        if self.file is None:
            raise _MovedError
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
                names[i] = _text(name)
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
            shape: tuple[int, ...] = _load_part(self.parts[number - 1])["embeddings"].shape[1:]
            return shape
        if self.file is None:
            raise _MovedError
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
                f"{self._store.path} holds rows of shapes {sorted(shapes)}, which do not fit one "
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
            for some in _blocks(range(len(rows)), max(1, BLOCK_BYTES // width)):
                part = slice(some[0], some[-1] + 1)
                raw = self.select(number, "embeddings", rows[part])
                self.check(number, rows[part], raw, lengths[where[part]])
                out[where[part], : raw.shape[1]] = raw[:, :longest]
        return out, lengths

    def find_faults(self, at: np.ndarray, kinds: dict[str, list[str]]) -> None:
        """Add the keys of the faulty rows at positions `at` to `kinds`."""
        names = self.names(at)
        right = _hash_keys([name.encode("utf-8", "surrogateescape") for name in names])
        misnamed = (self.column("key_hashes", at) != right).any(axis=1)
        kinds["misnamed"] += [names[i] for i in np.flatnonzero(misnamed)]
        for number, where, rows in self.by_file(at):
            raw = self.select(number, "embeddings", rows)
            checksums = self.select(number, "checksums", rows)
            for of_length, kept in _of_one_length(raw, self.lengths(number, rows)):
                flat = kept.reshape(len(kept), -1)
                found = {
                    "damaged": _checksums(kept) != checksums[of_length],
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
        for of_length, kept in _of_one_length(raw, lengths):
            wrong = np.flatnonzero(_checksums(kept) != right[of_length])
            if len(wrong):
                row = rows[of_length[wrong[:1]]]
                name = _text(self.select(number, "filenames", row)[0])
                raise OSError(
                    errno.EIO,
                    f"the vector of {name!r} is damaged (its checksum does not fit); "
                    f"`python -m cache verify {self._store.path} --repair` removes all of them, "
                    "and the next run computes them again",
                    str(self._store.path),
                )
        return right


def _of_one_length(
    rows: np.ndarray, lengths: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
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


# -- merging ----------------------------------------------------------------------------------


def _write_merged(
    path: Path,
    identity: Identity,
    reader: _Reader,
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
        facts = {**asdict(identity), "created": identity.created or _now()}
        file.attrs.update({"format": FORMAT, "merge_id": secrets.token_hex(16), **facts})
        file.attrs["merged"] = _now()
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
    file: h5py.File, here: slice, reader: _Reader, number: int, rows: np.ndarray
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
    for of_length, kept in _of_one_length(rows, lengths):
        checksums[of_length] = _checksums(_stored(kept, dtype.name))
    return checksums, rows
