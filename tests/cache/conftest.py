"""A small store and its rows, for every test of the cache."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from small_stores import KEYS, content, open_store, stored_rows

from cache.store import EmbeddingStore


@pytest.fixture
def rows() -> np.ndarray:
    return stored_rows()


@pytest.fixture
def store(tmp_path, rows) -> EmbeddingStore:
    """A store of 30 vectors in one part, not merged yet."""
    store = open_store(tmp_path)
    store.append(KEYS, rows, [content(key) for key in KEYS])
    return store


@pytest.fixture
def mount_disk(tmp_path) -> Iterator[Callable[[str], Path]]:
    """Mount file systems of given sizes, such as "64k"."""
    disks: list[Path] = []

    def mount(size: str) -> Path:
        disk = tmp_path / f"disk{len(disks)}"
        disk.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        try:
            subprocess.run(words, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("a file system cannot be mounted here")
        disks.append(disk)
        return disk

    yield mount
    for disk in disks:
        subprocess.run(["umount", "-l", str(disk)], check=True)
