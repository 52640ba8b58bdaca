"""A CSV manifest: which recordings there are, of which machine, in which role."""

from __future__ import annotations

import csv
import os
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TextIO

from embed.recordings.dataset import (
    LABEL_WORDS,
    Clip,
    DataSet,
    FileStats,
    Skipped,
    absolute,
    data_set,
    file_stats_of,
)
from embed.recordings.formats import why_unreadable
from embed.recordings.layouts import LAYOUTS
from ground.text import visible

MANIFEST_LABELS = {
    **LABEL_WORDS,
    "0": "normal",
    "1": "anomalous",
    "unknown": "unknown",
    "": "unknown",
}
"""The words that the column `label` may hold, in any case."""

SEPARATORS = (",", ";", "\t")

_COLUMNS = ("path", "machine_type", "machine_id", "split", "label")


def is_manifest(path: Path) -> bool:
    """Tell from its ending whether a file is a manifest."""
    return path.suffix.lower() in (".csv", ".tsv")


def read_manifest(path: Path) -> DataSet:
    """Read a manifest; a fault in it is a ValueError that names the line.

    A recording may be used in several roles, such as normal for one machine and anomalous for
    another: machine or split must differ. The first role is named by the path, any further one by
    path, machine and split.
    """
    manifest = absolute(path)
    uses: dict[tuple[str, str, str, str], int] = {}
    found: list[tuple[Clip, FileStats]] = []
    skipped: list[Skipped] = []
    first_roles: set[str] = set()
    for line, row in manifest_rows(manifest, _COLUMNS):
        clip = _clip(manifest, line, row)
        use = (clip.key, *clip.machine, clip.split)
        if use in uses:
            raise ValueError(
                f"{manifest}: lines {uses[use]} and {line} name the same clip {clip.key!r} of the "
                "same machine and split; keep one of them"
            )
        uses[use] = line
        file = file_of_row(manifest.parent, clip.key)
        if isinstance(file, Skipped):
            skipped.append(file)
        else:
            found.append((_named(clip, first_roles), file))
    if not found:
        first = f"; first {skipped[0].key!r}: {skipped[0].reason}" if skipped else ""
        raise ValueError(f"{manifest} names no clip that is there{first}")
    remarks = _trained_and_tested([clip for clip, _ in found])
    return data_set(
        manifest.parent, manifest.stem, "manifest", found, skipped=set(skipped), remarks=remarks
    )


def manifest_rows(manifest: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield `(line number, row)` of a CSV whose columns are checked, values stripped.

    Columns are separated by commas, semicolons or tabs. The path of a row is normalised.
    """
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file, _fields_of_any_length():
            reader = csv.DictReader(file, delimiter=_separator(file))
            columns = reader.fieldnames or ()
            absent = [column for column in needed if column not in columns]
            if absent:
                header = visible(", ".join(columns))[:200] or "no header"
                raise ValueError(
                    f"{manifest} lacks the columns {', '.join(absent)}; expected "
                    f"{LAYOUTS['manifest']}, found {header}"
                )
            for row in reader:
                line = reader.line_num
                if None in row or None in row.values():
                    problem = "the number of fields is wrong"
                elif empty := [name for name in needed if not row[name] and name != "label"]:
                    problem = f"{empty[0]} is empty"
                elif "\0" in row["path"]:
                    problem = "the path holds a NUL byte"
                else:
                    path = PurePosixPath(os.path.normpath(row.pop("path"))).as_posix()
                    yield line, {"path": path, **{c: v.strip() for c, v in row.items()}}
                    continue
                raise ValueError(
                    f"{manifest}: line {line}: {problem}; expected {len(columns)} fields: "
                    + ", ".join(columns)
                )
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{manifest} is not UTF-8 text: {error.reason}; in Excel, save it as CSV UTF-8"
        ) from error
    except csv.Error as error:
        raise ValueError(f"{manifest} cannot be read as CSV: {error}") from error


def file_of_row(root: Path, key: str) -> FileStats | Skipped:
    """Look at the file that a row names: its size and time, or why it cannot be used."""
    try:
        about = (root / key).stat()
    except OSError as error:
        return Skipped(key, f"the manifest names it, but: {error.strerror}")
    if not stat.S_ISREG(about.st_mode):
        return Skipped(key, "the manifest names it, but it is not a regular file")
    if reason := why_unreadable(key):
        return Skipped(key, reason)
    return file_stats_of(about)


def _clip(manifest: Path, line: int, row: dict[str, str]) -> Clip:
    """Make a clip of a row; ValueError with the line for a word that is not known."""
    label = MANIFEST_LABELS.get(row["label"].lower())
    split = row["split"].lower()
    if label is None or split not in ("train", "test"):
        raise ValueError(
            f"{manifest}: line {line}: split is 'train' or 'test' and label one of "
            f"{', '.join(map(repr, MANIFEST_LABELS))}, found {row['split']!r} and {row['label']!r}"
        )
    domain = row.get("domain", "").lower()
    if domain not in ("", "source", "target"):
        raise ValueError(
            f"{manifest}: line {line}: domain is 'source', 'target' or empty, found {domain!r}"
        )
    return Clip(
        row["path"],
        unicodedata.normalize("NFC", row["machine_type"]),
        unicodedata.normalize("NFC", row["machine_id"]),
        split,
        label,
        domain,
        row.get("attributes", ""),
        row.get("group", ""),
    )


def _named(clip: Clip, first_roles: set[str]) -> Clip:
    """Give a clip a key of its own where its recording has another role already."""
    if clip.key not in first_roles:
        first_roles.add(clip.key)
        return clip
    key = f"{clip.key}#{' '.join(clip.machine)} {clip.split}"
    return replace(clip, key=key, path=clip.key)


def _trained_and_tested(clips: Sequence[Clip]) -> list[str]:
    """Remark recordings that train and test one machine."""
    uses = [(clip.split, (clip.path or clip.key, *clip.machine)) for clip in clips]
    trained = {use for split, use in uses if split == "train"}
    both = sorted({use for split, use in uses if split == "test"} & trained)
    if not both:
        return []
    path, *machine = both[0]
    return [
        f"{len(both)} recording(s) are in the training and in the test of one machine, which "
        f"makes its AUC too good: first {path!r} of {' '.join(machine)}"
    ]


def _separator(file: TextIO) -> str:
    """Tell from the header what separates the columns; the file is at its beginning again."""
    header = file.readline()
    file.seek(0)
    return max(SEPARATORS, key=header.count)


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)
