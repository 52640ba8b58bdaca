"""Squared distance from the principal subspace of normal clips."""

from __future__ import annotations

from typing import Annotated, Any, Self

import numpy as np
from annotated_types import Gt, Lt
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from detect.detector import OwnDetector

Array = NDArray[np.float64]


class PCAResidual(OwnDetector, BaseEstimator):  # type: ignore[misc]
    """Squared distance from the subspace of the first principal components.

    It has as many components as explain `explained` of the training clips' variance, and at least
    one.
    """

    def __init__(self, explained: Annotated[float, Gt(0), Lt(1)] = 0.95) -> None:
        self.explained = explained

    def fit(self, X: NDArray[Any], y: object = None) -> Self:
        """Learn the subspace of normal clips X (n, dim)."""
        self.check_options()
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        self.location_ = X.mean(axis=0)
        _, lengths, directions = np.linalg.svd(X - self.location_, full_matrices=False)
        share = np.cumsum(lengths**2) / max(np.sum(lengths**2), np.finfo(float).tiny)
        n_components = 1 + int(np.searchsorted(share, self.explained, side="right"))
        self.components_ = directions[: min(n_components, len(directions))]
        return self

    def score_samples(self, X: NDArray[Any]) -> Array:
        """Rate each row; higher means more normal."""
        check_is_fitted(self)
        Z = validate_data(self, X, dtype=np.float64, reset=False) - self.location_
        left = Z - (Z @ self.components_.T) @ self.components_
        return -np.einsum("ij,ij->i", left, left)  # type: ignore[no-any-return]
