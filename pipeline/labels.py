"""Labels that come apart from the scores: of a manifest, or the ground truth of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ground.text import visible

if TYPE_CHECKING:
    from report.ranking import RankedClip


class Labels:
    """The labels and domains that files have for test clips; their recordings need not exist."""

    def __init__(self, path: Path) -> None:
        from embed.recordings.ground_truth import read_ground_truth

        self.path = path
        self._truth = read_ground_truth(path)
        self._asked: tuple[str, ...] = ()
        self._n_found = 0

    def of(self, machine: tuple[str, str], name: str) -> tuple[str, str]:
        """Return label and domain of a clip; `unknown` and "" where there are none."""
        said = self._truth.of(machine, name)
        self._asked = self._asked or (*machine, name)
        self._n_found += said is not None
        return said or ("unknown", "")

    def check(self) -> None:
        """Raise ValueError where none of the clips that were asked for is named."""
        if self._asked and not self._n_found:
            *machine, name = self._asked
            raise ValueError(
                f"{self.path} names none of the test clips; first {visible(repr(name))} of "
                f"{visible(' '.join(machine))}: machine type, machine ID and the name of the "
                "clip must be the same"
            )

    def given_to(self, clips: Sequence[RankedClip]) -> list[RankedClip]:
        """Give clips these labels, and domains where the manifest has some; ValueError for none."""
        given = []
        for clip in clips:
            label, domain = self.of(clip.machine, clip.key)
            given.append(replace(clip, label=label, domain=domain or clip.domain))
        self.check()
        return given
