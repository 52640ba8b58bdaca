"""Nearest neighbours per frequency band (BEAM), without training; distances are per band."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from detect.detector import OwnDetector, Takes
from ground.options import Count

Array = NDArray[np.float64]


class BandKNN(OwnDetector, BaseEstimator):  # type: ignore[misc]
    """Cosine distance to the k nearest training clips, band by band, mean or maximum over bands.

    Takes the encoder's map with frequency kept and time pooled, (n, n_bands, dim). The nearest
    clips may differ from band to band.
    """

    takes: ClassVar[Takes] = "bands"
    wants_scaling: ClassVar[bool] = False

    def __init__(self, k: Count = 1, *, over_bands: Literal["mean", "max"] = "mean") -> None:
        self.k = k
        self.over_bands = over_bands

    def fit(self, X: NDArray[Any], y: object = None) -> Self:
        """Keep the bands of normal clips X (n, n_bands, dim)."""
        self.check_options()
        self.bands_ = _directions(X)
        self.k_ = min(self.k, len(X))
        return self

    def band_distances(self, X: NDArray[Any]) -> Array:
        """Cosine distance of each band to those of the training clips; (n, n_bands)."""
        check_is_fitted(self)
        if X.shape[1:] != self.bands_.shape[:1] + self.bands_.shape[2:]:
            expected = (self.bands_.shape[0], self.bands_.shape[2])
            raise ValueError(f"Clips have bands {X.shape[1:]}; {expected} were fitted")
        distances = []
        for own, others in zip(_directions(X), self.bands_, strict=True):
            cosine = own @ others.T  # (n, n_train)
            closest = np.partition(cosine, -self.k_, axis=1)[:, -self.k_ :]
            distances.append(1.0 - closest.mean(axis=1))
        return np.stack(distances, axis=1)

    def score_samples(self, X: NDArray[Any]) -> Array:
        """Rate each clip; higher means more normal."""
        distances = self.band_distances(X)
        if self.over_bands == "max":
            return -distances.max(axis=1)  # type: ignore[no-any-return]
        return -distances.mean(axis=1)  # type: ignore[no-any-return]


def _directions(X: NDArray[Any]) -> Array:
    """Scale every band's vector to length 1; (n_bands, n, dim)."""
    bands = np.ascontiguousarray(np.moveaxis(np.asarray(X, dtype=np.float64), 1, 0))
    length = np.linalg.norm(bands, axis=2, keepdims=True)
    return bands / np.where(length == 0, 1.0, length)
