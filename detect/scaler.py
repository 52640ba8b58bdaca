"""Bring every column to the scale of the training normals."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

LEAST_SHARE_OF_MEDIAN = 1e-3


class ColumnScaler(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Subtract each column's mean and divide by its deviation.

    A column that hardly moves (deviation below 1e-3 of the median deviation) is divided by the
    median, so that its noise is not blown up. Sequences (n, n_frames, dim) are scaled per
    feature over all frames; NaN after a clip's end stays NaN and is left out of both.
    """

    def fit(self, X: NDArray[Any], y: object = None) -> Self:
        """Learn means and deviations from X (n, dim) or (n, n_frames, dim)."""
        X = self._validated(X, reset=True)
        rows = X.reshape(-1, X.shape[-1]) if X.ndim > 2 else X
        if X.ndim > 2:
            rows = rows[~np.isnan(rows).any(axis=1)]
        self.mean_ = rows.mean(axis=0, dtype=np.float64)
        deviation = rows.std(axis=0, dtype=np.float64)
        self.scale_ = scale_of(self.mean_, deviation)
        return self

    def transform(self, X: NDArray[Any]) -> NDArray[Any]:
        """Scale X; vectors come out as float64, sequences keep their type."""
        check_is_fitted(self)
        X = self._validated(X, reset=False)
        scaled = X - self.mean_.astype(X.dtype)
        scaled /= self.scale_.astype(X.dtype)
        return scaled  # type: ignore[no-any-return]

    def _validated(self, X: NDArray[Any], *, reset: bool) -> NDArray[Any]:
        if getattr(X, "ndim", 2) < 3:
            return validate_data(self, X, dtype=np.float64, reset=reset)  # type: ignore[no-any-return]
        if reset:
            self.n_features_in_ = X.shape[-1]
        elif X.shape[-1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[-1]} features per frame, but {self.n_features_in_} were fitted"
            )
        return X


def scale_of(mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Choose what each column is divided by, from the columns' means and deviations (dim,)."""
    rounding = 1e-12 * np.abs(mean)
    deviation = np.where(deviation < rounding, 0.0, deviation)  # constant columns
    median = np.median(deviation)
    if median == 0 and deviation.any():
        median = np.median(deviation[deviation > 0])  # most columns are constant
    scale = np.where(deviation < LEAST_SHARE_OF_MEDIAN * median, median, deviation)
    return np.where(scale == 0, 1.0, scale)
