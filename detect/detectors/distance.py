"""Detectors that rate a clip by its distance from the nearest normal ones."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import LocalOutlierFactor
from sklearn.utils.validation import check_is_fitted, validate_data

from detect.detector import OwnDetector
from detect.detectors.density import (
    Normalize,
    densities,
    fit_banks,
    mean_of_smallest,
    rate_by_banks,
    weighted,
)
from detect.outside_folds import outside_folds, scores_by_refit
from detect.scaler import ColumnScaler
from ground.options import Count

Array = NDArray[np.float64]
SEARCHED_AT_ONCE = 1024
COMPARED_AT_ONCE = 32  # fits the cache
GROUP = 16
"""Columns of which only the smallest is compared, until the best groups are known."""


class KNN(OwnDetector, BaseEstimator):  # type: ignore[misc]
    """Mean distance to the k nearest normal clips.

    `metric` "cosine" is (1 - cosine) / 2. `normalize` weighs each distance by how sparse the
    training clips are around that neighbour (its mean distance to `density_k` others): "ldn"
    divides by it, "varmin" subtracts a multiple of it; see `detect.detectors.density`. With
    `per_domain`, clips of each domain are a bank of their own, and the smallest of the banks'
    standardised distances counts.
    """

    has_fast_folds: ClassVar[bool] = True
    takes_domains: ClassVar[bool] = True

    def __init__(
        self,
        k: Count = 5,
        *,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        normalize: Normalize = "none",
        density_k: Count = 16,
        per_domain: bool = False,
    ) -> None:
        self.k = k
        self.metric = metric
        self.normalize = normalize
        self.density_k = density_k
        self.per_domain = per_domain

    def fit(self, X: NDArray[Any], y: object = None, domains: NDArray[Any] | None = None) -> Self:
        """Keep normal clips X (n, dim); `domains` (n,) are needed with `per_domain` only."""
        self.check_options()
        is_plain = self.normalize == "none"
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=1 if is_plain else 2)
        if self.per_domain:
            self.banks_, self.standards_ = fit_banks(self, X, domains)
            return self
        self.clips_ = self._on_sphere(X)
        self.k_ = min(self.k, len(X))
        if not is_plain:
            others = min(self.density_k, len(X) - 1)
            distance, index = nearest(self.clips_, self.clips_, others, leave_one_out=True)
            self.density_, self.multiple_ = densities(self._distance(distance), index)
        return self

    def score_samples(self, X: NDArray[Any]) -> Array:
        """Rate each row; higher means more normal."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        if self.per_domain:
            return rate_by_banks(self.banks_, self.standards_, X)
        X = self._on_sphere(X)
        if self.normalize == "none":
            near = nearest(X, self.clips_, self.k_)[0]
            return -self._distance(near).mean(axis=1)  # type: ignore[no-any-return]
        # weighted by its density, any training clip may be the nearest
        return -mean_of_smallest(self._weighted(all_distances(X, self.clips_)), self.k_)

    def own_distances(self) -> Array:
        """Rate each fitted clip (n,) by the others, as `score_samples` does but for the sign."""
        distance = self._weighted(all_distances(self.clips_, self.clips_))
        np.fill_diagonal(distance, np.inf)
        return mean_of_smallest(distance, min(self.k_, len(distance) - 1))

    def _weighted(self, distance: Array) -> Array:
        distance = self._distance(distance)
        if self.normalize == "none":
            return distance
        return weighted(distance, self.density_, self.multiple_, self.normalize)

    def _distance(self, distance: Array) -> Array:
        """Turn Euclidean distances into those of `metric`: |a - b|^2 = 2 (1 - cosine)."""
        return distance if self.metric == "euclidean" else np.square(distance) / 4

    def scores_out_of_fold(
        self, X: NDArray[Any], folds: NDArray[np.int64], scaler: ColumnScaler | None
    ) -> Array | None:
        """Rate each clip X (n, dim) by its neighbours outside its fold; (n,).

        Scaling changes with the fold, so that each fold has a matrix product of its own, but of
        its clips only: together they are as many as those of all clips. Equal to refitting to
        1e-8. None for another metric, with `normalize` or by domain.
        """
        if self.metric != "euclidean" or self.normalize != "none" or self.per_domain:
            return None
        X = np.asarray(X, dtype=np.float64)
        outside = outside_folds(X, folds, scaled=scaler is not None)
        bank = outside.U.astype(np.float32)
        weights = np.square(outside.factor)
        half_norms = (weights @ outside.squares.T / 2).astype(np.float32)  # (n_folds, n)
        scores = np.empty(len(X))
        for fold, held in enumerate(outside.held):
            if not outside.is_exact[fold]:
                scores[held] = scores_by_refit(self, X, held, scaler)
                continue
            n = int(outside.n[fold])
            k = min(self.k, n)
            rows = (outside.U[held] * weights[fold]).astype(np.float32)
            remoteness = half_norms[fold] - rows @ bank.T
            remoteness[:, held] = np.inf
            found = _smallest(remoteness, min(k + 1, n))
            exact = _distances_to(outside.U[held], outside.U, found, outside.factor[fold])
            exact.partition(k - 1, axis=1)
            scores[held] = -exact[:, :k].mean(axis=1)
        return scores

    def _on_sphere(self, X: Array) -> Array:
        if self.metric == "euclidean":
            return X
        length = np.linalg.norm(X, axis=1, keepdims=True)
        return X / np.where(length == 0, 1.0, length)


