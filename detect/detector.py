"""What a detector is, and the one place where the sign turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray


class Detector(Protocol):
    """Learns from normal clips, rates others; scikit-learn's outlier detectors are some."""

    def fit(self, X: NDArray[Any], y: Any = None) -> Self: ...

    def score_samples(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Rate each clip; higher means more normal."""
        ...


def anomaly_scores(
    detector: Detector, X: NDArray[Any], ids: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """Rate each clip; higher means more anomalous. The only place the sign turns.

    `ids` are the clips' machine IDs, for detectors that tell these apart.
    """
    return -np.asarray(score_samples(detector, X, ids), dtype=np.float64)


def score_samples(detector: Any, X: NDArray[Any], ids: Sequence[str] | None) -> NDArray[Any]:
    """Hand the machine IDs past the scaler, which has no use for them."""
    if ids is None:
        return detector.score_samples(X)  # type: ignore[no-any-return]
    *before, (_, last) = detector.steps
    for _, step in before:
        X = step.transform(X)
    return last.score_samples(X, np.array(ids))  # type: ignore[no-any-return]


def last_step(detector: Any) -> Any:
    """Return the estimator behind the scaler, or the detector itself where it has none."""
    return detector.steps[-1][1] if hasattr(detector, "steps") else detector
