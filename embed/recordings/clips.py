"""Which clips there are: a folder or a manifest is read once and every file name is understood.

Labels come from a full match of a known layout (`LAYOUTS`) or the file is refused; a word in a
folder further up, such as `normal`, never decides anything.
"""

from __future__ import annotations

import csv
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import NamedTuple

LAYOUTS = {
    "dcase2020": "<machine_type>/<train|test>/[<normal|anomaly>_]id_<NN>_<number>.wav",
    "mimii": "<machine_type>/id_<NN>/<normal|abnormal>/<name>.wav",
    "dcase2021": "<machine_type>/<train|source_test|target_test>/"
    "section_<NN>_<source|target>_<train|test>_[<normal|anomaly>_]<number>[_<attributes>].wav",
    "dcase2022": "<machine_type>/<train|test>/"
    "section_<NN>_<source|target>_<train|test>_<normal|anomaly>_<number>[_<attributes>].wav "
    "or section_<NN>[_test]_<number>.wav",
    "dcase2023": "as dcase2022, with section_00 only (2023 to 2025)",
    "manifest": "a CSV with columns "
    "path,machine_type,machine_id,split,label[,domain,attributes,group]",
}
"""The layouts that are read, and how a path looks in each."""

FORMATS = (".wav", ".flac", ".ogg", ".mp3")

_IN_2020_TRAIN = re.compile(r"(normal)_(id_\d+)_\d+")
_IN_2020_TEST = re.compile(r"(?:(normal|anomaly)_)?(id_\d+)_\d+")
_SECTION = re.compile(
    r"(section_\d+)_(source|target)_(train|test)_(normal|anomaly)_\d+(?:_(.*))?", re.DOTALL
)
_UNLABELLED_SECTION = re.compile(r"(section_\d+)(?:(?:_(source|target))?_test)?_\d+(?:_)?")
_MIMII_ID = re.compile(r"id_\d+")
_SNR_FOLDER = re.compile(r"-?\d+_?dB(?:_(.+))?", re.DOTALL | re.IGNORECASE)

_LABELS = {"normal": "normal", "anomaly": "anomalous", "abnormal": "anomalous", None: "unknown"}
_MANIFEST_LABELS = {**_LABELS, "anomalous": "anomalous", "unknown": "unknown", "": "unknown"}
_MANIFEST_COLUMNS = ("path", "machine_type", "machine_id", "split", "label")


class UnknownMachine(ValueError):  # noqa: N818 - it reads as the sentence it is
    """A machine type or ID was asked for that the data does not have."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording: its key, a POSIX path below the data root, and what its name says of it."""

    key: str
    machine_type: str
    machine_id: str
    split: str
    """`train` or `test`."""
    label: str
    """`normal`, `anomalous` or `unknown`."""
    domain: str = ""
    """`source`, `target` or none."""
    attributes: str = ""
    group: str = ""
    """The recording that this clip and others were cut from, or none."""

    @property
    def machine(self) -> tuple[str, str]:
        """What a detector is fitted to: machine type and ID."""
        return self.machine_type, self.machine_id


class Skipped(NamedTuple):
    """A file or folder that is not used, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class DataSet:
    """The clips of one folder or manifest, in order of their keys."""

    root: Path
    """Absolute; keys are paths below it."""
    name: str
    layout: str
    """A key of `LAYOUTS`."""
    clips: tuple[Clip, ...]
    stats: tuple[tuple[int, int], ...]
    """Size in bytes and modification time in ns of each clip, as they were when it was found."""
    skipped: tuple[Skipped, ...] = ()
    remarks: tuple[str, ...] = ()
    """What is left out on purpose, such as the supplemental clips of DCASE 2025."""

    @property
    def year(self) -> int:
        """The DCASE year whose rules score this data; 2020 where there are no domains."""
        if self.layout.startswith("dcase"):
            return int(self.layout.removeprefix("dcase"))
        return 2023 if any(clip.domain for clip in self.clips) else 2020

    def path(self, key: str) -> Path:
        return self.root / key

    def contents(self) -> dict[str, tuple[int, int]]:
        """Map each key to its file's size in bytes and modification time in ns."""
        return {clip.key: found for clip, found in zip(self.clips, self.stats, strict=True)}


