"""Where the detectors of many machines lie on disk until they become part of a model."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

IN_MEMORY = 250
"""Fits whose detectors stay in memory; a detector of 200 clips x 768 takes 1.5 MB."""
IN_ONE_FOLDER = 1000
PREFIX = ".fits-"
STALE_S = 24 * 3600.0
"""A spool that was untouched for so long is the leftover of a run that was killed."""


class Spool:
    """A folder beside the results, there while it is entered and where the fits are many."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._folder: Path | None = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def paths(self, n_fits: int) -> Sequence[Path | None]:
        """Name a place for each of so many detectors; None for each where they are few.

        OSError where the folder cannot be made.
        """
        if n_fits <= IN_MEMORY:
            return [None] * n_fits
        self._parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(self._parent)
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._parent))
        return [self._folder / str(i // IN_ONE_FOLDER) / str(i) for i in range(n_fits)]


def _remove_stale(parent: Path) -> None:
    for leftover in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime > STALE_S:
                shutil.rmtree(leftover, ignore_errors=True)
