"""Find training clips that look unlike the rest: a fault among them spoils everything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detect.detectors.distance import nearest
from detect.fitting import FitUnit, Read
from detect.scaler import ColumnScaler

FEWEST = 8
DEVIATIONS = 5.0
LEAST_FACTOR = 2.0


@dataclass(frozen=True)
class UnlikeClip:
    """A training clip far from the other ones."""

    key: str
    machine: str
    distance: float
    """Mean distance to its nearest others, in medians of the unit's."""
    nearest_key: str


def unlike_the_rest(
    unit: FitUnit, read: Read, *, k: int = 3, deviations: float = DEVIATIONS
) -> list[UnlikeClip]:
    """List training clips whose distance to the k nearest others stands out, farthest first.

    Leave-one-out: no clip is its own neighbour. What stands out is more than `deviations` robust
    deviations (1.4826 times the median absolute deviation of the log distance) above the median,
    and at least twice the median.
    Fewer than 8 clips say nothing. Frames and bands are compared by their mean over time.
    """
    if len(unit.train_keys) < FEWEST:
        return []
    X = np.asarray(read(unit.train_keys), dtype=np.float64)
    if X.ndim > 2:
        X = np.nanmean(X, axis=1)
    X = ColumnScaler().fit(X).transform(X)
    distances, rows = nearest(X, X, min(k, len(X) - 1), leave_one_out=True)
    mean = distances.mean(axis=1)
    log = np.log(np.maximum(mean, np.finfo(float).tiny))
    spread = 1.4826 * np.median(np.abs(log - np.median(log)))
    limit = np.median(log) + max(deviations * spread, np.log(LEAST_FACTOR))
    found = [int(i) for i in np.argsort(-mean, kind="stable") if log[i] > limit]
    return [
        UnlikeClip(
            unit.train_keys[i],
            unit.name,
            float(mean[i] / np.median(mean)),
            unit.train_keys[int(rows[i, 0])],
        )
        for i in found
    ]
