"""What paths say in the layouts of DCASE Task 2 and MIMII, and which layout a data set has.

Labels come from a full match of a known layout; a word in a folder further up, such as `normal`,
never decides anything.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from embed.recordings.dataset import Clip, DataSet
from embed.recordings.dcase_years import year_of

LAYOUTS = {
    "dcase2020": "<machine_type>/<train|test>/[<normal|anomaly>_]id_<NN>_<number>.wav",
    "mimii": "<machine_type>/id_<NN>/<normal|abnormal>/<name>.wav",
    "dcase2021": "<machine_type>/<train|source_test|target_test>/"
    "section_<NN>_<source|target>_<train|test>_[<normal|anomaly>_]<number>[_<attributes>].wav",
    "dcase2022": "<machine_type>/<train|test>/"
    "section_<NN>_<source|target>_<train|test>_<normal|anomaly>_<number>[_<attributes>].wav "
    "or section_<NN>[_test]_<number>.wav",
    "dcase2023": "as dcase2022, with section_00 only",
    "dcase2024": "as dcase2023",
    "dcase2025": "as dcase2023, and <machine_type>/supplemental/"
    "section_00_source_supplemental_machine_<number>.wav or section_00_machine_<number>_.wav",
    "dcase2026": "as dcase2025",
    "plain": "<machine>/[<normal|anomalous>/]<name>.wav, where every other name is normal",
    "manifest": "a CSV with columns "
    "path,machine_type,machine_id,split,label[,domain,attributes,group]",
}
"""The layouts that are read, and how a path looks in each."""

SNR_FOLDER = re.compile(r"-?\d+_?dB(?:_(.+))?", re.DOTALL | re.IGNORECASE)
"""A folder of MIMII that is named after its signal-to-noise ratio."""

SPLIT_FOLDERS = ("train", "test", "source_test", "target_test")

_IN_2020_TRAIN = re.compile(r"(normal)_(id_\d+)_\d+")
_IN_2020_TEST = re.compile(r"(?:(normal|anomaly)_)?(id_\d+)_\d+")
_SECTION = re.compile(
    r"(section_\d+)_(source|target)_(train|test)_(normal|anomaly)_\d+(?:_(.*))?", re.DOTALL
)
_UNLABELLED_SECTION = re.compile(r"(section_\d+)(?:(?:_(source|target))?_test)?_\d+(?:_)?")
_MACHINE_ALONE = re.compile(
    r"(section_\d+)_(?:(source|target)_supplemental_)?machine_\d+(?:_(.*))?", re.DOTALL
)
_NOISE_ALONE = re.compile(r"section_\d+_noise(?:_supplemental_\w+)?_\d+(?:_.*)?", re.DOTALL)
_MACHINE_ID = re.compile(r"(?:(?:normal|anomaly)_)?((?:section|id)_\d+)_")
_MIMII_ID = re.compile(r"id_\d+")

_EXAMPLES = {
    "train/normal_id_00_00000000": "dcase2020",
    "test/normal_id_00_00000000": "dcase2020",
    "test/anomaly_id_00_00000000": "dcase2020",
    "train/section_00_source_train_normal_0000": "dcase2022",
    "train/section_00_target_train_normal_0000": "dcase2022",
    "test/section_00_source_test_normal_0000": "dcase2022",
    "test/section_00_target_test_anomaly_0000": "dcase2022",
    "test/section_00_test_0000": "dcase2022",
    "source_test/section_00_source_test_normal_0000": "dcase2021",
    "target_test/section_00_target_test_anomaly_0000": "dcase2021",
}
_NEARLY = 0.85
"""A path is nearly one of a layout where this share of its characters is as in an example."""

_SECTIONED = {"dcase2021", "dcase2022"}
_LABELS = {"normal": "normal", "anomaly": "anomalous", "abnormal": "anomalous", None: "unknown"}


class Supplemental(NamedTuple):
    """A clip beside the data set: what it holds, and the training clip that it can be."""

    kind: str
    """`machine` alone, `noise` alone, or "" where the name does not tell."""
    clip: Clip | None


class FolderNames:
    """What the names of a folder and of those above it say; its clips differ by file name only."""

    def __init__(self, root: Path, key: str) -> None:
        self.key = key
        names = unicodedata.normalize("NFC", "/".join([*root.parts[1:], key]))
        parts: list[str] = ["", "", "", *PurePosixPath(names).parts]
        *above, self.kind = parts
        self.machine_type = above[-1]
        self.mimii_id = ""
        if self.kind in ("normal", "abnormal") and _MIMII_ID.fullmatch(above[-1]):
            self.mimii_id = above[-1]
            self.machine_type = above[-2]
            snr = SNR_FOLDER.fullmatch(above[-3])
            if snr and snr[1] == above[-2]:  # -6_dB_fan/fan/id_00, as the archives unpack
                self.machine_type = above[-3]
            elif snr and not snr[1]:  # -6_dB/fan/id_00
                self.machine_type = f"{above[-3]}_{above[-2]}"

    def supplemental(self, name: str) -> Supplemental:
        """Read the name of a clip in a folder `supplemental`: what it holds, and it as training."""
        stem = name.rpartition(".")[0]
        if match := _MACHINE_ALONE.fullmatch(stem):
            section, domain, attributes = match.groups("")
            clip = Clip(self.key + name, self.machine_type, section, "train", "normal", domain)
            return Supplemental("machine", replace(clip, attributes=_without_none(attributes)))
        return Supplemental("noise" if _NOISE_ALONE.fullmatch(stem) else "", None)

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
        if self.kind in SPLIT_FOLDERS:
            return self._section(key, stem)
        return None, ""

    def _section(self, key: str, stem: str) -> tuple[Clip | None, str]:
        """Read a name with a section, and the year that it can be of."""
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
        layout = "sections" if split == "train" else "dcase2022"
        if own_domain or (label is None and domain):
            layout = "dcase2021"
        return (
            Clip(
                *(key, self.machine_type, section, split, _LABELS[label], domain),
                attributes=_without_none(attributes),
            ),
            layout,
        )


def is_name_of_a_layout(stem: str) -> bool:
    """Tell whether a file name without its ending is one of DCASE, wherever it lies."""
    return any(p.fullmatch(stem) for p in (_IN_2020_TEST, _SECTION, _UNLABELLED_SECTION))


def attributes_in_name(stem: str) -> str:
    """Return the attributes in the name of a clip with a section, "" where it has none."""
    match = _SECTION.fullmatch(stem)
    return _without_none((match and match[5]) or "")


def label_and_domain(stem: str) -> tuple[str, str]:
    """Read what the name of a DCASE clip says: label or `unknown`, domain or ""."""
    if match := _SECTION.fullmatch(stem):
        return _LABELS[match[4]], match[2]
    if match := _UNLABELLED_SECTION.fullmatch(stem):
        return "unknown", match[2] or ""
    match = _IN_2020_TEST.fullmatch(stem)
    return _LABELS[match[1] if match else None], ""


def section_or_id(stem: str) -> str:
    """Read the machine ID in the name of a DCASE clip, or ""."""
    match = _MACHINE_ID.match(stem)
    return match[1] if match else ""


def short_name(stem: str) -> str:
    """Leave out `_test` of unlabelled clips, which lists of them write or do not."""
    match = _UNLABELLED_SECTION.fullmatch(stem)
    number = stem.rstrip("_").rpartition("_")[2]
    return "_".join(filter(None, [*match.groups(), number])) if match else stem


def _without_none(attributes: str) -> str:
    return "" if attributes == "noAttribute" else attributes


def nearest_name(key: str) -> str:
    """Name the layout that a path nearly is of, with an example of it, or return "".

    The file name decides, and the folder between names that are alike.
    """
    folder, _, name = key.rpartition("/")
    return _nearest(folder.rpartition("/")[2], re.sub(r"\d", "0", name.rpartition(".")[0]))


@lru_cache(maxsize=1024)
def _nearest(kind: str, stem: str) -> str:
    """Compare a folder and a name, whose digits are all 0, with the examples."""

    def alike(example: str) -> float:
        example_kind, _, example_stem = example.partition("/")
        beginning = stem[: len(example_stem) + 1]  # what follows may be attributes
        ratio = SequenceMatcher(None, beginning, example_stem, autojunk=False).ratio()
        return ratio + 0.01 * (kind == example_kind)

    best = max(_EXAMPLES, key=alike)
    if alike(best) < _NEARLY:
        return ""
    return f"it is nearest to {_EXAMPLES[best]}: <machine_type>/{best}.wav"


def the_layout(
    root: Path,
    examples: Mapping[str, str],
    machines: set[tuple[str, str]],
    *,
    has_supplemental: bool = False,
) -> tuple[str, str]:
    """Decide on one layout for all clips, and say what is odd about it, or "".

    `examples` maps each layout that was met to a key. Several layouts are a ValueError, and so are
    years that are scored by different rules. Names of training clips with a section, `sections`,
    fit 2021 and all later years.
    """
    layouts = {name: key for name, key in examples.items() if name != "sections"}
    if len(layouts) > 1 or (examples.keys() - layouts.keys() and not layouts.keys() <= _SECTIONED):
        known = {**layouts, **({} if layouts.keys() & _SECTIONED else examples)}
        shown = ", ".join(f"{name} ({key!r})" for name, key in sorted(known.items()))
        raise ValueError(
            f"{str(root)!r} holds several layouts: {shown}; point --data at one of them"
        )
    if layouts.keys() - {"dcase2022"}:
        return next(iter(layouts)), ""
    if {machine_id for _, machine_id in machines} != {"section_00"}:
        return "dcase2022", ""
    year, remark = year_of({kind for kind, _ in machines}, has_supplemental=has_supplemental)
    return f"dcase{year}", remark


def check_places(found: DataSet) -> None:
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


def split_mimii(found: DataSet) -> DataSet:
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


def layouts_in_one_line() -> str:
    """List the layouts and how their paths look, for a message."""
    return "; ".join(f"{name}: {shape}" for name, shape in LAYOUTS.items())