def nearest(
    X: Array, clips: Array, k: int, *, leave_one_out: bool = False
) -> tuple[Array, NDArray[np.int64]]:
    """Find the k nearest of `clips` for each row: distances (n, k), nearest first, and rows.

    One float32 matrix product finds the candidates. It cannot give their distances, which are
    small differences of large numbers; those are taken from the differences of the vectors in
    float64. `leave_one_out`: X is `clips`, and no clip is its own neighbour.
    """
    centre = clips.mean(axis=0)
    centred = clips - centre
    bank = centred.astype(np.float32)
    half_norm = np.einsum("ij,ij->i", bank, bank) / 2
    n_candidates = min(len(clips), k + 1 + leave_one_out)  # the product may swap near ties
    distances, indices = [], []
    for start in range(0, len(X), SEARCHED_AT_ONCE):
        rows = X[start : start + SEARCHED_AT_ONCE] - centre
        own_rows = np.arange(start, start + len(rows))
        remoteness = rows.astype(np.float32) @ bank.T  # (n, n_clips)
        # |c|^2 / 2 - x.c is smallest for the nearest clip c
        np.subtract(half_norm, remoteness, out=remoteness)
        if leave_one_out:
            remoteness[own_rows - start, own_rows] = np.inf
        found = _smallest(remoteness, n_candidates)
        exact = _distances_to(rows, centred, found)  # (n, n_candidates)
        if leave_one_out:
            exact[found == own_rows[:, None]] = np.inf
        order = exact.argsort(axis=1)[:, :k]
        distances.append(np.take_along_axis(exact, order, axis=1))
        indices.append(np.take_along_axis(found, order, axis=1))
    return np.concatenate(distances), np.concatenate(indices)


def _smallest(values: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Find the columns of the k smallest values of each row, (n, m) to (n, k), in any order.

    They are in the k groups of columns with the lowest minima, so that most of a wide row is only
    compared within its groups.
    """
    n, m = values.shape
    n_groups = m // GROUP
    if n_groups < 2 * k:
        return values.argpartition(k - 1, axis=1)[:, :k]
    in_groups = values[:, : n_groups * GROUP].reshape(n, GROUP, n_groups)
    groups = in_groups.min(axis=1).argpartition(k - 1, axis=1)[:, :k]
    columns = (groups[:, :, None] + n_groups * np.arange(GROUP)).reshape(n, -1)
    rest = np.broadcast_to(np.arange(n_groups * GROUP, m), (n, m - n_groups * GROUP))
    columns = np.concatenate([columns, rest], axis=1)
    best = np.take_along_axis(values, columns, axis=1).argpartition(k - 1, axis=1)[:, :k]
    return np.take_along_axis(columns, best, axis=1)


def _distances_to(
    X: Array, clips: Array, chosen: NDArray[np.int64], factor: Array | None = None
) -> Array:
    """Distance of each row of X to the rows of `clips` in `chosen` (n, m), in float64.

    `factor` (dim,) scales the columns of both.
    """
    distances = np.empty(chosen.shape)
    for start in range(0, len(X), COMPARED_AT_ONCE):
        part = slice(start, start + COMPARED_AT_ONCE)
        gaps = clips[chosen[part]]  # (n, m, dim)
        gaps -= X[part, None]
        if factor is not None:
            gaps *= factor
        distances[part] = np.sqrt(np.einsum("ijk,ijk->ij", gaps, gaps))
    return distances


def all_distances(X: Array, clips: Array) -> Array:
    """Distance of every row to every clip; (n, n_clips)."""
    centre = clips.mean(axis=0)  # the product of small numbers loses the fewest digits
    return euclidean_distances(X - centre, clips - centre)  # type: ignore[no-any-return]


class LOF(OwnDetector, LocalOutlierFactor):  # type: ignore[misc]
    """Local outlier factor of new clips; k is no more than there are other training clips."""

    def __init__(self, n_neighbors: Count = 20) -> None:
        super().__init__(n_neighbors=n_neighbors, novelty=True)

    def fit(self, X: NDArray[Any], y: object = None) -> Self:
        """Learn the local densities of normal clips X (n, dim)."""
        self.check_options()
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="n_neighbors .* is greater than")
            return super().fit(X)  # type: ignore[no-any-return]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        return tags
