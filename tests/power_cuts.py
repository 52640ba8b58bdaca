"""A model of a power cut: which files are on the disk if it happens after any step of a program.

`Recorder` notes what a program asks of the file system while it runs. After a cut, a file has the
content of its last fsync, or any beginning of what was written later. Of the creations, renames and
removals in a folder there are all up to the last fsync of that folder, and any number of the next
ones, in order. This is what POSIX promises; most file systems promise more.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock


@dataclass(frozen=True)
class Step:
    """One request: what, where, and the number of the file or folder it is about."""

    what: str  # sync, sync_folder, put, remove, acknowledge
    path: str = ""
    inode: int = 0
    content: bytes = b""
    is_folder: bool = False


class Recorder:
    """The steps of a program below `root`, in order."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.steps: list[Step] = []

    def acknowledge(self, what: str) -> None:
        self.steps.append(Step("acknowledge", what))

    def _relative(self, path: Any) -> str:
        return Path(os.fspath(path)).absolute().relative_to(self.root).as_posix()

    def _put(self, path: Any) -> None:
        found = Path(path).stat()
        is_folder = stat.S_ISDIR(found.st_mode)
        content = b"" if is_folder else Path(path).read_bytes()
        self.steps.append(Step("put", self._relative(path), found.st_ino, content, is_folder))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note every fsync, rename, creation of a folder and removal."""
        fsync, replace, mkdir = os.fsync, os.replace, os.mkdir
        unlink, rmdir = os.unlink, os.rmdir

        def noted_fsync(descriptor: int) -> None:
            fsync(descriptor)
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            found = os.fstat(descriptor)
            if stat.S_ISDIR(found.st_mode):
                self.steps.append(Step("sync_folder", self._relative(path)))
            else:
                content = path.read_bytes()
                self.steps.append(Step("sync", self._relative(path), found.st_ino, content))

        def noted_replace(source: Any, target: Any, **other: Any) -> None:
            self._put(source)
            replace(source, target, **other)
            self._put(target)
            self.steps.append(Step("remove", self._relative(source)))

        def noted_mkdir(path: Any, *other: Any, **more: Any) -> None:
            mkdir(path, *other, **more)
            self._put(path)

        def noted_unlink(path: Any, **other: Any) -> None:
            unlink(path, **other)
            self.steps.append(Step("remove", self._relative(path)))

        def noted_rmdir(path: Any, **other: Any) -> None:
            rmdir(path, **other)
            self.steps.append(Step("remove", self._relative(path), is_folder=True))

        noted = {
            "fsync": noted_fsync,
            "replace": noted_replace,
            "mkdir": noted_mkdir,
            "unlink": noted_unlink,
            "rmdir": noted_rmdir,
        }
        with mock.patch.multiple(os, **noted):
            yield


def after_a_cut(steps: list[Step], folder: Path, rng: random.Random) -> frozenset[str]:
    """Write to `folder` a disk that can be there if the power is cut after `steps`.

    Returns what had been acknowledged.
    """
    entries: dict[str, Step] = {}
    synced: dict[int, bytes] = {}
    parents = {str(Path(step.path).parent) for step in steps if step.what in ("put", "remove")}
    kept = {parent: _durable_changes(steps, parent, rng) for parent in parents}
    done = dict.fromkeys(parents, 0)
    for step in steps:
        if step.what == "sync":
            synced[step.inode] = step.content
        elif step.what in ("put", "remove"):
            parent = str(Path(step.path).parent)
            done[parent] += 1
            if done[parent] > kept[parent]:
                continue
            if step.what == "put":
                entries[step.path] = step
            else:
                entries.pop(step.path, None)
    for path in sorted(entries):
        place, step = folder / path, entries[path]
        if not place.parent.is_dir():
            continue  # its folder was lost
        if step.is_folder:
            place.mkdir(exist_ok=True)
            continue
        durable = synced.get(step.inode, b"")
        later = step.content[len(durable) :]
        place.write_bytes(durable + later[: rng.randrange(len(later) + 1)])
    return frozenset(step.path for step in steps if step.what == "acknowledge")


def _durable_changes(steps: list[Step], parent: str, rng: random.Random) -> int:
    """Choose how many of the changes of one folder's entries reached the disk."""
    n = least = 0
    for step in steps:
        if step.what == "sync_folder" and step.path == parent:
            least = n
        elif step.what in ("put", "remove") and str(Path(step.path).parent) == parent:
            n += 1
    return rng.choice([least, n, rng.randint(least, n)])
