"""A detector behind its scaler, with scikit-learn's interface for every entry of the registry."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from detect.detector import facts_of_class
from detect.scaler import ColumnScaler


class ScaledDetector(BaseEstimator):  # type: ignore[misc]
    """A scaler (or None) and the detector behind it, fitted and used as one.

    `predict` is 1 for normal and -1 for anomalous clips: those that score below the
    `flagged_share` quantile of the training clips' own scores. Clips that were not fitted score
    lower than these, so that more than this share of new normal clips is flagged; thresholds that
    keep a promised false-alarm rate come from `detect.thresholds`. With `flagged_share=None` the
    training clips are not rated, and there is no `predict`.

    The detector needs `fit(X)` and `score_samples(X)` and nothing else. It is fitted in place;
    one that is not scikit-learn's is not cloned.
    """

    def __init__(
        self,
        detector: Any,
        scaler: ColumnScaler | None = None,
        *,
        flagged_share: float | None = None,
    ) -> None:
        self.detector = detector
        self.scaler = scaler
        self.flagged_share = flagged_share

    def fit(
        self,
        X: NDArray[Any],
        y: NDArray[Any] | None = None,
        domains: NDArray[Any] | None = None,
    ) -> Self:
        """Learn from normal clips X.

        y (n,) are their machine IDs and `domains` (n,) their domains, for detectors that take them.
        """
        scaled = X if self.scaler is None else self.scaler.fit_transform(X)
        if facts_of_class(type(self.detector)).takes_domains:
            self.detector.fit(scaled, y, domains)
        elif self._needs_ids:
            self.detector.fit(scaled, y)
        else:
            self.detector.fit(scaled)
        self.offset_: float | None = None
        if self.flagged_share is not None:
            scores = self.score_samples(X, y)
            self.offset_ = float(np.quantile(scores, self.flagged_share))
        return self

    def score_samples(
        self, X: NDArray[Any], ids: NDArray[Any] | None = None
    ) -> NDArray[np.float64]:
        """Rate each clip; higher means more normal.

        `ids` are the clips' machine IDs (n,), for detectors that need them; others ignore them.
        """
        scaled = X if self.scaler is None else self.scaler.transform(X)
        if ids is None or not self._needs_ids:
            return self.detector.score_samples(scaled)  # type: ignore[no-any-return]
        return self.detector.score_samples(scaled, ids)  # type: ignore[no-any-return]

    def decision_function(
        self, X: NDArray[Any], ids: NDArray[Any] | None = None
    ) -> NDArray[np.float64]:
        """Score above the boundary that `predict` uses; negative is anomalous."""
        offset = getattr(self, "offset_", None)
        if offset is None:
            raise NotFittedError(
                "This detector has no boundary: it is not fitted, or flagged_share is None"
            )
        scores = np.asarray(self.score_samples(X, ids), dtype=np.float64)
        return scores - float(offset)

    def predict(self, X: NDArray[Any], ids: NDArray[Any] | None = None) -> NDArray[np.int64]:
        """Call each clip normal (1) or anomalous (-1)."""
        return np.where(self.decision_function(X, ids) < 0, -1, 1)

    @property
    def _needs_ids(self) -> bool:
        return facts_of_class(type(self.detector)).needs_ids
