"""One-Class SVM whose RBF kernel comes from matrix products, of the rows that are needed."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from detect.options import Positive, Share, check_own_options

Array = NDArray[np.float64]
SCORED_AT_ONCE = 4096
ROWS_AHEAD = 64
LEAST_CURVATURE, MOST_STEPS = 1e-12, 10**7  # libsvm's


class OneClassSVM(BaseEstimator):  # type: ignore[misc]
    """scikit-learn's One-Class SVM (RBF): the same steps to the same scores.

    libsvm computes the kernel one pair at a time; matrix products are several times faster.
    `gamma` is a number, "scale" (1 / (dim * variance of X)) or "auto" (1 / dim).
    """

    def __init__(
        self,
        nu: Share = 0.5,
        *,
        gamma: Literal["scale", "auto"] | Positive = "scale",
        tol: Positive = 1e-3,
    ) -> None:
        self.nu = nu
        self.gamma = gamma
        self.tol = tol

    def fit(self, X: NDArray[Any], y: object = None) -> Self:
        """Learn the region of normal clips X (n, dim)."""
        check_own_options(self)
        X = validate_data(self, X, dtype=np.float64)
        self.gamma_ = self._gamma(X)
        weight, self.offset_ = solve(X, self.gamma_, self.nu, self.tol)
        self.support_vectors_ = X[weight > 0]
        self.dual_coef_ = weight[weight > 0]
        return self

    def score_samples(self, X: NDArray[Any]) -> Array:
        """Rate each row; higher means more normal."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        own = self.support_vectors_
        lengths = np.einsum("ij,ij->i", own, own)
        parts = [
            rbf_kernel(X[i : i + SCORED_AT_ONCE], own, self.gamma_, lengths) @ self.dual_coef_
            for i in range(0, len(X), SCORED_AT_ONCE)
        ]
        return np.concatenate(parts)

    def decision_function(self, X: NDArray[Any]) -> Array:
        """Score above the boundary; negative lies outside."""
        return self.score_samples(X) - self.offset_

    def _gamma(self, X: Array) -> float:
        if self.gamma == "scale":
            variance = X.var()
            return float(1 / (X.shape[1] * variance)) if variance > 0 else 1.0
        if self.gamma == "auto":
            return 1.0 / int(X.shape[1])
        return float(self.gamma)


class _KernelRows:
    """Rows of the kernel of X with itself, computed when they are first asked for.

    In float32, as libsvm keeps them: the same rounding leads to the same steps.
    """

    def __init__(self, X: Array, gamma: float) -> None:
        self.X = X
        self.gamma = gamma
        self.lengths = np.einsum("ij,ij->i", X, X)
        self.at = np.full(len(X), -1)  # place of a clip's row among those computed
        self.n_computed = 0
        self.rows = np.empty((len(X), len(X)), dtype=np.float32)  # no memory before it is written

    def compute(self, clips: NDArray[np.intp]) -> NDArray[np.float32]:
        """Compute the rows of these clips at once; none may have been computed before."""
        places = slice(self.n_computed, self.n_computed + len(clips))
        found = self.rows[places]
        found[:] = rbf_kernel(self.X[clips], self.X, self.gamma, self.lengths)
        found[np.arange(len(clips)), clips] = 1.0
        self.at[clips] = np.arange(places.start, places.stop)
        self.n_computed = places.stop
        return found


def solve(X: Array, gamma: float, nu: float, tol: float) -> tuple[Array, float]:
    """Find the weights of X's clips, (n,), and the offset, step by step as libsvm does.

    Weights lie in [0, 1] and add up to nu n. Each step moves weight between the two clips that
    gain most by it (second order: Fan, Chen and Lin 2005). Only clips at the edge ever receive
    any, so that few rows of the kernel are needed; the likeliest are computed ahead, together.
    """
    n = len(X)
    weight = np.clip(nu * n - np.arange(n), 0.0, 1.0)
    kernel = _KernelRows(X, gamma)
    begun = np.flatnonzero(weight)
    slope = weight[begun] @ kernel.compute(begun).astype(np.float64)  # K weight
    full = np.where(weight < 1, 0.0, np.inf)  # inf where a clip's weight cannot grow
    empty = np.where(weight > 0, 0.0, -np.inf)  # -inf where it cannot shrink
    for _ in range(MOST_STEPS):
        rising = slope + full
        i = n - 1 - int(rising[::-1].argmin())  # of equals the last, here and below
        gap = slope + empty - rising[i]
        if gap.max() < tol:
            break
        if kernel.at[i] < 0:
            rising[kernel.at >= 0] = np.inf
            ahead = np.argpartition(rising, min(ROWS_AHEAD, n) - 1)[:ROWS_AHEAD]
            kernel.compute(ahead[kernel.at[ahead] < 0])
        to = kernel.rows[kernel.at[i]].astype(np.float64)
        curvature = np.maximum(2.0 - 2.0 * to, LEAST_CURVATURE)
        gain = np.square(np.maximum(gap, 0.0)) / curvature
        j = n - 1 - int(gain[::-1].argmax())
        moved = min(gap[j] / curvature[j], 1.0 - weight[i], weight[j])
        for k, change in ((i, moved), (j, -moved)):
            weight[k] += change
            full[k] = 0.0 if weight[k] < 1 else np.inf
            empty[k] = 0.0 if weight[k] > 0 else -np.inf
        to -= kernel.rows[kernel.at[j]]
        slope += moved * to
    free = np.isfinite(full + empty)
    if free.any():
        return weight, float(slope[free].mean())
    # no clip lies on the boundary: anywhere between those within and those beyond
    edges = [slope[full > 0].max(initial=-np.inf), slope[empty < 0].min(initial=np.inf)]
    return weight, float(np.mean([edge for edge in edges if np.isfinite(edge)]))


def rbf_kernel(A: Array, B: Array, gamma: float, lengths: Array) -> Array:
    """Compute exp(-gamma |a - b|^2) for every pair; (n_a, n_b). `lengths` are |b|^2."""
    import torch

    kernel = (2 * gamma * A) @ B.T
    kernel -= gamma * np.einsum("ij,ij->i", A, A)[:, None]
    kernel -= gamma * lengths
    np.minimum(kernel, 0, out=kernel)
    torch.from_numpy(kernel).exp_()  # numpy's takes three times as long without AVX-512
    return kernel
