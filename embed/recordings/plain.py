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
        if reason := _why_name_contradicts(folders, name):
            return f"{key!r} {reason}"
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


def _why_name_contradicts(folders: Sequence[str], name: str) -> str:
    """Say how a name of DCASE contradicts the folders, or "" where it is a name like others.

    A name that says normal may lie anywhere but among anomalous recordings; one that says anomaly
    among those only; and one that says neither needs a folder train or test to be understood.
    """
    stem = name.rpartition(".")[0]
    if not is_name_of_a_layout(stem):
        return ""
    words = _words(stem)
    said = "anomalous" if words & _ANOMALOUS_WORDS else "normal" if "normal" in words else ""
    placed = [LABEL_WORDS[f.lower()] for f in folders[:2] if f.lower() in LABEL_WORDS]
    if not said or "test" in words:
        return "has a name of DCASE's test clips, but does not lie in a folder train or test"
    if said != (placed[0] if placed else "normal"):
        return f"has a name that says {said}, but does not lie in a folder of {said} recordings"
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
    """Read recordings, keys below the root, as those of the machines in whose folders they lie.

    Two machines of one name, and folders that may be machines or labels, are ValueErrors.
    """
    folders = {key.partition("/")[0] for key in files if "/" in key}
    labels = {folder for folder in folders if folder.lower() in LABEL_WORDS}
    if labels and labels != folders:
        raise ValueError(
            f"{min(labels)!r} and {min(folders - labels)!r} lie side by side in "
            f"{str(root)!r}: it is either one machine, with folders normal and anomalous, or "
            "several, with a folder for each"
        )
    is_one_machine = bool(labels) or not folders
    left_out = list(skipped)
    members: dict[str, list[str]] = {}
    for key in files:
        if is_one_machine:
            members.setdefault("", []).append(key)
        elif "/" in key:
            members.setdefault(key.partition("/")[0], []).append(key)
        else:
            left_out.append(Skipped(key, "it lies beside the machines' folders, not in one"))
    clips: list[Clip] = []
    for folder, name in _names(root, members).items():
        own, unclear = _clips_of_machine(name, folder, members[folder])
        clips += own
        left_out += unclear
    silent = [] if is_one_machine else [folder for folder in top_folders if folder not in folders]
    return data_set(
        root,
        root.name or "data",
        "plain",
        ((clip, files[clip.key]) for clip in clips),
        skipped=left_out,
        remarks=_remarks(clips, silent, other_files),
    )


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


def _clips_of_machine(
    name: str, folder: str, keys: Sequence[str]
) -> tuple[list[Clip], list[Skipped]]:
    """Label and split the recordings of one machine.

    Of a machine with anomalous recordings, as many normal ones as those are test clips, at most
    half: those whose path inside the machine's folder has the smallest SHA-256. So the choice
    hardly changes with new recordings.
    """
    paths = {key: key.removeprefix(f"{folder}/") if folder else key for key in keys}
    label_of = {key: _label(path) for key, path in paths.items()}
    has_normal_folder = "normal" in label_of.values()
    skipped: list[Skipped] = []
    for key, label in label_of.items():
        if not label and has_normal_folder:
            skipped.append(Skipped(key, "it lies beside the folder of normal recordings"))
        elif not label and _words(PurePosixPath(key).stem) & _ANOMALOUS_WORDS:
            skipped.append(Skipped(key, "its name says anomalous, but no folder does"))
        elif not label:
            label_of[key] = "normal"
    normals = [key for key, label in label_of.items() if label == "normal"]
    n_anomalous = sum(label == "anomalous" for label in label_of.values())
    normals.sort(key=lambda key: _hash(paths[key]))
    train = frozenset(normals[min(n_anomalous, len(normals) // 2) :])
    clips = [
        Clip(key, name, "", "train" if key in train else "test", label)
        for key, label in label_of.items()
        if label
    ]
    return clips, skipped


def _label(path: str) -> str:
    """Read the label from the first folder inside the machine's one, or "" without any."""
    folder, slash, _ = path.partition("/")
    return LABEL_WORDS.get(folder.lower(), "") if slash else ""


def _hash(path: str) -> bytes:
    return hashlib.sha256(unicodedata.normalize("NFC", path).encode()).digest()


def _remarks(clips: Sequence[Clip], silent: Sequence[str], other_files: Counter[str]) -> list[str]:
    """Say what was taken as normal, and what was passed over."""
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
