"""What a detector is, and the one place where the sign turns."""

from __future__ import annotations

from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray


class Detector(Protocol):
    """Learns from normal clips, rates others; scikit-learn's outlier detectors are some."""

    def fit(self, X: NDArray[Any], y: Any = None) -> Self: ...

    def score_samples(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Rate each clip; higher means more normal."""
        ...


def anomaly_scores(detector: Detector, X: NDArray[Any]) -> NDArray[np.float64]:
    """Rate each clip; higher means more anomalous. The only place the sign turns."""
    return -np.asarray(detector.score_samples(X), dtype=np.float64)