def find_clips(data: Path, machines: Sequence[str] = (), ids: Sequence[str] = ()) -> DataSet:
    """List the clips of a data folder, of one machine's folder or of a CSV manifest.

    `machines` and `ids` restrict machine types and IDs (`id_00` or just `00`). A path that does
    not exist is a FileNotFoundError; a machine that is not there an UnknownMachine; a folder
    without any clip of a known layout a ValueError.
    """
    if not data.exists():
        raise FileNotFoundError(
            f"there is no data at {str(data)!r}; give --data a folder of recordings, a CSV "
            "manifest, 'demo' or 'dcase2020:<machine>'"
        )
    if data.is_dir():
        found = _read_folder(Path(os.path.abspath(data)))  # noqa: PTH100 - keeps links as named
    elif data.suffix.lower() == ".csv":
        found = _read_manifest(Path(os.path.abspath(data)))  # noqa: PTH100
    else:
        raise ValueError(
            f"{str(data)!r} is a file; --data takes a folder of recordings (unpack an archive "
            "first) or a CSV manifest"
        )
    found = _restricted(found, machines, ids)
    if found.layout != "manifest":
        _check_places(found)
    return _split_mimii(found) if found.layout == "mimii" else found


def clips_of_names(names: Iterable[str], source: Path) -> DataSet:
    """Read names that another tool kept, paths below its data root, as `find_clips` reads files.

    `source` is where the names stand; there are no recordings to look at. A name that does not
    tell machine type, split and label is a ValueError.
    """
    found: list[Clip] = []
    examples: dict[str, str] = {}
    strangers: list[str] = []
    for name in sorted(names):
        parent, slash, file_name = name.rpartition("/")
        recording = file_name if file_name.lower().endswith(FORMATS) else f"{file_name}.wav"
        clip, layout = _Folder(Path(), parent + slash).clip(recording)
        if clip is None:
            strangers.append(name)
        else:
            examples.setdefault(layout, name)
            found.append(replace(clip, key=name))
    if strangers:
        raise ValueError(
            f"{len(strangers)} of {len(strangers) + len(found)} names in {source} do not tell "
            f"machine type, split and label, first {strangers[0]!r}"
        )
    layout = _the_layout(source, examples, {clip.machine_id for clip in found})
    dataset = DataSet(source, source.stem, layout, tuple(found), ((0, 0),) * len(found))
    return _split_mimii(dataset) if layout == "mimii" else dataset


def _read_folder(root: Path) -> DataSet:
    files = _Files(root)
    examples: dict[str, str] = {}
    found: list[tuple[Clip, tuple[int, int]]] = []
    strangers: list[str] = []
    n_supplemental = 0
    folder: _Folder | None = None
    for parent, name, size_and_time in files.walk():
        if folder is None or folder.key is not parent:
            folder = _Folder(root, parent)
        if folder.kind == "supplemental":
            n_supplemental += 1
            continue
        clip, layout = folder.clip(name)
        if clip is None:
            strangers.append(parent + name)
            continue
        examples.setdefault(layout, clip.key)
        found.append((clip, size_and_time))
    if not found:
        raise ValueError(_nothing_found(root, strangers, files.skipped))
    layout = _the_layout(root, examples, {clip.machine_id for clip, _ in found})
    found.sort(key=lambda pair: pair[0].key)
    reason = f"its path is of no known layout; {layout} reads {LAYOUTS[layout]}"
    remark = f"{n_supplemental} supplemental clips belong to no split and are not used"
    return DataSet(
        root=root,
        name=root.name or "data",
        layout=layout,
        clips=tuple(clip for clip, _ in found),
        stats=tuple(stats for _, stats in found),
        skipped=tuple(sorted([*files.skipped, *(Skipped(key, reason) for key in strangers)])),
        remarks=(remark,) if n_supplemental else (),
    )


