"""Nearest neighbours per frequency band (BEAM), without training; distances are per band."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from detect.detector import OwnDetector, Takes
from detect.detectors.density import (
    Normalize,
    densities,
    fit_banks,
    mean_of_smallest,
    rate_by_banks,
    weighted,
)
from detect.detectors.distance import nearest
from ground.options import Count

Array = NDArray[np.float64]


class BandKNN(OwnDetector, BaseEstimator):  # type: ignore[misc]
    """Cosine distance to the k nearest training clips, band by band, mean or maximum over bands.

    Takes the encoder's map with frequency kept and time pooled, (n, n_bands, dim). The distance is
    (1 - cosine) / 2, and the nearest clips may differ from band to band. `normalize`, `density_k`
    and `per_domain` are those of `KNN`, in each band by itself; "varmin" may choose another clip,
    and gives distances below zero. Score: arXiv:2603.13749.
    """

    takes: ClassVar[Takes] = "bands"
    wants_scaling: ClassVar[bool] = False
    takes_domains: ClassVar[bool] = True

    def __init__(
        self,
        k: Count = 1,
        *,
        over_bands: Literal["mean", "max"] = "mean",
        normalize: Normalize = "none",
        density_k: Count = 4,
        per_domain: bool = False,
    ) -> None:
        self.k = k
        self.over_bands = over_bands
        self.normalize = normalize
        self.density_k = density_k
        self.per_domain = per_domain

    def fit(self, X: NDArray[Any], y: object = None, domains: NDArray[Any] | None = None) -> Self:
        """Keep the bands of normal clips X (n, n_bands, dim).

        `domains` (n,) are needed with `per_domain` only.
        """
        self.check_options()
        if self.normalize != "none" and len(X) < 2:
            raise ValueError(f"normalize={self.normalize} needs two clips, got {len(X)}")
        if self.per_domain:
            self.banks_, self.standards_ = fit_banks(self, X, domains)
            return self
        self.bands_ = _directions(X)
        self.k_ = min(self.k, len(X))
        if self.normalize != "none":
            others = min(self.density_k, len(X) - 1)
            found = [_densities(band, others) for band in self.bands_]
            self.density_ = np.stack([density for density, _ in found])
            self.multiple_ = np.array([multiple for _, multiple in found])
        return self

    def band_distances(self, X: NDArray[Any]) -> Array:
        """Distance of each band to those of the training clips; (n, n_bands)."""
        check_is_fitted(self)
        if X.shape[1:] != self.bands_.shape[:1] + self.bands_.shape[2:]:
            expected = (self.bands_.shape[0], self.bands_.shape[2])
            raise ValueError(f"Clips have bands {X.shape[1:]}; {expected} were fitted")
        return self._of_bands(_directions(X), self.k_)

    def score_samples(self, X: NDArray[Any]) -> Array:
        """Rate each clip; higher means more normal."""
        check_is_fitted(self)
        if self.per_domain:
            return rate_by_banks(self.banks_, self.standards_, X)
        return -self._over_bands(self.band_distances(X))

    def own_distances(self) -> Array:
        """Rate each fitted clip (n,) by the others, as `score_samples` does but for the sign."""
        k = min(self.k_, self.bands_.shape[1] - 1)
        return self._over_bands(self._of_bands(self.bands_, k, leave_one_out=True))

    def _of_bands(self, bands: Array, k: int, *, leave_one_out: bool = False) -> Array:
        """Compare directions (n_bands, n, dim) with the training clips'; (n, n_bands)."""
        distances = []
        for number, (own, others) in enumerate(zip(bands, self.bands_, strict=True)):
            distance = (1.0 - own @ others.T) / 2  # (n, n_train)
            if self.normalize != "none":
                density, multiple = self.density_[number], self.multiple_[number]
                distance = weighted(distance, density, multiple, self.normalize)
            if leave_one_out:
                np.fill_diagonal(distance, np.inf)
            distances.append(mean_of_smallest(distance, k))
        return np.stack(distances, axis=1)

    def _over_bands(self, distances: Array) -> Array:
        pool = np.max if self.over_bands == "max" else np.mean
        return pool(distances, axis=1)  # type: ignore[no-any-return]


def _densities(directions: Array, k: int) -> tuple[Array, float]:
    distance, index = nearest(directions, directions, k, leave_one_out=True)
    return densities(np.square(distance) / 4, index)


def _directions(X: NDArray[Any]) -> Array:
    """Scale every band's vector to length 1; (n_bands, n, dim)."""
    bands = np.ascontiguousarray(np.moveaxis(np.asarray(X, dtype=np.float64), 1, 0))
    length = np.linalg.norm(bands, axis=2, keepdims=True)
    return bands / np.where(length == 0, 1.0, length)
