"""The plainest layout: each sub-folder is a machine, and all its recordings are normal.

A folder of files is one machine of the folder's name. Sub-folders `normal` and `anomalous` (or
another word of `LABEL_WORDS`) directly inside a machine's folder make a test set.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from embed.recordings.dataset import (
    LABEL_WORDS,
    Clip,
    DataSet,
    FileStats,
    Skipped,
    data_set,
    same_name,
)
from embed.recordings.layouts import SPLIT_FOLDERS, is_name_of_a_layout

_ANOMALOUS_WORDS = {word for word, label in LABEL_WORDS.items() if label == "anomalous"}


def why_not_plain(root: Path, keys: Iterable[str]) -> str:
    """Say why these recordings are not in the plain layout, or "" where they can be.

    What looks like a test set of another layout, or like anomalous recordings in an unexpected
    place, must not be learned as normal.
    """
    if root.name.lower() in SPLIT_FOLDERS:
        return f"the data folder is called {root.name!r}, which belongs to another layout"
    for key in keys:
        *folders, name = PurePosixPath(key).parts
        if is_name_of_a_layout(name.rpartition(".")[0]):
            return f"{key!r} has a name of DCASE, but does not lie in a folder train or test"
        has_label = False
        for depth, folder in enumerate(folders):
            if depth < 2 and not has_label and folder.lower() in LABEL_WORDS:
                has_label = True
            elif folder.lower() in SPLIT_FOLDERS or _words(folder) & _ANOMALOUS_WORDS:
                return (
                    f"the folder {folder!r} of {key!r} seems to name a label or a split; the plain "
                    "layout knows normal and anomalous only, directly inside a machine's folder"
                )
    return ""


def _words(name: str) -> set[str]:
    return {*re.split(r"[\W\d_]+", name.lower())}


def read_plain(
    root: Path,
    files: Mapping[str, FileStats],
    top_folders: Sequence[str],
    skipped: Sequence[Skipped],
    other_files: Counter[str],
) -> DataSet:
    """Read recordings, keys below the root, as normal ones of the machines they lie in.

    Two machines of one name, and folders that may be machines or labels, are ValueErrors.
    """
    in_folders = {PurePosixPath(key).parts[0] for key in files if "/" in key}
    labels = {folder for folder in in_folders if folder.lower() in LABEL_WORDS}
    if labels and labels != in_folders:
        raise ValueError(
            f"{min(labels)!r} and {min(in_folders - labels)!r} lie side by side in "
            f"{str(root)!r}: it is either one machine, with folders normal and anomalous, or "
            "several, with a folder for each"
        )
    is_one_machine = bool(labels) or not in_folders
    machine_of = {key: "" if is_one_machine else key.partition("/")[0] for key in files}
    names = _names(root, set(machine_of.values()) - ({""} if in_folders - labels else set()))
    found: list[tuple[Clip, FileStats]] = []
    left_out: list[Skipped] = []
    with_normal_folder = {
        machine_of[key] for key in files if _label(key, machine_of[key]) == "normal"
    }
    for key, stats in files.items():
        folder = machine_of[key]
        label = _label(key, folder)
        if not is_one_machine and "/" not in key:
            left_out.append(Skipped(key, "it lies beside the machines' folders, not in one"))
        elif not label and folder in with_normal_folder:
            left_out.append(Skipped(key, "it lies beside the folder of normal recordings"))
        elif not label and _words(PurePosixPath(key).stem) & _ANOMALOUS_WORDS:
            left_out.append(Skipped(key, "its name says anomalous, but no folder does"))
        else:
            split = "test" if label == "anomalous" else "train"
            found.append((Clip(key, names[folder], "", split, label or "normal"), stats))
    clips = _with_test_normals([clip for clip, _ in found], "" if is_one_machine else "/")
    silent = [f for f in top_folders if not is_one_machine and f not in in_folders]
    return data_set(
        root,
        root.name or "data",
        "plain",
        zip(clips, (stats for _, stats in found), strict=True),
        skipped=[*skipped, *left_out],
        remarks=_remarks(clips, silent, other_files),
    )


def _label(key: str, machine: str) -> str:
    """Read the label from the folder directly inside the machine's one, or "" without any."""
    folder, slash, _ = key.removeprefix(f"{machine}/" if machine else "").partition("/")
    return LABEL_WORDS.get(folder.lower(), "") if slash else ""


def _names(root: Path, folders: Iterable[str]) -> dict[str, str]:
    """Name the machine of each folder; names that differ in case or normal form are refused."""
    names: dict[str, str] = {}
    first: dict[str, str] = {}
    for folder in sorted(folders):
        names[folder] = unicodedata.normalize("NFC", folder or root.name or "data")
        other = first.setdefault(same_name(names[folder]), folder)
        if other != folder:
            raise ValueError(
                f"the folders {other!r} and {folder!r} in {str(root)!r} are two machines of one "
                "name (upper and lower case and Unicode forms are not told apart); rename one"
            )
    return names


def _with_test_normals(clips: Sequence[Clip], separator: str) -> list[Clip]:
    """Move normal clips of machines that have anomalous ones to the test.

    As many as there are anomalous ones, at most half: those whose path inside the machine's
    folder has the smallest SHA-256. New recordings hardly change the choice.
    """
    n_anomalous = Counter(clip.machine for clip in clips if clip.label == "anomalous")
    normals: dict[tuple[str, str], list[Clip]] = {machine: [] for machine in n_anomalous}
    for clip in clips:
        if clip.label == "normal" and clip.machine in normals:
            normals[clip.machine].append(clip)
    chosen: set[str] = set()
    for machine, own in normals.items():
        n_test = min(n_anomalous[machine], len(own) // 2)
        own.sort(
            key=lambda clip: _hash(clip.key.partition(separator)[2] if separator else clip.key)
        )
        chosen.update(clip.key for clip in own[:n_test])
    return [replace(clip, split="test") if clip.key in chosen else clip for clip in clips]


def _hash(path: str) -> bytes:
    return hashlib.sha256(unicodedata.normalize("NFC", path).encode()).digest()


def _remarks(clips: Sequence[Clip], silent: Sequence[str], other_files: Counter[str]) -> list[str]:
    n_machines = len({clip.machine for clip in clips})
    n_anomalous = sum(clip.label == "anomalous" for clip in clips)
    n_kept = sum((clip.label, clip.split) == ("normal", "test") for clip in clips)
    n_normal = len(clips) - n_anomalous
    remarks = [
        f"plain layout: {n_machines} machine(s), named after their folders, with {n_normal} "
        f"recordings taken as normal and {n_anomalous} as anomalous"
        + (f"; {n_kept} of the normal ones are kept for the test" if n_anomalous else "")
    ]
    if silent:
        shown = ", ".join(map(repr, silent[:5])) + (" and others" if len(silent) > 5 else "")
        remarks.append(f"{len(silent)} folder(s) without any recording: {shown}")
    if other_files:
        counts = ", ".join(f"{n} {ending}" for ending, n in other_files.most_common(5))
        n_more = len(other_files) - 5
        remarks.append(
            f"{sum(other_files.values())} other file(s) are not recordings: {counts}"
            + (f" and {n_more} more kinds" if n_more > 0 else "")
        )
    return remarks
