"""Squared Mahalanobis distance from the mean normal clip under a shrunk covariance.

Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices",
Journal of Multivariate Analysis 88 (2004): covariance = (1 - s) S + s m I with S the sample
covariance, m the mean variance and s the shrinkage that minimises the expected squared error. The
formula for s is that of `sklearn.covariance.ledoit_wolf`, and the results agree with it. `RIDGE`
times m is added to the diagonal, so that equal columns do not make it singular.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, solve_triangular
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted, validate_data

from detect.detector import OwnDetector, rate_as_own_id
from detect.out_of_fold import fold_numbers
from detect.scaler import ColumnScaler, scale_of

Array = NDArray[np.float64]

SCORED_AT_ONCE = 4096
RIDGE = 1e-9
"""Of the mean variance, which is 1 for standardised clips."""
LEAST_VARIANCE = 1e-4
"""Share of a column's variance that must be left outside a fold; with less, `_Scatter` subtracts
nearly equal numbers and the fold is refitted."""


class Mahalanobis(OwnDetector, BaseEstimator):  # type: ignore[misc]
    """The score is minus the squared distance; an anomaly score is the squared distance itself.

    The covariance is never inverted: S = Z'Z / n, so that with fewer clips than dimensions an
    (n, n) system (Woodbury) is factored, and (dim, dim) otherwise.
    """

    has_fast_folds: ClassVar[bool] = True

    def fit(self, X: NDArray[Any], y: object = None) -> Self:
        """Learn mean and covariance of normal clips X (n, dim)."""
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        n, dim = X.shape
        self.location_ = X.mean(axis=0)
        Z = X - self.location_
        gram = Z @ Z.T if n < dim else Z.T @ Z
        fourth = np.sum(np.square(np.einsum("ij,ij->i", Z, Z)))
        self.shrinkage_, weight, self.diagonal_ = _shrunk(gram, n, dim, fourth)
        self.clips_ = np.sqrt(weight) * Z if n < dim else None
        self.factor_ = _lower_factor(weight * gram, self.diagonal_)
        return self

    def mahalanobis(self, X: NDArray[Any]) -> Array:
        """Squared distance of each row from the mean; (n,)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        parts = [
            self._distances(X[i : i + SCORED_AT_ONCE]) for i in range(0, len(X), SCORED_AT_ONCE)
        ]
        return np.concatenate(parts)

    def score_samples(self, X: NDArray[Any]) -> Array:
        """Rate each row; higher means more normal."""
        return -self.mahalanobis(X)

    def scores_out_of_fold(
        self, X: NDArray[Any], folds: NDArray[np.int64], scaler: ColumnScaler | None
    ) -> Array:
        """Rate each clip X (n, dim) by scaler and covariance of the other folds; (n,).

        With at least as many clips as dimensions, the folds share one scatter matrix, from which
        each subtracts its own clips; otherwise every fold is a fit of its own. Equal to refitting
        to 1e-8. ValueError where fewer than two clips are outside a fold.
        """
        X = np.asarray(X, dtype=np.float64)
        scores = np.empty(len(X))
        shared = _Scatter(X) if len(X) > X.shape[1] else None
        for number in np.unique(folds):
            held = folds == number
            if len(X) - held.sum() < 2:
                raise ValueError(
                    f"Fold {number} leaves {len(X) - held.sum()} of {len(X)} clips; 2 are needed"
                )
            found = shared.distances(held, scaled=scaler is not None) if shared else None
            scores[held] = self._refitted(X, held, scaler) if found is None else -found
        return scores

    def _refitted(self, X: Array, held: NDArray[np.bool_], scaler: ColumnScaler | None) -> Array:
        kept, left = X[~held], X[held]
        if scaler is not None:
            scaler = clone(scaler).fit(kept)
            kept, left = scaler.transform(kept), scaler.transform(left)
        return clone(self).fit(kept).score_samples(left)  # type: ignore[no-any-return]

    def _distances(self, X: Array) -> Array:
        Z = X - self.location_
        if self.clips_ is None:
            return _whitened_squares(self.factor_, Z)
        # (C'C + dI)^-1 = (I - C' (CC' + dI)^-1 C) / d
        along = _whitened_squares(self.factor_, Z @ self.clips_.T)
        squares = np.einsum("ij,ij->i", Z, Z)
        return np.maximum(squares - along, 0.0) / self.diagonal_  # type: ignore[no-any-return]


