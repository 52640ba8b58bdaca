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
from pathlib import Path, PurePosixPath

from embed.recordings.dataset import Clip, DataSet

LAYOUTS = {
    "dcase2020": "<machine_type>/<train|test>/[<normal|anomaly>_]id_<NN>_<number>.wav",
    "mimii": "<machine_type>/id_<NN>/<normal|abnormal>/<name>.wav",
    "dcase2021": "<machine_type>/<train|source_test|target_test>/"
    "section_<NN>_<source|target>_<train|test>_[<normal|anomaly>_]<number>[_<attributes>].wav",
    "dcase2022": "<machine_type>/<train|test>/"
    "section_<NN>_<source|target>_<train|test>_<normal|anomaly>_<number>[_<attributes>].wav "
    "or section_<NN>[_test]_<number>.wav",
    "dcase2023": "as dcase2022, with section_00 only (2023 to 2026)",
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
_MIMII_ID = re.compile(r"id_\d+")

_LABELS = {"normal": "normal", "anomaly": "anomalous", "abnormal": "anomalous", None: "unknown"}


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
        attributes = "" if attributes == "noAttribute" else attributes
        only_2021 = bool(own_domain) or (label is None and bool(domain))
        return (
            Clip(key, self.machine_type, section, split, _LABELS[label], domain, attributes),
            "dcase2021" if only_2021 else "sections",
        )


def is_name_of_a_layout(stem: str) -> bool:
    """Tell whether a file name without its ending is one of DCASE, wherever it lies."""
    return any(p.fullmatch(stem) for p in (_IN_2020_TEST, _SECTION, _UNLABELLED_SECTION))


def the_layout(root: Path, examples: Mapping[str, str], ids: set[str]) -> str:
    """Decide on one layout for all clips; sections of several years are told apart here.

    `examples` maps each layout that was met to a key. Several layouts are a ValueError.
    """
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