class _Files:
    """Walks a folder, following links, each folder once, whatever lies in it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: dict[tuple[int, int], str] = {}
        self.skipped: list[Skipped] = []

    def walk(self) -> Iterator[tuple[str, str, tuple[int, int]]]:
        """Yield `(key of the folder, file name, (size, mtime in ns))` of each audio file."""
        about = self._root.stat()
        self._seen[about.st_dev, about.st_ino] = "."
        waiting = [""]
        while waiting:
            parent = waiting.pop()
            try:
                with os.scandir(self._root / parent) as entries:
                    inside = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                if not parent:
                    raise type(error)(
                        f"the data folder {str(self._root)!r} cannot be read: {error.strerror}"
                    ) from error
                self._skip(parent.rstrip("/"), f"the folder cannot be read: {error.strerror}")
                continue
            folders = []
            for entry in inside:
                name = entry.name
                if _is_folder(entry):
                    folders.extend(self._folder(parent, entry))
                elif name.lower().endswith(FORMATS):
                    about_file = self._stat(parent, entry)
                    if about_file is not None:
                        yield parent, name, (about_file.st_size, about_file.st_mtime_ns)
            waiting.extend(reversed(folders))

    def _folder(self, parent: str, entry: os.DirEntry[str]) -> list[str]:
        key = parent + entry.name
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            return []
        if entry.name.lower().endswith(FORMATS):
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

    def _stat(self, parent: str, entry: os.DirEntry[str]) -> os.stat_result | None:
        key = parent + entry.name
        if entry.name.startswith("."):
            self._skip(key, "a hidden file, not a recording")
            return None
        if not _is_text(key):
            self._skip(key, "the name is not valid UTF-8; rename the file")
            return None
        try:
            about = entry.stat()
        except FileNotFoundError:
            self._skip(key, "a link to nothing")
            return None
        except OSError as error:
            self._skip(key, f"cannot be read: {error.strerror}")
            return None
        if not stat.S_ISREG(about.st_mode):
            self._skip(key, "not a regular file")
            return None
        return about

    def _skip(self, key: str, reason: str) -> None:
        readable = key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        self.skipped.append(Skipped(readable, reason))


class _Folder:
    """What the names of a folder and of those above it say; its clips differ by file name only."""

    def __init__(self, root: Path, key: str) -> None:
        self.key = key
        parts: list[str] = ["", "", "", *root.parts[1:], *PurePosixPath(key).parts]
        *above, self.kind = parts
        self.machine_type = above[-1]
        self.mimii_id = ""
        if self.kind in ("normal", "abnormal") and _MIMII_ID.fullmatch(above[-1]):
            self.mimii_id = above[-1]
            self.machine_type = above[-2]
            snr = _SNR_FOLDER.fullmatch(above[-3])
            if snr and snr[1] == above[-2]:  # -6_dB_fan/fan/id_00, as the archives unpack
                self.machine_type = above[-3]
            elif snr and not snr[1]:  # -6_dB/fan/id_00
                self.machine_type = f"{above[-3]}_{above[-2]}"

    def clip(self, name: str) -> tuple[Clip | None, str]:
        """Read one file name: the clip and its layout, or none where no layout matches."""
        key, stem = self.key + name, name.rpartition(".")[0]
        if self.mimii_id:
            label = _LABELS[self.kind]
            return Clip(key, self.machine_type, self.mimii_id, "test", label), "mimii"
        if not self.machine_type:
            return None, ""
        if self.kind in ("train", "test"):
            pattern = _IN_2020_TRAIN if self.kind == "train" else _IN_2020_TEST
            if match := pattern.fullmatch(stem):
                label = _LABELS[match[1]]
                return Clip(key, self.machine_type, match[2], self.kind, label), "dcase2020"
        if self.kind in ("train", "test", "source_test", "target_test"):
            return self._section(key, stem)
        return None, ""

    def _section(self, key: str, stem: str) -> tuple[Clip | None, str]:
        label: str | None
        if match := _SECTION.fullmatch(stem):
            section, domain, split, label, attributes = match.groups("")
        elif match := _UNLABELLED_SECTION.fullmatch(stem):
            section, domain = match.groups("")
            split, label, attributes = "test", None, ""
        else:
            return None, ""
        own_domain, _, own_split = self.kind.rpartition("_")
        if split != own_split or (own_domain and own_domain != domain):
            return None, ""
        attributes = "" if attributes == "noAttribute" else attributes
        only_2021 = bool(own_domain) or (label is None and bool(domain))
        return (
            Clip(key, self.machine_type, section, split, _LABELS[label], domain, attributes),
            "dcase2021" if only_2021 else "sections",
        )


def _the_layout(root: Path, examples: dict[str, str], ids: set[str]) -> str:
    """Decide on one layout for all clips; sections of several years are told apart here."""
    layouts = {"sections" if name == "dcase2021" else name for name in examples}
    if len(layouts) > 1:
        shown = ", ".join(f"{name} ({key!r})" for name, key in sorted(examples.items()))
        raise ValueError(
            f"{str(root)!r} holds several layouts: {shown}; point --data at one of them"
        )
    if layouts != {"sections"}:
        return layouts.pop()
    if "dcase2021" in examples:
        return "dcase2021"
    return "dcase2023" if ids == {"section_00"} else "dcase2022"


def _check_places(found: DataSet) -> None:
    """Refuse a machine that lies in two places: copies, or years that share its name."""
    places: dict[tuple[str, str, str], str] = {}
    for clip in found.clips:
        folder = clip.key.rpartition("/")[0]
        kind = folder.rpartition("/")[2]
        first = places.setdefault((*clip.machine, kind), folder)
        if first != folder:
            raise ValueError(
                f"{' '.join(clip.machine)} lies in two places, {first!r} and {folder!r} in "
                f"{str(found.root)!r}; point --data at one of them, or leave the machine out"
            )


def _split_mimii(found: DataSet) -> DataSet:
    """Put the first normals of a machine, as many as it has anomalous ones, to the test clips."""
    n_anomalous = Counter(clip.machine for clip in found.clips if clip.label == "anomalous")
    n_normal = Counter(clip.machine for clip in found.clips if clip.label == "normal")
    for machine, n_test in n_anomalous.items():
        if n_normal[machine] <= n_test:
            raise ValueError(
                f"{'/'.join(machine)} has {n_normal[machine]} normal and {n_test} abnormal "
                "clips: as many normals as there are abnormal clips are kept for the test, which "
                "leaves none to train on; give a CSV manifest with your own split"
            )
    clips = []
    for clip in found.clips:
        if clip.label == "anomalous":
            clips.append(clip)
        elif n_anomalous[clip.machine]:
            n_anomalous[clip.machine] -= 1
            clips.append(clip)
        else:
            clips.append(replace(clip, split="train"))
    return replace(found, clips=tuple(clips))


def _read_manifest(manifest: Path) -> DataSet:
    root = manifest.parent
    rows: dict[str, tuple[Clip, tuple[int, int]]] = {}
    lines: dict[str, int] = {}
    skipped: list[Skipped] = []
    for line, row in _manifest_rows(manifest):
        key = PurePosixPath(os.path.normpath(row["path"])).as_posix()
        if key in lines:
            raise ValueError(
                f"{manifest}: lines {lines[key]} and {line} name the same clip {key!r}; "
                "keep one of them"
            )
        lines[key] = line
        label = _MANIFEST_LABELS.get(row["label"].lower())
        if label is None or row["split"] not in ("train", "test"):
            raise ValueError(
                f"{manifest}: line {line}: split is 'train' or 'test' and label 'normal', "
                f"'anomalous' or 'unknown', found {row['split']!r} and {row['label']!r}"
            )
        domain = row.get("domain", "")
        if domain not in ("", "source", "target"):
            raise ValueError(
                f"{manifest}: line {line}: domain is 'source', 'target' or empty, found {domain!r}"
            )
        try:
            about = (root / key).stat()
        except OSError as error:
            skipped.append(Skipped(key, f"line {line} of the manifest: {error.strerror}"))
            continue
        if not stat.S_ISREG(about.st_mode):
            skipped.append(Skipped(key, f"line {line} of the manifest: not a regular file"))
            continue
        clip = Clip(
            key,
            row["machine_type"],
            row["machine_id"],
            row["split"],
            label,
            domain,
            row.get("attributes", ""),
            row.get("group", ""),
        )
        rows[key] = (clip, (about.st_size, about.st_mtime_ns))
    if not rows:
        first = f"; first {skipped[0].key!r}: {skipped[0].reason}" if skipped else ""
        raise ValueError(f"{manifest} names no clip that is there{first}")
    ordered = [rows[key] for key in sorted(rows)]
    return DataSet(
        root=root,
        name=manifest.stem,
        layout="manifest",
        clips=tuple(clip for clip, _ in ordered),
        stats=tuple(stats for _, stats in ordered),
        skipped=tuple(sorted(skipped)),
    )


def _manifest_rows(manifest: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield `(line number, row)`, values stripped, of a CSV whose columns are checked."""
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            absent = [column for column in _MANIFEST_COLUMNS if column not in columns]
            if absent:
                raise ValueError(
                    f"{manifest} lacks the columns {', '.join(absent)}; expected "
                    f"{LAYOUTS['manifest']}, found {', '.join(columns) or 'no header'}"
                )
            for row in reader:
                empty = [c for c in ("path", "machine_type", "machine_id") if not row[c]]
                if empty or None in row or None in row.values():
                    raise ValueError(
                        f"{manifest}: line {reader.line_num}: "
                        + (f"{empty[0]} is empty" if empty else "the number of fields is wrong")
                        + f"; expected {len(columns)} fields: {', '.join(columns)}"
                    )
                path = row.pop("path")
                stripped = {column: value.strip() for column, value in row.items()}
                yield reader.line_num, {"path": path, **stripped}
    except UnicodeDecodeError as error:
        raise ValueError(f"{manifest} is not UTF-8 text: {error.reason}") from error