class _Scatter:
    """Scatter matrix of all clips, from which those of a fold are subtracted."""

    def __init__(self, X: Array) -> None:
        self.centre = X.mean(axis=0)
        deviation = X.std(axis=0)
        self.is_constant = deviation < 1e-12 * np.abs(self.centre)
        self.unit = np.where(self.is_constant | (deviation == 0), 1.0, deviation)
        self.U = np.where(self.is_constant, 0.0, X - self.centre) / self.unit
        self.is_constant |= deviation == 0
        self.squares = np.square(self.U)
        self.products = self.U.T @ self.U  # (dim, dim)

    def distances(self, held: NDArray[np.bool_], *, scaled: bool) -> Array | None:
        """Squared distances of the held clips by the others; None where subtracting is inexact."""
        left = self.U[held]
        n, dim = len(self.U) - len(left), self.U.shape[1]
        if n < dim:
            return None
        mean = -left.sum(axis=0) / n  # U's own sum is zero
        scatter = left.T @ left
        scatter += np.outer(n * mean, mean)
        np.subtract(self.products, scatter, out=scatter)
        variance = np.diag(scatter) / n
        if (variance[~self.is_constant] < LEAST_VARIANCE).any():
            return None
        deviation = np.sqrt(np.where(self.is_constant, 0.0, variance)) * self.unit
        scale = scale_of(self.centre + mean * self.unit, deviation) if scaled else 1.0
        factor = self.unit / scale  # from columns of U to those of the detector
        weights = np.square(factor)
        norms = self.squares @ weights - 2 * self.U @ (weights * mean) + weights @ np.square(mean)
        scatter *= factor
        scatter *= factor[:, None]
        _, weight, diagonal = _shrunk(scatter, n, dim, np.sum(np.square(norms[~held])))
        scatter *= weight
        root = _lower_factor(scatter, diagonal)
        return _whitened_squares(root, (left - mean) * factor)


