"""HDF5 files that are whole or absent, and opened without trusting them.

The HDF5 library keeps a file open after a failed write and crashes at exit, so it never sees one
here: `publishing` gives it a sink that swallows what cannot be written, remembers the error and
raises it once the library has let go. A file gets its name only when it is complete.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py


class _Sink(io.RawIOBase):
    """A file that never fails to be written; `error` is the first failure."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("x+b", buffering=0)
        self.error: OSError | None = None

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

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

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
        super().close()


class Publication:
    """An HDF5 file being written; `check` raises as soon as something could not be."""

    def __init__(self, file: h5py.File, sink: _Sink) -> None:
        self.file = file
        self._sink = sink

    def check(self) -> None:
        if self._sink.error is not None:
            raise self._sink.error


@contextmanager
def publishing(path: Path) -> Iterator[Publication]:
    """Write an HDF5 file that appears under `path` complete, fsynced, or not at all.

    Raises OSError with the errno of the first write that failed (disk full, quota, read-only).
    """
    temporary = temporary_beside(path)
    sink = _Sink(temporary)
    try:
        try:
            with h5py.File(sink, "w") as file:
                yield Publication(file, sink)
        finally:
            if sink.error is not None:
                raise sink.error
        sink.sync()
        sink.close()
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            sink.close()
        temporary.unlink(missing_ok=True)
        raise


def publish_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file that appears under `path` complete, fsynced, or not at all."""
    temporary = temporary_beside(path)
    try:
        with temporary.open("xb", buffering=0) as file:
            left = memoryview(data)
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def temporary_beside(path: Path) -> Path:
    """Name a file that becomes `path` by rename."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power cut, where the system knows how."""
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(descriptor)
