"""Attributes CSVs of DCASE Task 2: the conditions that a clip was recorded under, joined to it.

`attributes_00.csv` in a machine's folder has the columns `file_name,d1p,d1v[,d2p,d2v...]`, and
`attributes_00_train_correspondence.csv` has `source_file_name,target_file_name`: the name of a clip
with its attributes, and the one that it is published under. Names have folders or not, and end in
`.wav` or not. Attributes decide no score, so what is wrong with such a file is a remark.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from embed.recordings.dataset import Clip, FileStats
from embed.recordings.formats import is_recording
from embed.recordings.layouts import attributes_in_name
from ground.text import one_line, visible

Found = tuple[Clip, FileStats]

_FILE_NAME = re.compile(r"attributes_\d+(?:_\w+_correspondence)?\.csv", re.IGNORECASE)
_PARAMETER = re.compile(r"d\d+p")


def is_attributes_csv(name: str) -> bool:
    """Tell an attributes CSV from its file name."""
    return _FILE_NAME.fullmatch(name) is not None


def stem_of(name: str) -> str:
    """Shorten a path, with or without folders and the ending of a recording, to the clip's name."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return last.rpartition(".")[0] if is_recording(last) else last


def join_attributes(
    root: Path, csv_keys: Sequence[str], found: Sequence[Found]
) -> tuple[list[Found], list[str]]:
    """Give the clips the attributes that CSVs in their machine's folder say; also what is odd.

    `csv_keys` are the paths of the CSVs below the root. A domain in a column `domain` is taken
    where the name of the clip has none. Of several rows about one clip the first counts.
    """
    joined, remarks = list(found), []
    numbers: dict[tuple[str, str], list[int]] = {}
    for i, (clip, _) in enumerate(found if csv_keys else ()):
        folder, _, _ = clip.key.rpartition("/")
        numbers.setdefault((folder.rpartition("/")[0], stem_of(clip.key)), []).append(i)
    for key in csv_keys:
        folder = key.rpartition("/")[0]
        rows = _Rows(root / key)
        for stem, row in rows:
            for i in numbers.get((folder, stem), ()):
                clip, stats = joined[i]
                changed = replace(
                    clip,
                    attributes=row["attributes"] or clip.attributes,
                    domain=clip.domain or row["domain"],
                )
                joined[i] = changed, stats
            if (folder, stem) not in numbers:
                rows.absent.append(stem)
        remarks += [f"{key}: {remark}" for remark in rows.remarks()]
    return joined, remarks


@dataclass
class _Rows:
    """The rows of an attributes CSV, clip by clip, and what was odd about them."""

    path: Path
    problem: str = ""
    repeated: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    """Clips that it names and that are not in its folder."""

    def __iter__(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the name of each clip, with its attributes and domain, "" where there are none."""
        seen: set[str] = set()
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file)
                columns = reader.fieldnames or []
                if not {"file_name", "target_file_name"} & set(columns):
                    header = visible(",".join(columns))[:100] or "nothing"
                    self.problem = f"expected the columns file_name,d1p,d1v, found {header}"
                    return
                for row in reader:
                    stem = stem_of(row.get("file_name") or row.get("target_file_name") or "")
                    if stem in seen:
                        self.repeated.append(stem)
                    elif stem:
                        seen.add(stem)
                        yield stem, _said(row)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            self.problem = one_line(error)

    def remarks(self) -> list[str]:
        """Say what was odd, one line each."""
        said = [f"not joined to clips: {self.problem}"] if self.problem else []
        for names, what in (
            (self.absent, "clip(s) that are not there"),
            (self.repeated, "clip(s) again, whose first row counts"),
        ):
            if names:
                said.append(f"it names {len(names)} {what}, first {visible(names[0])!r}")
        return said


def _said(row: Mapping[str | None, str | None]) -> dict[str, str]:
    """Put the parameters and values of a row together as names of clips do: `vel_6_loc_A`."""
    if source := row.get("source_file_name"):
        return {"attributes": attributes_in_name(stem_of(source)), "domain": ""}
    pairs = [
        (value.strip(), (row.get(f"{column[:-1]}v") or "").strip())
        for column, value in row.items()
        if column and value and _PARAMETER.fullmatch(column)
    ]
    domain = (row.get("domain") or "").strip().lower()
    return {
        "attributes": "_".join(f"{name}_{value}" for name, value in pairs if name and value),
        "domain": domain if domain in ("source", "target") else "",
    }
