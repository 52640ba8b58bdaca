"""A folder of recordings: each file is listed once, whatever else lies there, and understood."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from embed.recordings.dataset import Clip, DataSet, FileStats, Skipped, data_set, file_stats_of
from embed.recordings.formats import SOUNDFILE_FORMATS, is_recording, why_unreadable
from embed.recordings.layouts import LAYOUTS, FolderNames, layouts_in_one_line, the_layout
from embed.recordings.plain import read_plain, why_not_plain


class File(NamedTuple):
    """A recording in a folder: the key of the folder (empty, or ending in `/`) and its name."""

    folder: str
    name: str
    stats: FileStats


def read_folder(root: Path) -> DataSet:
    """List the clips of a folder by the known layouts, or else by the plain one.

    A folder without any recording, or in several layouts, is a ValueError.
    """
    walk = Walk(root)
    examples: dict[str, str] = {}
    found: list[tuple[Clip, FileStats]] = []
    others: dict[str, FileStats] = {}
    n_supplemental = 0
    names: FolderNames | None = None
    for file in walk.files():
        if names is None or names.key is not file.folder:
            names = FolderNames(root, file.folder)
        if names.kind == "supplemental":
            n_supplemental += 1
            continue
        clip, layout = names.clip(file.name)
        if clip is None:
            others[file.folder + file.name] = file.stats
            continue
        examples.setdefault(layout, clip.key)
        found.append((clip, file.stats))
    if not found:
        if not others:
            raise ValueError(_no_recordings(root, walk.skipped))
        if reason := why_not_plain(root, others):
            raise ValueError(_no_layout(root, others, reason))
        return read_plain(root, others, walk.top_folders, walk.skipped, walk.other_files)
    layout = the_layout(root, examples, {clip.machine_id for clip, _ in found})
    reason = f"its path is of no known layout; {layout} reads {LAYOUTS[layout]}"
    remark = f"{n_supplemental} supplemental clips belong to no split and are not used"
    return data_set(
        root,
        root.name or "data",
        layout,
        found,
        skipped=[*walk.skipped, *(Skipped(key, reason) for key in others)],
        remarks=[remark] if n_supplemental else [],
    )


class Walk:
    """Walks a folder, following links, each folder once, whatever lies in it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: dict[tuple[int, int], str] = {}
        self.skipped: list[Skipped] = []
        self.top_folders: list[str] = []
        self.other_files: Counter[str] = Counter()
        """How many files of each ending are no recordings."""

    def files(self) -> Iterator[File]:
        """Yield each recording; OSError for a root that cannot be read."""
        about = self._root.stat()
        self._seen[about.st_dev, about.st_ino] = "."
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            folders = []
            for entry in self._entries(folder):
                name = entry.name
                if _is_folder(entry):
                    folders.extend(self._folder(folder, entry))
                elif is_recording(name):
                    if stats := self._stats(folder, entry):
                        yield File(folder, name, stats)
                elif not name.startswith("."):
                    self.other_files[PurePath(name).suffix.lower() or name] += 1
            if not folder:
                self.top_folders = [each.rstrip("/") for each in folders]
            waiting.extend(reversed(folders))

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._root / folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise type(error)(
                    f"the data folder {str(self._root)!r} cannot be read: {error.strerror}"
                ) from error
            self._skip(folder.rstrip("/"), f"the folder cannot be read: {error.strerror}")
            return []

    def _folder(self, parent: str, entry: os.DirEntry[str]) -> list[str]:
        """Return a folder to walk into; nothing for one that is skipped, with its reason."""
        key = parent + entry.name
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            return []
        if is_recording(entry.name):
            self._skip(key, "a folder, not a recording")
            return []
        if not _is_text(key):
            self._skip(key, "the name of the folder is not valid UTF-8; rename it")
            return []
        about = entry.stat()
        first = self._seen.setdefault((about.st_dev, about.st_ino), key)
        if first != key:
            self._skip(key, f"a link to {first!r}, which is listed already")
            return []
        return [key + "/"]

    def _stats(self, folder: str, entry: os.DirEntry[str]) -> FileStats | None:
        """Return size and time of a recording; None for a file that is skipped, with its reason."""
        try:
            about = entry.stat()
        except FileNotFoundError:
            reason = "a link to nothing"
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
        else:
            reason = "" if stat.S_ISREG(about.st_mode) else "not a regular file"
        if entry.name.startswith("."):
            reason = "a hidden file, not a recording"
        elif not _is_text(folder + entry.name):
            reason = "the name is not valid UTF-8; rename the file"
        reason = reason or why_unreadable(entry.name)
        if reason:
            self._skip(folder + entry.name, reason)
            return None
        return file_stats_of(about)

    def _skip(self, key: str, reason: str) -> None:
        readable = key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        self.skipped.append(Skipped(readable, reason))


def _no_layout(root: Path, others: dict[str, FileStats], reason: str) -> str:
    return (
        f"cannot tell which machine {min(others)!r} in {str(root)!r} belongs to: {reason} "
        f"({len(others)} recordings). Known are {layouts_in_one_line()}"
    )


def _no_recordings(root: Path, skipped: Sequence[Skipped]) -> str:
    first = min(skipped, default=None)
    also = first and f" ({len(skipped)} refused, first {first.key!r}: {first.reason})"
    return (
        f"there are no recordings ({', '.join(SOUNDFILE_FORMATS)}, .m4a and others) in "
        f"{str(root)!r}{also or ''}. Known layouts are {layouts_in_one_line()}"
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
