"""What a fixed threshold decides: accuracy, precision, recall and F1, anomalous being positive.

A detector with a boundary of its own (`offset_`, as scikit-learn's outlier detectors have) gives a
decision value, its score above that boundary; a clip is flagged below a threshold on it. The
thresholds are fixed beforehand, so that no label takes part in choosing them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from detect.detector import last_step
from detect.fitting import ClipTable, Scores

THRESHOLDS = (0.0, 0.2)
"""Of the decision value; those of the One-Class SVM report."""


def rates(is_anomalous: ArrayLike, is_flagged: ArrayLike) -> dict[str, float]:
    """Count how far flags agree with the truth; a rate without cases is 0."""
    truth, flagged = np.asarray(is_anomalous, bool), np.asarray(is_flagged, bool)
    hits = int(np.sum(truth & flagged))
    precision = hits / max(1, int(flagged.sum()))
    recall = hits / max(1, int(truth.sum()))
    return {
        "accuracy": float(np.mean(truth == flagged)) if len(truth) else 0.0,
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
    }


def decisions(table: ClipTable, scores: Sequence[Scores]) -> dict[str, float]:
    """Rate the decisions at every threshold over all labelled test clips.

    Empty for detectors without a boundary, and for clips without labels.
    """
    label_of = dict(zip(table.key, table.label, strict=True))
    truth: list[bool] = []
    values: list[float] = []
    for fitted in scores:
        boundary = getattr(last_step(fitted.detector), "offset_", None)
        if boundary is None:
            return {}
        for key, score in zip(fitted.unit.test_keys, fitted.scores, strict=True):
            if label_of[key] != "unknown":
                truth.append(label_of[key] == "anomalous")
                values.append(-float(score) - float(boundary))
    if not truth:
        return {}
    return {
        f"{name}_at_{threshold:g}": rate
        for threshold in THRESHOLDS
        for name, rate in rates(truth, np.array(values) < threshold).items()
    }