class SharedMahalanobis(OwnDetector, BaseEstimator):  # type: ignore[misc]
    """Mahalanobis distance from the own machine ID, its covariance drawn to the type's mean.

    For IDs with few clips that vary alike. Each ID has its own mean, scaling and Ledoit-Wolf
    covariance S_id of standardised clips; the one used is (1 - share) S_id + share * mean of S_id
    over the type's IDs. `share_` is the one of `SHARES` with the highest Gaussian log-likelihood of
    the training clips out of fold, and 0 if that is below `LEAST_SHARE`. Without `ids`, a clip is
    rated as the ID that suits it best.
    """

    wants_scaling: ClassVar[bool] = False
    needs_ids: ClassVar[bool] = True

    SHARES: ClassVar[tuple[float, ...]] = (0.0, 0.25, 0.5, 0.75, 1.0)
    LEAST_SHARE: ClassVar[float] = 0.75
    """In a study of nine tasks, one machine type reached it and gained; sharing that was forced on
    others did harm."""

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> Self:
        """Learn from normal clips X (n, dim) of the machine IDs y (n,), two clips of each."""
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None: the machine IDs")
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        self.classes_, class_numbers = np.unique(y, return_inverse=True)
        clips = [X[class_numbers == i] for i in range(len(self.classes_))]
        for name, rows in zip(self.classes_, clips, strict=True):
            if len(rows) < 2:
                raise ValueError(f"machine ID {name} has 1 training clip; 2 are needed")
        self.scalers_ = [ColumnScaler().fit(rows) for rows in clips]
        covariances = [
            _covariance(scaler.transform(rows))
            for scaler, rows in zip(self.scalers_, clips, strict=True)
        ]
        self.likelihoods_ = _likelihoods(clips, covariances, self.SHARES)
        best = self.SHARES[int(np.argmax(self.likelihoods_))]
        self.share_ = best if best >= self.LEAST_SHARE else 0.0
        mean = np.mean(covariances, axis=0)
        self.factors_ = [
            _lower_factor((1 - self.share_) * covariance + self.share_ * mean)
            for covariance in covariances
        ]
        return self

    def score_samples(self, X: NDArray[Any], ids: NDArray[Any] | None = None) -> Array:
        """Rate each row as a clip of the machine `ids` names; higher means more normal."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        distances = [
            _whitened_squares(factor, scaler.transform(X))
            for factor, scaler in zip(self.factors_, self.scalers_, strict=True)
        ]
        return rate_as_own_id(-np.stack(distances, axis=1), self.classes_, ids)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.one_d_labels = True
        return tags


def _shrunk(gram: Array, n: int, dim: int, fourth: float) -> tuple[float, float, float]:
    """Return shrinkage, weight and diagonal: the covariance is weight Z'Z + diagonal I.

    `gram` is Z'Z or ZZ' (their trace and Frobenius norm are equal) of n centred clips, `fourth`
    the sum of their norms to the power of 4. Where all clips are equal, the distance is Euclidean.
    """
    mean_variance = float(np.trace(gram)) / (n * dim)
    if mean_variance == 0:
        return 1.0, 0.0, 1.0
    covariance_norm = float(np.vdot(gram, gram)) / n**2
    noise = (fourth / n - covariance_norm) / (dim * n)
    spread = covariance_norm / dim - mean_variance**2
    shrinkage = float(np.clip(noise / spread, 0.0, 1.0)) if spread > 0 and dim > 1 else 0.0
    return shrinkage, (1 - shrinkage) / n, (shrinkage + RIDGE) * mean_variance


def _covariance(Z: Array) -> Array:
    """Ledoit-Wolf covariance (dim, dim) of clips Z (n, dim)."""
    Z = Z - Z.mean(axis=0)
    gram = Z.T @ Z
    fourth = np.sum(np.square(np.einsum("ij,ij->i", Z, Z)))
    _, weight, diagonal = _shrunk(gram, len(Z), Z.shape[1], fourth)
    gram *= weight
    gram.flat[:: len(gram) + 1] += diagonal
    return gram


def _likelihoods(
    clips: list[Array], covariances: list[Array], shares: tuple[float, ...]
) -> list[float]:
    """Log-likelihood of all clips, each out of its fold, per share; a constant is left out.

    `clips` and `covariances` have one entry per machine ID. The mean over IDs leaves out the
    held-out fold too. Clips of IDs with fewer than three cannot be held out and are not counted.
    """
    total = np.zeros(len(shares))
    for i, rows in enumerate(clips):
        if len(rows) < 3:
            continue
        others = np.sum(covariances[:i] + covariances[i + 1 :], axis=0)
        folds = fold_numbers(range(len(rows)))
        for number in range(folds.max() + 1):
            kept, left = rows[folds != number], rows[folds == number]
            scaler = ColumnScaler().fit(kept)
            own, Z = _covariance(scaler.transform(kept)), scaler.transform(left)
            mean = (own + others) / len(clips)
            for j, share in enumerate(shares):
                factor = _lower_factor((1 - share) * own + share * mean)
                log_determinant = 2 * np.log(np.diag(factor)).sum()
                squares = _whitened_squares(factor, Z)
                total[j] -= 0.5 * (squares.sum() + len(Z) * log_determinant)
    return total.tolist()


def _lower_factor(matrix: Array, diagonal: float = 0.0) -> Array:
    """Cholesky factor of a symmetric matrix + diagonal I, in place; its upper half is not zero."""
    matrix.flat[:: len(matrix) + 1] += diagonal
    # LAPACK works on columns: the transpose of a symmetric matrix needs no copy
    return cho_factor(matrix.T, lower=True, overwrite_a=True, check_finite=False)[0]  # type: ignore[no-any-return]


def _whitened_squares(factor: Array, Z: Array) -> Array:
    """Square the length of factor^-1 z, row by row of Z (n, k); factor (k, k) is triangular."""
    whitened = solve_triangular(factor, Z.T, lower=True, check_finite=False)
    return np.einsum("ij,ij->j", whitened, whitened)  # type: ignore[no-any-return]
