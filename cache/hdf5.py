"""HDF5 files: written so that they are whole or absent, and described by a child process.

The HDF5 library keeps a file open after a failed write and crashes at exit, so it never sees one
here: `publishing` gives it a sink that swallows what cannot be written, remembers the error and
raises it once the library has let go. A file gets its name only when it is complete.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cache.format import COLUMNS, StoreHeader
from ground.files import whole_file

UNREADABLE = b"?"
"""Stands for a lost name; it fits no hash, so that `verify` finds the row misnamed."""


class _Sink(io.RawIOBase):
    """A file that never fails to be written; `error` is the first failure."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("x+b", buffering=0)
        self.error: OSError | None = None

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer) or 0

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._file.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left and self.error is None:
                left = left[self._file.write(left) :]
        except OSError as error:
            self.error = error
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


class Publication:
    """An HDF5 file being written; `check` raises as soon as something could not be."""

    def __init__(self, file: h5py.File, sink: _Sink) -> None:
        self.file = file
        self.user_block = b""
        """What is written before HDF5's own bytes."""
        self._sink = sink

    def check(self) -> None:
        if self._sink.error is not None:
            raise self._sink.error


@contextmanager
def publishing(path: Path, block_bytes: int = 0) -> Iterator[Publication]:
    """Write an HDF5 file that appears under `path` complete, fsynced, or not at all.

    `block_bytes` are kept free for a user block, a power of two from 512. Raises OSError with the
    errno of the first write that failed (disk full, quota, read-only).
    """
    with whole_file(path) as temporary:
        sink = _Sink(temporary)
        try:
            with h5py.File(sink, "w", userblock_size=block_bytes) as file:
                publication = Publication(file, sink)
                yield publication
            sink.seek(0)
            sink.write(publication.user_block)
        finally:
            sink.close()
            if sink.error is not None:
                raise sink.error


def first_byte(dataset: h5py.Dataset) -> int:
    """Return where a contiguous dataset begins in its file; 0 for one without rows."""
    return int(dataset.id.get_offset()) if dataset.id.get_storage_size() else 0


# -- the child: everything below reads a file that may be damaged ------------------------------


def answer_table(send: Any, path: str) -> None:
    """Send the columns of a store as HDF5 describes them, then its attributes.

    Raises ValueError for columns that are not plain, local and unpacked.
    """
    with h5py.File(path, "r", locking=False) as file:
        for name in ("embeddings", "filenames", *COLUMNS, "lengths"):
            if file.get(name, getlink=True) is None:
                continue
            dataset = _plain_dataset(file, name)
            if dataset.dtype.hasobject:  # names of format 1
                continue
            offsets, piece_rows = _pieces(dataset)
            facts = {"column": name, "dtype": dataset.dtype.str, "shape": list(dataset.shape)}
            data = np.array(offsets, dtype="<i8").tobytes()
            send({**facts, "piece_rows": piece_rows}, data)
        attributes = {str(name): value for name, value in file.attrs.items()}
        header = {name: attributes.get(name) for name in StoreHeader.__dataclass_fields__}
        notes = {k.removeprefix("note_"): v for k, v in attributes.items() if k[:5] == "note_"}
        facts = {
            "format": int(attributes.get("format", 0)),
            "header": header,
            "merged": str(attributes.get("merged", "")),
            "notes": {name: str(note) for name, note in notes.items()},
            "merged_parts": "[]",
        }
        if facts["format"]:
            facts["merged_parts"] = _plain_dataset(file, "merged_parts").asstr()[()]
        send(facts, b"")


def _plain_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    link = file.get(name, getlink=True)
    dataset = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise ValueError(f"it has no plain dataset /{name}")
    if dataset.id.get_create_plist().get_nfilters():
        raise ValueError(f"/{name} is compressed")
    return dataset


def _pieces(dataset: h5py.Dataset) -> tuple[list[int], int]:
    """Return where the pieces of a dataset begin in the file, and how many rows one has."""
    n = len(dataset)
    if dataset.chunks is None:
        if n and not dataset.id.get_storage_size():
            raise ValueError(f"{dataset.name} has rows that were never written")
        return [first_byte(dataset)], max(1, n)
    if dataset.chunks[1:] != dataset.shape[1:]:
        raise ValueError(f"{dataset.name} has chunks of {dataset.chunks}")
    rows = dataset.chunks[0]
    found: dict[int, int] = {}

    def visit(chunk: Any) -> None:
        found[chunk.chunk_offset[0] // rows] = chunk.byte_offset

    dataset.id.chunk_iter(visit)
    if sorted(found) != list(range(-(-n // rows))):
        raise ValueError(f"{dataset.name} lacks rows")
    return [found[i] for i in range(len(found))], rows


def answer_names(send: Any, path: str) -> None:
    """Send the names of a store of format 1, each ended by a NUL, in blocks.

    A name that cannot be read any more is sent as UNREADABLE.
    """
    with h5py.File(path, "r", locking=False) as file:
        dataset = _plain_dataset(file, "filenames")
        for start in range(0, len(dataset), 65536):
            rows = range(start, min(start + 65536, len(dataset)))
            try:
                names = [bytes(name) for name in dataset[rows.start : rows.stop]]
            except OSError:
                names = [_name_or_not(dataset, row) for row in rows]
            known = [name if name and b"\0" not in name else UNREADABLE for name in names]
            send({}, b"".join(name + b"\0" for name in known))


def _name_or_not(dataset: h5py.Dataset, row: int) -> bytes:
    try:
        return bytes(dataset[row])
    except OSError:
        return UNREADABLE