def _restricted(found: DataSet, machines: Sequence[str], ids: Sequence[str]) -> DataSet:
    if not machines and not ids:
        return found
    types = {clip.machine_type for clip in found.clips}
    if machines:
        types = _chosen("machine type", machines, types, _bare_type)
    all_ids = {clip.machine_id for clip in found.clips if clip.machine_type in types}
    if ids:
        all_ids = _chosen("machine ID", ids, all_ids, lambda name: name.rpartition("_")[2])
    kept = [
        (clip, stats)
        for clip, stats in zip(found.clips, found.stats, strict=True)
        if clip.machine_type in types and clip.machine_id in all_ids
    ]
    return replace(
        found, clips=tuple(clip for clip, _ in kept), stats=tuple(stats for _, stats in kept)
    )


def _bare_type(machine_type: str) -> str:
    snr = _SNR_FOLDER.fullmatch(machine_type)
    return (snr and snr[1]) or machine_type


def _chosen(
    kind: str, wanted: Iterable[str], there: set[str], short: Callable[[str], str]
) -> set[str]:
    """Pick the names asked for, in full or in short; one that is not there is an error."""
    chosen = set()
    for name in wanted:
        matching = {each for each in there if name in (each, short(each))}
        if not matching:
            near = get_close_matches(name, [*there, *map(short, there)], n=1, cutoff=0.5)
            raise UnknownMachine(
                f"the data has no {kind} {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else ";")
                + f" It has {', '.join(sorted(there))}"
            )
        chosen |= matching
    return chosen


def _nothing_found(root: Path, strangers: Sequence[str], skipped: Sequence[Skipped]) -> str:
    layouts = "; ".join(f"{name}: {shape}" for name, shape in LAYOUTS.items())
    if strangers:
        return (
            f"cannot tell which machine {min(strangers)!r} in {str(root)!r} belongs to "
            f"({len(strangers)} recordings, none of a known layout). Known are {layouts}"
        )
    also = "".join(f" ({len(skipped)} refused, first {s.key!r}: {s.reason})" for s in skipped[:1])
    return (
        f"there are no recordings ({', '.join(FORMATS)}) in {str(root)!r}"
        f"{also}. Known layouts are {layouts}"
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
