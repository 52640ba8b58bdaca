"""One writer per store: a lock file beside it, and who holds it."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from cache.failures import READ_ONLY, explaining


@contextmanager
def locked(
    path: Path, timeout: float, tell: Callable[[str], None] | None, *, reading: bool
) -> Iterator[bool]:
    """Hold the lock of the store at `path`; see `EmbeddingStore.lock`."""
    guard = path.with_name(f".{path.name}.lock")
    holder = path.with_name(f".{path.name}.holder")
    try:
        with explaining(path, "cannot write to the cache"):
            guard.parent.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(guard, thread_local=False, is_singleton=True)
            _acquire(lock, path, holder, timeout, tell)
    except OSError as error:
        if not reading or error.errno not in READ_ONLY:
            raise
        is_writable = False
    else:
        is_writable = True
    if not is_writable:
        yield False
        return
    with suppress(OSError):
        holder.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
    try:
        yield True
    finally:
        if lock.lock_counter == 1:
            with suppress(OSError):
                holder.unlink()
        lock.release()


def _acquire(
    lock: filelock.BaseFileLock,
    path: Path,
    holder: Path,
    timeout: float,
    tell: Callable[[str], None] | None,
) -> None:
    """Take the lock, after saying who holds it; TimeoutError if it stays held."""
    try:
        lock.acquire(timeout=0)
        return
    except filelock.Timeout:
        pass
    if tell is not None:
        tell(f"{path} is being written by {_name_in(holder)}; waiting for it to finish")
    try:
        lock.acquire(timeout=timeout)
    except filelock.Timeout:
        raise TimeoutError(
            errno.EAGAIN,
            f"being written by {_name_in(holder)}; wait for it to finish, "
            "or give this run its own --cache-dir",
            str(path),
        ) from None


def _name_in(holder: Path) -> str:
    """Name the process that a holder file tells of."""
    try:
        facts = json.loads(holder.read_text())
        return f"process {int(facts['pid'])} on {str(facts['host'])[:80]!r}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
