"""A folder of recordings: each file is listed once, whatever else lies there, and understood."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Literal, NamedTuple

from embed.recordings.attributes import is_attributes_csv, join_attributes
from embed.recordings.dataset import Clip, DataSet, FileStats, Skipped, data_set, file_stats_of
from embed.recordings.formats import SOUNDFILE_FORMATS, is_recording, why_unreadable
from embed.recordings.layouts import (
    LAYOUTS,
    FolderNames,
    layouts_in_one_line,
    nearest_name,
    the_layout,
)
from embed.recordings.plain import read_plain, why_not_plain

SupplementalUse = Literal["leave", "use"]


class File(NamedTuple):
    """A recording in a folder: the key of the folder (empty, or ending in `/`) and its name."""

    folder: str
    name: str
    stats: FileStats


def read_folder(root: Path, supplemental: SupplementalUse = "leave") -> DataSet:
    """List the clips of a folder by the known layouts, or else by the plain one.

    With `supplemental="use"`, clips of a machine alone train it too. A folder without any
    recording, or in several layouts, is a ValueError; one without supplemental clips of machines
    that are to be used a FileNotFoundError.
    """
    walk = Walk(root)
    examples: dict[str, str] = {}
    found: list[tuple[Clip, FileStats]] = []
    others: dict[str, FileStats] = {}
    beside: Counter[str] = Counter()
    names: FolderNames | None = None
    for file in walk.files():
        if names is None or names.key is not file.folder:
            names = FolderNames(root, file.folder)
        clip, layout = names.clip(file.name)
        if names.kind == "supplemental":
            kind, clip = names.supplemental(file.name)
            layout = "sections"
            beside.update(filter(None, [kind]))
            if kind == "noise" or (kind and supplemental == "leave"):
                continue
        if clip is None:
            others[file.folder + file.name] = file.stats
            continue
        examples.setdefault(layout, clip.key)
        found.append((clip, file.stats))
    if supplemental == "use" and not beside["machine"]:
        raise FileNotFoundError(_no_supplemental(root, beside))
    if not found:
        if not others:
            raise ValueError(_no_recordings(root, walk.skipped))
        if reason := why_not_plain(root, others):
            raise ValueError(_no_layout(root, others, reason))
        return read_plain(root, others, walk.top_folders, walk.skipped, walk.other_files)
    layout, remark = the_layout(
        root, examples, {clip.machine for clip, _ in found}, has_supplemental=bool(beside)
    )
    joined, remarks = join_attributes(root, walk.attributes_csvs, found)
    return data_set(
        root,
        root.name or "data",
        layout,
        joined,
        skipped=[*walk.skipped, *(Skipped(key, _no_clip(key, layout)) for key in others)],
        remarks=[*filter(None, [remark, _supplemental_remark(beside, supplemental)]), *remarks],
    )


def _no_clip(key: str, layout: str) -> str:
    """Say why a file is not used beside clips of a layout."""
    nearest = nearest_name(key)
    return (
        f"its path is of no known layout; {layout} reads {LAYOUTS[layout]}"
        f"{nearest and f'; {nearest}'}"
    )


def _supplemental_remark(n: Counter[str], use: SupplementalUse) -> str:
    """Say how many supplemental clips there are, and what is done with them; "" without any."""
    if not n:
        return ""
    if use == "use":
        rest = f"; {n['noise']} of noise alone are not used" if n["noise"] else ""
        return f"{n['machine']} supplemental clip(s) of a machine alone train it too{rest}"
    kinds = {"machine": "of a machine alone", "noise": "of noise alone"}
    counts = " and ".join(f"{n[kind]} {what}" for kind, what in kinds.items() if n[kind])
    advice = "; --supplemental use trains with those of a machine" if n["machine"] else ""
    return f"supplemental clips are not used: {counts}{advice}"


def _no_supplemental(root: Path, n: Counter[str]) -> str:
    there = f", only {n['noise']} of noise alone" if n["noise"] else ""
    return (
        f"--supplemental use: {str(root)!r} has no supplemental clip of a machine alone{there}; "
        "expected <machine_type>/supplemental/section_00_source_supplemental_machine_0000.wav, as "
        "DCASE 2025 and 2026 have; leave the flag out without them"
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
        self.attributes_csvs: list[str] = []

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
                    if is_attributes_csv(name):
                        self.attributes_csvs.append(folder + name)
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
    nearest = nearest_name(min(others))
    return (
        f"cannot tell which machine {min(others)!r} in {str(root)!r} belongs to: {reason} "
        f"({len(others)} recordings){nearest and f'; {nearest}'}. Known are {layouts_in_one_line()}"
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
