"""Thresholds that were chosen with the labels of the test clips: oracles, no decisions.

They say what the best threshold would have given. Nothing else may use them, and whatever prints
them calls them oracle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from detect.fitting import ClipTable, Scores

Array = NDArray[np.float64]
TARGET_RECALL = 0.8
"""Of the report whose gru-ae has its threshold at a true positive rate of 0.8."""
ROUNDING = 1e-12


def oracle_thresholds(
    is_anomalous: ArrayLike, scores: ArrayLike, target_recall: float = TARGET_RECALL
) -> dict[str, float]:
    """Choose thresholds, above which clips are flagged, from labelled clips (n_clips,).

    `oracle_nearest_corner`: the ROC point nearest to (0, 1). `oracle_at_recall`: the fewest false
    alarms with at least that recall. `oracle_best_f1`: the highest F1. Each is the highest score
    that is not flagged. Of equally good ones the highest is taken.
    """
    truth = np.asarray(is_anomalous, dtype=bool)
    values = np.asarray(scores, dtype=np.float64)
    if not truth.any() or truth.all():
        raise ValueError(
            f"An oracle threshold needs both classes; got {np.sum(~truth)} normal and "
            f"{np.sum(truth)} anomalous"
        )
    levels = np.unique(values)
    candidates = np.append(levels[::-1], np.nextafter(levels[0], -np.inf))
    recall = _share_above(values[truth], candidates)
    false_alarms = _share_above(values[~truth], candidates)
    hits = recall * truth.sum()
    f1 = 2 * hits / (hits + false_alarms * np.sum(~truth) + truth.sum())
    enough = np.where(recall >= target_recall - ROUNDING, false_alarms, np.inf)
    chosen = {
        "oracle_nearest_corner": np.argmin(np.hypot(false_alarms, 1 - recall)),
        "oracle_at_recall": np.argmin(enough),
        "oracle_best_f1": np.argmax(f1),
    }
    return {name: float(candidates[index]) for name, index in chosen.items()}


def _share_above(values: Array, thresholds: Array) -> Array:
    at_most = np.searchsorted(np.sort(values), thresholds, side="right")
    return 1 - at_most / len(values)


def oracle_thresholds_of(table: ClipTable, scores: Sequence[Scores]) -> dict[str, dict[str, float]]:
    """Choose oracle thresholds for each machine with both classes, by `type ID`."""
    label_of = dict(zip(table.key, table.label, strict=True))
    clips: dict[str, list[tuple[bool, float]]] = {}
    for fitted in scores:
        unit = fitted.unit
        for key, machine_id, score in zip(
            unit.test_keys, unit.test_ids, fitted.scores.tolist(), strict=True
        ):
            if label_of[key] != "unknown":
                name = f"{unit.machine_type} {machine_id}".strip()
                clips.setdefault(name, []).append((label_of[key] == "anomalous", score))
    return {
        name: oracle_thresholds([truth for truth, _ in rated], [score for _, score in rated])
        for name, rated in clips.items()
        if len({truth for truth, _ in rated}) == 2
    }
