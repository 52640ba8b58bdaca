"""Squared Mahalanobis distance from the mean normal clip under a shrunk covariance.

Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices",
Journal of Multivariate Analysis 88 (2004): covariance = (1 - s) S + s m I with S the sample
covariance, m the mean variance and s the shrinkage that minimises the expected squared error. The
formula for s is that of `sklearn.covariance.ledoit_wolf`, and the results agree with it. `RIDGE`
times m is added to the diagonal, so that equal columns do not make it singular.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, solve_triangular
from scipy.linalg.blas import dsyr, dsyrk
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from detect.detector import OwnDetector, rate_as_own_id
from detect.out_of_fold import fold_numbers
from detect.outside_folds import OutsideFolds, outside_folds, scores_by_refit
from detect.scaler import ColumnScaler

Array = NDArray[np.float64]

SCORED_AT_ONCE = 4096
RIDGE = 1e-9
"""Of the mean variance, which is 1 for standardised clips."""


class Mahalanobis(OwnDetector, BaseEstimator):  # type: ignore[misc]
    """The score is minus the squared distance; an anomaly score is the squared distance itself.

    The covariance is never inverted: S = Z'Z / n, so that with fewer clips than dimensions an
    (n, n) system (Woodbury) is factored, and (dim, dim) otherwise.
    """

    has_fast_folds: ClassVar[bool] = True

    def fit(self, X: NDArray[Any], y: object = None) -> Self:
        """Learn mean and covariance of normal clips X (n, dim)."""
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        self.location_ = X.mean(axis=0)
        self._learn(X - self.location_)
        return self

    def _learn(self, Z: Array) -> None:
        """Learn the covariance of centred clips Z (n, dim)."""
        n, dim = Z.shape
        gram = Z @ Z.T if n < dim else Z.T @ Z
        fourth = np.sum(np.square(np.einsum("ij,ij->i", Z, Z)))
        self.shrinkage_, weight, self.diagonal_ = _shrunk(
            float(np.trace(gram)), float(np.vdot(gram, gram)), n, dim, fourth
        )
        self.clips_ = np.sqrt(weight) * Z if n < dim else None
        gram *= weight
        self.factor_ = _lower_factor(gram, self.diagonal_)

    def mahalanobis(self, X: NDArray[Any]) -> Array:
        """Squared distance of each row from the mean; (n,)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        parts = [
            self._centred_distances(X[i : i + SCORED_AT_ONCE] - self.location_)
            for i in range(0, len(X), SCORED_AT_ONCE)
        ]
        return np.concatenate(parts)

    def score_samples(self, X: NDArray[Any]) -> Array:
        """Rate each row; higher means more normal."""
        return -self.mahalanobis(X)

    def scores_out_of_fold(
        self, X: NDArray[Any], folds: NDArray[np.int64], scaler: ColumnScaler | None
    ) -> Array:
        """Rate each clip X (n, dim) by scaler and covariance of the other folds; (n,).

        Means and scales are those of all clips less the fold's. With at least as many clips as
        dimensions, so is the scatter matrix; otherwise each fold has inner products of its own,
        since its scaling changes all of them. Equal to refitting to 1e-8. ValueError where fewer
        than two clips are outside a fold.
        """
        X = np.asarray(X, dtype=np.float64)
        outside = outside_folds(X, folds, scaled=scaler is not None)
        for number, n in zip(np.unique(folds), outside.n, strict=True):
            if n < 2:
                raise ValueError(f"Fold {number} leaves {n} of {len(X)} clips; 2 are needed")
        scores = np.empty(len(X))
        for fold, held in enumerate(outside.held):
            if not outside.is_exact[fold]:
                scores[held] = scores_by_refit(self, X, held, scaler)
        are_many = outside.n >= X.shape[1]
        many, few = (np.flatnonzero(outside.is_exact & are) for are in (are_many, ~are_many))
        for fold, distances in chain(_by_scatter(outside, many), _by_inner_products(outside, few)):
            scores[outside.held[fold]] = -distances
        return scores

    def _centred_distances(self, Z: Array) -> Array:
        if self.clips_ is None:
            return _whitened_squares(self.factor_, Z)
        # (C'C + dI)^-1 = (I - C' (CC' + dI)^-1 C) / d
        along = _whitened_squares(self.factor_, Z @ self.clips_.T)
        squares = np.einsum("ij,ij->i", Z, Z)
        return np.maximum(squares - along, 0.0) / self.diagonal_  # type: ignore[no-any-return]


