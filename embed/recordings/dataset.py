"""What a clip and a data set are: values that are read once from names, and errors about them."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

LABEL_WORDS = {
    "normal": "normal",
    "good": "normal",
    "ok": "normal",
    "anomalous": "anomalous",
    "anomaly": "anomalous",
    "abnormal": "anomalous",
    "bad": "anomalous",
    "nok": "anomalous",
}
"""The words that folders and manifests may use for a label, in any case."""

NAMED_PER_REASON = 20
"""So many skipped files are named for each reason; the others are counted."""

_LATEST_NS = 2**63 - 1  # of the 64 bits in which a store keeps it: the year 2262

FileStats = tuple[int, int]
"""Size in bytes and modification time in ns."""


class ClipError(ValueError):
    """A clip that cannot be used; the message is the reason."""


class UnknownMachine(ValueError):  # noqa: N818 - it reads as the sentence it is
    """A machine type or ID was asked for that the data does not have."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording in one role: its key, and what its name or its manifest says of it."""

    key: str
    """Names the clip everywhere: the POSIX path below the data root, unless `path` is given."""
    machine_type: str
    machine_id: str
    """`id_00`, `section_00`; empty in the plain layout."""
    split: str
    """`train` or `test`."""
    label: str
    """`normal`, `anomalous` or `unknown`."""
    domain: str = ""
    """`source`, `target` or none."""
    attributes: str = ""
    group: str = ""
    """The recording that this clip and others were cut from, or none."""
    path: str = ""
    """The path below the data root where a manifest uses one recording in several roles."""

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
    """The clips of one folder or manifest, in order of their keys; it iterates over them."""

    root: Path
    """Absolute; keys are paths below it."""
    name: str
    layout: str
    """A key of `LAYOUTS`."""
    clips: tuple[Clip, ...]
    stats: tuple[FileStats, ...]
    """Size in bytes and modification time in ns of each clip, as they were when it was found."""
    skipped: tuple[Skipped, ...] = ()
    """What cannot be used; of many files with one reason, some are named and the rest counted."""
    remarks: tuple[str, ...] = ()
    """What was assumed and what is left out on purpose, one line each."""

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def year(self) -> int:
        """The DCASE year whose rules score this data; 2020 where there are no domains."""
        if self.layout.startswith("dcase"):
            return int(self.layout.removeprefix("dcase"))
        return 2023 if any(clip.domain for clip in self.clips) else 2020

    def path(self, key: str) -> Path:
        """Return the file of a clip's key."""
        return self.root / self._paths.get(key, key)

    def file_stats(self) -> dict[str, FileStats]:
        """Map each key to its file's size in bytes and modification time in ns."""
        return {clip.key: found for clip, found in zip(self.clips, self.stats, strict=True)}

    def only(self, wanted: Callable[[Clip], bool]) -> DataSet:
        """Keep the clips that are wanted, each with its size and time."""
        kept = [pair for pair in zip(self.clips, self.stats, strict=True) if wanted(pair[0])]
        return replace(
            self, clips=tuple(clip for clip, _ in kept), stats=tuple(stats for _, stats in kept)
        )

    @cached_property
    def _paths(self) -> dict[str, str]:
        return {clip.key: clip.path for clip in self.clips if clip.path}


def data_set(
    root: Path,
    name: str,
    layout: str,
    found: Iterable[tuple[Clip, FileStats]],
    skipped: Iterable[Skipped] = (),
    remarks: Iterable[str] = (),
) -> DataSet:
    """Put clips into the order of their keys and shorten the list of what is skipped."""
    ordered = sorted(found, key=lambda pair: pair[0].key)
    return DataSet(
        root=root,
        name=name,
        layout=layout,
        clips=tuple(clip for clip, _ in ordered),
        stats=tuple(stats for _, stats in ordered),
        skipped=_shortened(skipped),
        remarks=tuple(remarks),
    )


def absolute(path: Path) -> Path:
    """Return an absolute path whose links keep their names."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() follows links


def file_stats_of(about: os.stat_result) -> FileStats:
    """Return size in bytes and modification time in ns, at most what 64 bits hold."""
    return about.st_size, max(-_LATEST_NS, min(about.st_mtime_ns, _LATEST_NS))


def same_name(name: str) -> str:
    """Return what is equal for names that differ in case or in Unicode's normal form only."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _shortened(skipped: Iterable[Skipped]) -> tuple[Skipped, ...]:
    n_seen: Counter[str] = Counter()
    named = []
    for one in sorted(skipped):
        n_seen[one.reason] += 1
        if n_seen[one.reason] <= NAMED_PER_REASON:
            named.append(one)
    more = [
        Skipped(f"{n - NAMED_PER_REASON:,} more", reason)
        for reason, n in n_seen.items()
        if n > NAMED_PER_REASON
    ]
    return (*named, *more)
