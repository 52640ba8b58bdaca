"""Ground truth that comes apart from the clips: labels and domains of evaluation sets.

Read are, as one file or as a folder of them:

- DCASE's `ground_truth_<machine_type>_<section>_test.csv` without heading: lines `clip,0` or
  `clip,1`, which are labels (1 is anomalous), or domains (1 is target) below `ground_truth_domain`;
  or lines `clip,name that tells label and domain`, as below `ground_truth_attributes`;
- the baseline's `eval_data_list_<year>.csv`: a line per machine type, then such lines of its clips;
- a CSV manifest, of which `path`, `machine_type`, `machine_id`, `label` and `domain` are used.

Labels are for results only; nothing here reaches a fit.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from embed.recordings.attributes import stem_of
from embed.recordings.dataset import Clip, DataSet
from embed.recordings.layouts import label_and_domain, section_or_id, short_name
from embed.recordings.manifest import MANIFEST_LABELS, manifest_rows
from ground.text import one_line, visible

Machine = tuple[str, str]
"""Machine type and machine ID."""
Said = tuple[str, str]
"""Label, `normal`, `anomalous` or `unknown`; and domain, `source`, `target` or ""."""

_FILE = re.compile(
    r"ground_truth_(?P<machine_type>.+?)_(?:section|id)_\d+(?:_(?:source|target))?(?:_test)?\.csv"
)
_LIST = re.compile(r"eval_data_list_\d+\.csv")
_EXPECTED = (
    "expected ground_truth_<machine_type>_<section>_test.csv with lines 'clip,0' or 'clip,1', "
    "eval_data_list_<year>.csv, or a manifest"
)
_MANIFEST_COLUMNS = ("path", "machine_type", "machine_id", "label")


@dataclass(frozen=True)
class GroundTruth:
    """What files say of clips, by machine and name; folders and endings of names do not matter."""

    path: Path
    said: Mapping[tuple[Machine, str], Said]
    by_path: Mapping[tuple[Machine, str], Said]
    """Clips of a machine that share their name, such as normal/1.wav and abnormal/1.wav."""

    def of(self, machine: Machine, name: str) -> Said | None:
        """Return label and domain of a clip by its name or path; None where it is not named."""
        folder, short = _parted(name)
        return self.said.get((machine, short)) or self.by_path.get((machine, f"{folder}/{short}"))


def read_ground_truth(path: str | Path) -> GroundTruth:
    """Read a file, or all files of a folder and of those below it.

    A path that does not exist is a FileNotFoundError. A folder without such files, a line that
    cannot be understood, a clip that is named twice or in two ways is a ValueError. Clips of one
    machine whose paths differ only in their folders are found by these paths.
    """
    given = Path(path)
    if not given.exists():
        raise FileNotFoundError(f"there are no labels at {str(given)!r}; {_EXPECTED}")
    files = [given]
    if given.is_dir():
        csvs = sorted(file for file in given.rglob("*.csv") if file.is_file())
        files = [file for file in csvs if _FILE.fullmatch(file.name)]
        files = files or [file for file in csvs if _LIST.fullmatch(file.name)]
    if not files:
        raise ValueError(f"{given} holds no ground truth; {_EXPECTED}")
    said: dict[tuple[Machine, str], Said] = {}
    by_path: dict[tuple[Machine, str], Said] = {}
    for file in files:
        rows = list(_rows(file))
        names = Counter((machine, _parted(name)[1]) for _, machine, name, _ in rows)
        lines: dict[tuple[Machine, str], int] = {}
        for line, machine, name, new in rows:
            folder, short = _parted(name)
            place, name_alone = (machine, f"{folder}/{short}"), (machine, short)
            if place in lines:
                raise ValueError(
                    f"{file}: lines {lines[place]} and {line} name the same clip "
                    f"{visible(name)!r}; keep one of them"
                )
            lines[place] = line
            is_unique = names[name_alone] == 1
            found, key = (said, name_alone) if is_unique else (by_path, place)
            found[key] = _together(found.get(key, ("unknown", "")), new, f"{file}: line {line}")
    return GroundTruth(given, said, by_path)


def _parted(name: str) -> tuple[str, str]:
    """Part the path of a clip into its folder and the short form of its name."""
    return name.replace("\\", "/").rpartition("/")[0], short_name(stem_of(name))


def with_labels(dataset: DataSet, truth: GroundTruth) -> DataSet:
    """Give unlabelled test clips the labels and domains that they have in the ground truth.

    ValueError where it names none of them, or contradicts a clip's own name. What it lacks, and
    what it names in vain, are remarks.
    """
    waiting = [clip for clip in dataset if (clip.split, clip.label) == ("test", "unknown")]
    clips = tuple(_labelled(clip, truth) for clip in dataset)
    lacking = [clip for clip in clips if (clip.split, clip.label) == ("test", "unknown")]
    if waiting and len(lacking) == len(waiting):
        first = next((f"{name!r} of {kind}" for (kind, _), name in truth.said), "no clip")
        raise ValueError(
            f"{truth.path} labels none of the {len(waiting)} test clips without a label in "
            f"{dataset.root}: the first is {waiting[0].key!r}, and it names {first}; are they of "
            "the same year?"
        )
    remarks = [f"{len(waiting) - len(lacking)} test clip(s) have their labels from {truth.path}"]
    if lacking:
        remarks.append(f"{truth.path} has no label of {len(lacking)}, first {lacking[0].key!r}")
    machines = {clip.machine for clip in clips}
    there = {(clip.machine, short_name(stem_of(clip.path or clip.key))) for clip in clips}
    absent = [name for machine, name in truth.said.keys() - there if machine in machines]
    if absent:
        remarks.append(
            f"{truth.path} names {len(absent)} clip(s) that are not there, first {min(absent)!r}"
        )
    return replace(dataset, clips=clips, remarks=(*dataset.remarks, *remarks))


def _labelled(clip: Clip, truth: GroundTruth) -> Clip:
    """Label a test clip; ValueError where its name says another label."""
    if clip.split != "test":
        return clip
    label, domain = truth.of(clip.machine, clip.path or clip.key) or ("unknown", "")
    if "unknown" not in (label, clip.label) and label != clip.label:
        raise ValueError(f"{truth.path} calls {clip.key!r} {label}, its name {clip.label}")
    label = clip.label if label == "unknown" else label
    return replace(clip, label=label, domain=clip.domain or domain)


def _together(before: Said, new: Said, place: str) -> Said:
    """Put what two files say of a clip together; ValueError where they differ."""
    for old, now in zip(before, new, strict=True):
        if old != now and not {old, now} & {"unknown", ""}:
            raise ValueError(f"{place} says {now} of a clip that another file calls {old}")
    label = before[0] if new[0] == "unknown" else new[0]
    return label, new[1] or before[1]


def _rows(file: Path) -> Iterator[tuple[int, Machine, str, Said]]:
    """Yield line number, machine, name, and label and domain of each clip that a file names."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            heading = opened.readline()
            if "path" in heading and "label" in heading:
                yield from _manifest_rows(file)
                return
            opened.seek(0)
            reader = csv.reader(opened)
            match = _FILE.fullmatch(file.name)
            machine_type = match["machine_type"] if match else ""
            for row in reader:
                cells = [cell.strip() for cell in row]
                if cells and not any(cells[1:]):  # a line per machine type
                    machine_type = cells[0] or machine_type
                elif cells:
                    place = f"{file}: line {reader.line_num}"
                    yield (reader.line_num, *_understood(machine_type, cells, file, place))
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: {one_line(error)}") from error
    except csv.Error as error:
        raise ValueError(f"{file} cannot be read as CSV: {one_line(error)}") from error