def _by_scatter(outside: OutsideFolds, numbers: NDArray[np.intp]) -> Iterator[tuple[int, Array]]:
    """Yield the squared distances of the clips in some folds, by the clips outside each.

    The scatter matrix of all clips is the sum of those of the folds, and each fold subtracts its
    own. With S what is left, n clips and the scaling F of the detector's columns, the shrunk
    covariance is a F S F + d I, so that a squared distance is u' (S + d/a F^-2)^-1 u / a. Only
    the lower halves of the matrices are computed.
    """
    if not len(numbers):
        return
    U, dim = outside.U, outside.U.shape[1]
    everything = dsyrk(1.0, U.T, lower=1)
    scatter = np.empty_like(everything)
    squares = np.empty_like(everything)
    weights = np.square(outside.factor[numbers])
    means = outside.mean[numbers]
    norms = outside.squares @ weights.T - 2 * U @ (weights * means).T  # (n, n_numbers)
    norms += np.einsum("ij,ij->i", weights, np.square(means))
    fourths = np.square(norms)
    for fold, weight, mean, fourth, norm in zip(
        numbers.tolist(), weights, means, fourths.T, norms.T, strict=True
    ):
        held, n = outside.held[fold], int(outside.n[fold])
        np.copyto(scatter, everything)
        dsyrk(-1.0, U[held].T, beta=1.0, c=scatter, lower=1, overwrite_c=1)
        dsyr(-n, mean, lower=1, a=scatter, overwrite_a=1)
        diagonal = np.diag(scatter) * weight
        squared_norm = 2 * (weight @ np.square(scatter, out=squares) @ weight) - diagonal @ diagonal
        _, share, ridge = _shrunk(
            diagonal.sum(), squared_norm, n, dim, fourth.sum() - fourth[held].sum()
        )
        if share == 0:
            yield fold, norm[held] / ridge
            continue
        scatter.flat[:: dim + 1] += ridge / share / weight
        root = cho_factor(scatter, lower=True, overwrite_a=True, check_finite=False)[0]
        yield fold, _whitened_squares(root, U[held] - mean) / share


def _by_inner_products(
    outside: OutsideFolds, numbers: NDArray[np.intp]
) -> Iterator[tuple[int, Array]]:
    """Yield the same as `_by_scatter`, by (n, n) systems, where dimensions outnumber the clips."""
    U, dim = outside.U, outside.U.shape[1]
    factor, scaled = np.full(dim, np.nan), np.empty_like(U)
    for fold in numbers.tolist():
        held, n = outside.held[fold], int(outside.n[fold])
        kept = np.delete(np.arange(len(U)), held)
        if (factor != outside.factor[fold]).any():  # without a scaler all folds have the same
            factor = outside.factor[fold]
            uncentred = np.multiply(U, factor, out=scaled) @ scaled.T
        to_mean = uncentred[:, kept].mean(axis=1)
        products = uncentred - (to_mean + to_mean[:, None] - to_mean[kept].mean())
        norms = np.diag(products)
        gram = products[np.ix_(kept, kept)]
        fourth = np.square(norms[kept]).sum()
        _, share, ridge = _shrunk(float(np.trace(gram)), float(np.vdot(gram, gram)), n, dim, fourth)
        gram *= share
        along = np.sqrt(share) * products[np.ix_(held, kept)]
        explained = _whitened_squares(_lower_factor(gram, ridge), along)
        yield fold, np.maximum(norms[held] - explained, 0.0) / ridge


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


def _shrunk(
    trace: float, squared_norm: float, n: int, dim: int, fourth: float
) -> tuple[float, float, float]:
    """Return shrinkage, weight and diagonal: the covariance is weight Z'Z + diagonal I.

    `trace` and `squared_norm` (Frobenius) are of Z'Z, or of ZZ', which has the same, of n centred
    clips; `fourth` is the sum of their norms to the power of 4. Where all clips are equal, the
    distance is Euclidean.
    """
    mean_variance = trace / (n * dim)
    if mean_variance == 0:
        return 1.0, 0.0, 1.0
    covariance_norm = squared_norm / n**2
    noise = (fourth / n - covariance_norm) / (dim * n)
    spread = covariance_norm / dim - mean_variance**2
    shrinkage = float(np.clip(noise / spread, 0.0, 1.0)) if spread > 0 and dim > 1 else 0.0
    return shrinkage, (1 - shrinkage) / n, (shrinkage + RIDGE) * mean_variance


def _covariance(Z: Array) -> Array:
    """Ledoit-Wolf covariance (dim, dim) of clips Z (n, dim)."""
    Z = Z - Z.mean(axis=0)
    gram = Z.T @ Z
    fourth = np.sum(np.square(np.einsum("ij,ij->i", Z, Z)))
    _, weight, diagonal = _shrunk(
        float(np.trace(gram)), float(np.vdot(gram, gram)), len(Z), Z.shape[1], fourth
    )
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
