"""Find training clips that spoil a fit or its figures: outliers, and copies of other clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detect.detectors.distance import nearest
from detect.fitting import ClipTable, FitUnit, Read
from detect.scaler import ColumnScaler

FEWEST = 8
DEVIATIONS = 5.0
LEAST_FACTOR = 2.0
CLIPS_AT_ONCE = 256


@dataclass(frozen=True)
class TrainingOutlier:
    """A training clip far from the other ones."""

    key: str
    machine: str
    distance: float
    """Mean distance to its nearest others, in medians of the unit's."""
    nearest_key: str


@dataclass(frozen=True)
class CopiedClip:
    """A clip with the same bytes as a training clip, where that is probably an error."""

    key: str
    machine: str
    training_key: str
    training_machine: str
    is_test: bool
    """The copy is a test clip; otherwise both are training clips, of two machines."""

    def __str__(self) -> str:
        kind = "test clip" if self.is_test else "training clip"
        return (
            f"the {kind} {self.key!r} of {self.machine} has the same bytes as the training clip "
            f"{self.training_key!r} of {self.training_machine}"
        )


def training_outliers(
    unit: FitUnit, read: Read, *, k: int = 3, deviations: float = DEVIATIONS
) -> list[TrainingOutlier]:
    """List training clips whose distance to the k nearest others stands out, farthest first.

    Leave-one-out: no clip is its own neighbour. What stands out is more than `deviations` robust
    deviations (1.4826 times the median absolute deviation of the log distance) above the median,
    and at least twice the median.
    Fewer than 8 clips say nothing. Frames and bands are compared by their mean over time.
    """
    if len(unit.train_keys) < FEWEST:
        return []
    X = ColumnScaler().fit_transform(_mean_vectors(unit.train_keys, read))
    distances, rows = nearest(X, X, min(k, len(X) - 1), leave_one_out=True)
    mean = distances.mean(axis=1)
    log = np.log(np.maximum(mean, np.finfo(float).tiny))
    spread = 1.4826 * np.median(np.abs(log - np.median(log)))
    limit = np.median(log) + max(deviations * spread, np.log(LEAST_FACTOR))
    found = [int(i) for i in np.argsort(-mean, kind="stable") if log[i] > limit]
    return [
        TrainingOutlier(
            unit.train_keys[i],
            unit.name,
            float(mean[i] / np.median(mean)),
            unit.train_keys[int(rows[i, 0])],
        )
        for i in found
    ]


def _mean_vectors(keys: tuple[str, ...], read: Read) -> NDArray[np.float64]:
    """Read one vector per clip (n_clips, dim), a part at a time, so that no frames pile up."""
    parts = []
    for start in range(0, len(keys), CLIPS_AT_ONCE):
        part: NDArray[Any] = np.asarray(read(keys[start : start + CLIPS_AT_ONCE]))
        if part.ndim > 2:
            part = np.stack([np.nanmean(clip, axis=0, dtype=np.float64) for clip in part])
        parts.append(part.astype(np.float64))
    return np.concatenate(parts)


def copies(sha256_by_key: Mapping[str, str], table: ClipTable) -> list[CopiedClip]:
    """List byte-for-byte copies of training clips, by the hash of each clip's file.

    A test clip that is a copy of a training clip of its machine type is rated too low. A training
    clip under two machines makes these alike. One key that stands for several machines is no
    copy, and clips without a hash are passed over.
    """
    training: dict[str, list[int]] = {}
    for i, key in enumerate(table.key):
        if table.split[i] == "train" and key in sha256_by_key:
            training.setdefault(sha256_by_key[key], []).append(i)

    def machine(i: int) -> str:
        return f"{table.machine_type[i]} {table.machine_id[i]}".strip()

    found = []
    for i, key in enumerate(table.key):
        is_test = table.split[i] == "test"
        for j in training.get(sha256_by_key.get(key, ""), ()):
            if table.key[j] == key:
                continue
            same_type = table.machine_type[i] == table.machine_type[j]
            if (is_test and same_type) or (not is_test and j < i and machine(i) != machine(j)):
                found.append(CopiedClip(key, machine(i), table.key[j], machine(j), is_test))
                break
    return found
