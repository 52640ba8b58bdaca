"""What goes wrong with a store, said so that the reader knows what to do next."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space, or ",
    errno.EDQUOT: "your disk quota is used up; free some space, or ",
    errno.EFBIG: "the file would be larger than allowed; ",
    errno.EROFS: "the disk is read-only; ",
    errno.EACCES: "no permission to write here; ",
    errno.EPERM: "no permission to write here; ",
    errno.ENOTDIR: "a file is where the folder should be; ",
    errno.EEXIST: "a file is where the folder should be; ",
    errno.ENAMETOOLONG: "the path is too long for this file system; ",
}
READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class MovedError(Exception):
    """The store was merged while it was being read."""


class DamagedError(OSError):
    """A file of a store is damaged; the message says how to go on."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(errno.EIO, what, str(path))

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"

    def __reduce__(self) -> tuple[object, ...]:  # so that a worker process can raise it
        return type(self), (Path(self.filename), self.strerror)


class DamagedRowsError(DamagedError):
    """Some of the rows that were asked for are damaged; `keys` are all of them."""

    def __init__(self, store: Path, keys: Sequence[str]) -> None:
        which = f"the vector of {keys[0]!r} is"
        if len(keys) > 1:
            which = f"the vectors of {len(keys)} clips, first {keys[0]!r}, are"
        super().__init__(
            store,
            f"{which} damaged (the checksum does not fit); {repair_advice(store)} removes all "
            "damaged ones, and the next run computes them again",
        )
        self.keys = tuple(keys)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (Path(self.filename), self.keys)


def repair_advice(store: Path) -> str:
    """Name the command that repairs a store."""
    return f"`python -m cache verify {store} --repair`"


@contextmanager
def explaining(
    path: Path, outcome: str, instead: str = "use another --cache-dir"
) -> Iterator[None]:
    """Turn errors of the operating system into ones that name the path and what to do.

    `outcome` says what the failure means: "3 vectors were not kept", `instead` what else could be
    done. The type and errno stay.
    """
    try:
        yield
    except (DamagedError, TimeoutError):
        raise
    except OSError as error:
        reason = reason_of(error, instead)
        raise type(error)(error.errno or errno.EIO, f"{outcome}: {reason}", str(path)) from error


def reason_of(error: OSError, instead: str = "use another folder") -> str:
    """Say what an error of the operating system means and what to do about it."""
    is_bare = error.strerror == os.strerror(error.errno or 0)
    if is_bare and error.errno in _ADVICE:
        return f"{_ADVICE[error.errno]}{instead}"
    return error.strerror or str(error)
