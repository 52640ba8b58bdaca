"""`ranking.csv` read back: every test clip of a run with its label, score, p-value and verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path, PurePosixPath

import numpy as np

from detect.fitting import ClipTable, FitUnit, Scores
from report.csv_files import read_csv
from report.score_files import Machine, label_and_domain

COLUMNS = ("machine_type", "machine_id", "key", "anomaly_score", "label")
LABELS = ("normal", "anomalous", "unknown")


@dataclass(frozen=True)
class RankedClip:
    """One test clip of one machine."""

    machine_type: str
    machine_id: str
    key: str
    label: str
    score: float
    """NaN where the run could not rate it."""
    domain: str = ""
    p_value: float = nan
    verdict: str = ""
    """"" where nothing was decided."""
    note: str = ""

    @property
    def machine(self) -> Machine:
        return self.machine_type, self.machine_id


def read_ranking(path: Path) -> list[RankedClip]:
    """Read the `ranking.csv` of a run.

    Runs before it had a column `domain` say the domain in the clips' names, as DCASE does. Raises
    ValueError, with the file, for what is no ranking, and for a clip that is listed twice.
    """
    rows = read_csv(path)
    absent = [column for column in COLUMNS if not rows or column not in rows[0]]
    if absent:
        raise ValueError(f"{path} is no ranking of a run: it lacks {', '.join(absent)}")
    clips = [_clip(path, row) for row in rows]
    seen: set[tuple[str, str, str]] = set()
    for clip in clips:
        place = (*clip.machine, clip.key)
        if place in seen:
            raise ValueError(f"{path} lists {clip.key!r} twice for {' '.join(clip.machine)}")
        seen.add(place)
    return clips


def _clip(path: Path, row: dict[str, str]) -> RankedClip:
    """Read one row; ValueError for a label or a number that is none."""
    key, label = row["key"], row["label"]
    if label not in LABELS:
        raise ValueError(f"{path}: {key!r} has the label {label!r}; it is {', '.join(LABELS)}")
    score = _number(path, key, row["anomaly_score"])
    named = label_and_domain(PurePosixPath(key).name)[1]
    return RankedClip(
        row["machine_type"],
        row["machine_id"],
        key,
        label,
        score,
        row.get("domain", named),
        _number(path, key, row.get("p_value", "")),
        row.get("verdict", ""),
        row.get("note", ""),
    )


def _number(path: Path, key: str, text: str) -> float:
    """Read a number; an empty cell is NaN."""
    if not text:
        return nan
    try:
        number = float(text)
    except ValueError:
        number = nan
    if not isfinite(number):
        raise ValueError(f"{path}: {key!r} has {text!r} where a finite number is expected")
    return number


def as_scores(clips: Sequence[RankedClip], fit_per: str = "id") -> tuple[ClipTable, list[Scores]]:
    """Turn clips into what `detect.results.results` compares: a table, and scores by fit.

    A fit is one machine ID or, with `fit_per` `type`, all IDs of a machine type.
    """
    table = ClipTable(
        key=tuple(clip.key for clip in clips),
        machine_type=tuple(clip.machine_type for clip in clips),
        machine_id=tuple(clip.machine_id for clip in clips),
        split=("test",) * len(clips),
        label=tuple(clip.label for clip in clips),
        domain=tuple(clip.domain for clip in clips),
    )
    own: dict[Machine, list[RankedClip]] = {}
    for clip in clips:
        fit = (clip.machine_type, clip.machine_id if fit_per == "id" else "")
        own.setdefault(fit, []).append(clip)
    scores = []
    for fit, unsorted in own.items():
        of_fit = sorted(unsorted, key=lambda clip: clip.key)
        keys = tuple(clip.key for clip in of_fit)
        unit = FitUnit(*fit, (), (), keys, tuple(clip.machine_id for clip in of_fit))
        values = np.array([clip.score for clip in of_fit])
        scores.append(Scores(unit, values, None, 0.0))
    return table, scores
