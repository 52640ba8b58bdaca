"""Files that appear under their name complete or not at all, and what identifies a file."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

MANY_FILES = 200
"""From so many on, one sync of the system is faster than one of each file."""
_UNSYNCED: ContextVar[bool] = ContextVar("unsynced", default=False)
STALE_S = 3600.0
"""A temporary file of this age, in seconds, is the leftover of a run that was killed."""


def sha256_of(path: Path) -> str:
    """Hash the content of a file; OSError for one that cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, data: str | bytes | memoryview) -> None:
    """Write a file that appears under `path` complete and on disk, or not at all.

    Texts are written as UTF-8. Raises OSError, and leaves what was there before.
    """
    content = data.encode("utf-8") if isinstance(data, str) else data
    with whole_file(path) as temporary, temporary.open("xb", buffering=0) as file:
        left = memoryview(content)
        while left:
            left = left[file.write(left) :]


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there becomes `path` at the end.

    It is fsynced and renamed; after an exception it is removed, and `path` is as it was.
    """
    temporary = temporary_beside(path)
    is_synced = not _UNSYNCED.get()
    try:
        with naming(path, instead_of=temporary):
            yield temporary
            if is_synced:
                sync(temporary)
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if is_synced:
        sync(path.parent)


@contextmanager
def unsynced() -> Iterator[None]:
    """Let files appear whole inside, without waiting until they are on disk.

    For files that a power cut may take, and for many files that `synced_at_once` makes safe.
    """
    before = _UNSYNCED.set(True)
    try:
        yield
    finally:
        _UNSYNCED.reset(before)


@contextmanager
def synced_at_once(n_files: int) -> Iterator[None]:
    """Put the files that are written inside on disk at the end, all at once where they are many.

    Waiting for each takes milliseconds. After an exception nothing is waited for.
    """
    if n_files < MANY_FILES or not hasattr(os, "sync"):
        yield
        return
    with unsynced():
        yield
    os.sync()


@contextmanager
def naming(path: Path, *, instead_of: Path | None = None) -> Iterator[None]:
    """Name `path` in an OSError that names no file, or that names `instead_of`."""
    try:
        yield
    except OSError as error:
        if error.filename is None or error.filename in (instead_of, str(instead_of)):
            error.filename, error.filename2 = str(path), None
        raise


def temporary_beside(path: Path) -> Path:
    """Name a new file in the folder of `path`, which becomes `path` by rename."""
    return path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.tmp")


def sync(path: Path) -> None:
    """Make a file's content, or the renames in a folder, survive a power cut.

    A file system that cannot do this for folders, or does not allow it, is left alone.
    """
    with suppress(PermissionError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(descriptor)


def remove_stale(folder: Path, name: str = "*") -> None:
    """Remove the temporary files that killed runs left beside `name` in `folder`."""
    for leftover in folder.glob(f".{name}.*.tmp"):
        with suppress(FileNotFoundError, PermissionError):
            if time.time() - leftover.stat().st_mtime > STALE_S:
                leftover.unlink()
