"""Detectors that rate a clip by its distance from the nearest normal ones."""

from __future__ import annotations

import warnings
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.neighbors import LocalOutlierFactor
from sklearn.utils.validation import check_is_fitted, validate_data

from detect.detector import OwnDetector
from ground.options import Count

Array = NDArray[np.float64]
SEARCHED_AT_ONCE = 1024
COMPARED_AT_ONCE = 32  # fits the cache


class KNN(OwnDetector, BaseEstimator):  # type: ignore[misc]
    """Mean distance to the k nearest normal clips.

    `normalize` weighs each distance by how sparse the training clips are around that neighbour
    (its mean distance to `density_k` others, leave-one-out): "ldn" divides by it (Wilkinghoff et
    al., arXiv:2509.10951), "varmin" subtracts the multiple of it that minimises the variance of
    the training clips' own scores (Matsumoto et al., DCASE 2025).
    """

    def __init__(
        self,
        k: Count = 5,
        *,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        normalize: Literal["none", "ldn", "varmin"] = "none",
        density_k: Count = 16,
    ) -> None:
        self.k = k
        self.metric = metric
        self.normalize = normalize
        self.density_k = density_k

    def fit(self, X: NDArray[Any], y: object = None) -> Self:
        """Keep normal clips X (n, dim)."""
        self.check_options()
        is_plain = self.normalize == "none"
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=1 if is_plain else 2)
        self.clips_ = self._on_sphere(X)
        self.k_ = min(self.k, len(X))
        if not is_plain:
            others = min(self.density_k, len(X) - 1)
            distance, index = nearest(self.clips_, self.clips_, others, leave_one_out=True)
            self.density_ = np.maximum(distance.mean(axis=1), np.finfo(float).tiny)
            spread = self.density_[index[:, 0]]
            variance = spread.var()
            covariance = np.mean((distance[:, 0] - distance[:, 0].mean()) * spread)
            self.multiple_ = covariance / variance if variance > 0 else 0.0
        return self

    def score_samples(self, X: NDArray[Any]) -> Array:
        """Rate each row; higher means more normal."""
        check_is_fitted(self)
        X = self._on_sphere(validate_data(self, X, dtype=np.float64, reset=False))
        if self.normalize == "none":
            return -nearest(X, self.clips_, self.k_)[0].mean(axis=1)  # type: ignore[no-any-return]
        # weighted by its density, any training clip may be the nearest
        distance = all_distances(X, self.clips_)
        density = self.density_
        if self.normalize == "ldn":
            weighted = distance / density
        else:
            weighted = distance - self.multiple_ * density
        weighted.partition(self.k_ - 1, axis=1)
        return -weighted[:, : self.k_].mean(axis=1)  # type: ignore[no-any-return]

    def _on_sphere(self, X: Array) -> Array:
        if self.metric == "euclidean":
            return X
        length = np.linalg.norm(X, axis=1, keepdims=True)
        return X / np.where(length == 0, 1.0, length)  # |a - b|^2 = 2 (1 - cosine)


def nearest(
    X: Array, clips: Array, k: int, *, leave_one_out: bool = False
) -> tuple[Array, NDArray[np.int64]]:
    """Find the k nearest of `clips` for each row: distances (n, k), nearest first, and rows.

    One float32 matrix product finds the candidates. It cannot give their distances, which are
    small differences of large numbers; those are taken from the differences of the vectors, to
    1e-7. `leave_one_out`: X is `clips`, and no clip is its own neighbour.
    """
    import torch

    from detect.detectors.training import on_threads

    centre = clips.mean(axis=0)
    bank = torch.from_numpy((clips - centre).astype(np.float32))
    half_norm = bank.square().sum(dim=1) / -2
    n_candidates = min(len(clips), k + 1 + leave_one_out)  # the product may swap near ties
    distances, indices = [], []
    for start in range(0, len(X), SEARCHED_AT_ONCE):
        rows = torch.from_numpy((X[start : start + SEARCHED_AT_ONCE] - centre).astype(np.float32))
        own_rows = torch.arange(start, start + len(rows))
        # x.c - |c|^2 / 2 is largest for the nearest clip c
        closeness = torch.addmm(half_norm, rows, bank.T)  # (n, n_clips)
        if leave_one_out:
            closeness[own_rows - start, own_rows] = -torch.inf
        found = closeness.topk(n_candidates, dim=1, sorted=False).indices
        parts = (torch.split(values, COMPARED_AT_ONCE) for values in (rows, found))
        with on_threads(1):  # many small steps
            gaps = [
                torch.linalg.vector_norm(bank[of] - x[:, None], dim=2)
                for x, of in zip(*parts, strict=True)
            ]
        exact = torch.cat(gaps)  # (n, n_candidates)
        if leave_one_out:
            exact[found == own_rows[:, None]] = torch.inf
        near, order = exact.topk(k, dim=1, largest=False)
        distances.append(near.double().numpy())
        indices.append(found.gather(1, order).numpy())
    return np.concatenate(distances), np.concatenate(indices)


def all_distances(X: Array, clips: Array) -> Array:
    """Distance of every row to every clip; (n, n_clips)."""
    import torch

    return torch.cdist(torch.from_numpy(X), torch.from_numpy(clips)).numpy()


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
