"""Where fetched files are kept, who may write them, and whether the network may be used."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ground.files import STALE_S

LEFTOVERS = (".*.tmp", "tmp*", "*.partial")
"""Temporary files and folders in the weights' folders, of this version and of earlier ones."""


def weights_folder(encoder: str) -> Path:
    """Return the folder in which this project keeps an encoder's published weights."""
    import pooch

    return Path(pooch.os_cache("anomalous-sound-pipeline")) / "weights" / encoder


def is_offline(offline: bool = False) -> bool:
    """Say whether the network must not be used: asked for, or by `HF_HUB_OFFLINE`."""
    return offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Wait while another process writes `target`; make its folder. OSError where that cannot be."""
    from filelock import FileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        yield


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left in a folder of weights more than an hour ago.

    `<name>.part` stays, because a download continues there.
    """
    for leftover in (path for pattern in LEFTOVERS for path in folder.glob(pattern)):
        with suppress(FileNotFoundError, PermissionError):
            if time.time() - leftover.lstat().st_mtime < STALE_S:
                continue
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