def _understood(
    machine_type: str, cells: list[str], file: Path, place: str
) -> tuple[Machine, str, Said]:
    """Read a line `clip,0 or 1` or `clip,full name`; ValueError for anything else."""
    name, value = cells[:2]
    machine_id = section_or_id(stem_of(name))
    if not machine_type or not machine_id:
        what = "machine type" if not machine_type else f"machine ID of {visible(name)!r}"
        raise ValueError(f"{place}: cannot tell the {what}; {_EXPECTED}")
    if value in ("0", "1"):
        if file.parent.name == "ground_truth_domain":
            said = "unknown", ("source", "target")[int(value)]
        else:
            said = ("normal", "anomalous")[int(value)], label_and_domain(stem_of(name))[1]
    else:
        said = label_and_domain(stem_of(value))
        if said[0] == "unknown":
            raise ValueError(
                f"{place}: expected 0, 1 or a name that tells the label, found {visible(value)!r}"
            )
    return (machine_type, machine_id), name, said


def _manifest_rows(file: Path) -> Iterator[tuple[int, Machine, str, Said]]:
    """Yield what a manifest says of its test clips; their recordings need not be there."""
    for line, row in manifest_rows(file, _MANIFEST_COLUMNS):
        label = MANIFEST_LABELS.get(row["label"].lower())
        if label is None:
            raise ValueError(f"{file}: line {line}: {row['label']!r} is no label")
        if row.get("split", "test").lower() == "test":
            machine = row["machine_type"], row["machine_id"]
            yield line, machine, row["path"], (label, row.get("domain", "").lower())
