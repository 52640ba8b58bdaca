"""Find recordings that are to be judged: their labels are not read, their machines may be."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from embed.recordings.dataset import (
    LABEL_WORDS,
    Clip,
    DataSet,
    FileStats,
    Skipped,
    absolute,
    data_set,
    file_stats_of,
    same_name,
)
from embed.recordings.folders import Walk
from embed.recordings.formats import is_recording, why_unreadable
from embed.recordings.layouts import FolderNames
from embed.recordings.manifest import file_of_row, is_manifest, manifest_rows

Machine = tuple[str, str]
"""Machine type and machine ID."""

NO_MACHINE: Machine = ("", "")


def find_new_clips(path: str | Path, machines: Sequence[Machine]) -> DataSet:
    """List recordings to be judged: a file, a folder of files, folders by machine or a manifest.

    Every clip has the split `test` and the label `unknown`. `machines` are those of the model; a
    clip's machine is the one that its folder, its path in a known layout or its row names. A
    folder that names none of them becomes a machine type without ID, which the model does not
    know; a file in no folder has the machine `("", "")`. A manifest needs the column `path` only.
    A path that does not exist is a FileNotFoundError, one without any recording a ValueError.
    """
    given = Path(path)
    if not given.exists():
        raise FileNotFoundError(f"there is no recording or folder at {str(given)!r}")
    names = names_of(machines)
    if given.is_dir():
        return _in_folder(absolute(given), names)
    if is_manifest(given):
        return _in_manifest(absolute(given), names)
    return _one_file(absolute(given), names)


def names_of(machines: Sequence[Machine]) -> dict[str, Machine]:
    """Map everything that a folder or a row may call a machine to it."""
    names: dict[str, Machine] = {}
    types = [machine_type for machine_type, _ in machines]
    for machine_type, machine_id in machines:
        for separator in (" ", "_", "/"):
            name = f"{machine_type}{separator}{machine_id}" if machine_id else machine_type
            names[same_name(name)] = machine_type, machine_id
        if types.count(machine_type) == 1:
            names.setdefault(same_name(machine_type), (machine_type, machine_id))
    return names


def _one_file(file: Path, names: Mapping[str, Machine]) -> DataSet:
    if not is_recording(file.name):
        raise ValueError(
            f"{str(file)!r} is no recording by its ending; wav, flac, ogg, mp3, m4a and others are"
        )
    if reason := why_unreadable(file.name):
        raise ValueError(f"{str(file)!r} cannot be read: {reason}")
    machine = _machine_of_folders(file.parent, (), names)
    clip = _new(file.name, machine)
    return data_set(file.parent, file.stem, "plain", [(clip, file_stats_of(file.stat()))])


def _in_folder(root: Path, names: Mapping[str, Machine]) -> DataSet:
    """List the recordings of a folder; their machine by name or by folder, if either tells it."""
    walk = Walk(root)
    found: list[tuple[Clip, FileStats]] = []
    for file in walk.files():
        machine = machine_of_file(root, file.folder, file.name, names)
        found.append((_new(file.folder + file.name, machine), file.stats))
    if not found:
        first = min(walk.skipped, default=None)
        why = first and f"; {len(walk.skipped)} cannot be used, first {first.key!r}: {first.reason}"
        raise ValueError(f"there are no recordings in {str(root)!r}{why or ''}")
    return data_set(root, root.name or "data", "plain", found, skipped=walk.skipped)


def machine_of_file(root: Path, folder: str, name: str, names: Mapping[str, Machine]) -> Machine:
    """Tell which machine a file is of, by its name in a known layout or else by its folders.

    `folder` is the key of its folder below the root, empty or ending in `/`; `names` are those of
    `names_of`. A folder that names none of them is a machine type without ID.
    """
    known, _ = FolderNames(root, folder).clip(name)
    return known.machine if known else _machine_of_folders(root, PurePosixPath(folder).parts, names)


def _in_manifest(manifest: Path, names: Mapping[str, Machine]) -> DataSet:
    """List the recordings that a manifest names; those that are not there are skipped."""
    found: dict[str, tuple[Clip, FileStats]] = {}
    skipped: list[Skipped] = []
    for _, row in manifest_rows(manifest, ["path"]):
        file = file_of_row(manifest.parent, row["path"])
        if isinstance(file, Skipped):
            skipped.append(file)
            continue
        named = row.get("machine_type", ""), row.get("machine_id", "")
        machine = names.get(same_name(" ".join(named).strip()), named)
        clip = replace(_new(row["path"], machine), group=row.get("group", ""))
        if found.setdefault(clip.key, (clip, file))[0].machine != machine:
            key = f"{clip.key}#{' '.join(machine).strip()}"
            found[key] = replace(clip, key=key, path=clip.key), file
    if not found:
        first = f"; first {skipped[0].key!r}: {skipped[0].reason}" if skipped else ""
        raise ValueError(f"{manifest} names no clip that is there{first}")
    return data_set(manifest.parent, manifest.stem, "manifest", found.values(), set(skipped))


def _machine_of_folders(
    root: Path, folders: Sequence[str], names: Mapping[str, Machine]
) -> Machine:
    """Find the machine that the folders below the root name, or those that lead to it."""
    inside = [folder for folder in folders if folder.lower() not in LABEL_WORDS]
    for parts in (inside[:2], inside[:1], root.parts[-2:], root.parts[-1:]):
        if (name := same_name("/".join(parts))) in names:
            return names[name]
    return (unicodedata.normalize("NFC", inside[0]), "") if inside else NO_MACHINE


def _new(key: str, machine: Machine) -> Clip:
    return Clip(key, *machine, split="test", label="unknown")
