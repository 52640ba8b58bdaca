"""Labels that come apart from the clips: a manifest beside scores that were computed without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ground.text import visible

if TYPE_CHECKING:
    from report.ranking import RankedClip

Place = tuple[str, str, str]
"""Machine type, machine ID, and path or file name of a clip."""


class Labels:
    """The labels and domains that a manifest has for test clips.

    A clip is found by its path, or by its file name where that is one clip of its machine.
    """

    def __init__(self, manifest: Path) -> None:
        self.manifest = manifest
        self._said = _read(manifest)
        self._asked: tuple[str, ...] = ()
        self._n_found = 0

    def of(self, machine: tuple[str, str], name: str) -> tuple[str, str]:
        """Return label and domain of a clip; `unknown` and "" where the manifest has none."""
        said = self._said.get((*machine, name))
        said = said or self._said.get((*machine, PurePosixPath(name).name))
        self._asked = self._asked or (*machine, name)
        self._n_found += said is not None
        return said or ("unknown", "")

    def check(self) -> None:
        """Raise ValueError where the manifest has named none of the clips that it was asked for."""
        if self._asked and not self._n_found:
            *machine, name = self._asked
            raise ValueError(
                f"{self.manifest} names none of the test clips; first {visible(repr(name))} of "
                f"{visible(' '.join(machine))}: machine_type, machine_id and the file name in path "
                "must be the same"
            )

    def given_to(self, clips: Sequence[RankedClip]) -> list[RankedClip]:
        """Give clips these labels, and domains where the manifest has some; ValueError for none."""
        given = []
        for clip in clips:
            label, domain = self.of(clip.machine, clip.key)
            given.append(replace(clip, label=label, domain=domain or clip.domain))
        self.check()
        return given


def _read(manifest: Path) -> dict[Place, tuple[str, str]]:
    """Read label and domain of each test clip of a manifest, whose recordings need not exist."""
    from embed.recordings.manifest import read_clips

    labels: dict[Place, tuple[str, str]] = {}
    ambiguous: set[Place] = set()
    for clip in read_clips(manifest):
        if clip.split != "test":
            continue
        path = clip.path or clip.key
        for name in dict.fromkeys((path, PurePosixPath(path).name)):
            place = (*clip.machine, name)
            if labels.setdefault(place, (clip.label, clip.domain)) != (clip.label, clip.domain):
                ambiguous.add(place)
    return {place: said for place, said in labels.items() if place not in ambiguous}
