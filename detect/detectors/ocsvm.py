"""One-Class SVM with the RBF kernel built by one matrix product."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn import svm
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from detect.detector import OwnDetector
from ground.options import Positive, Share

Array = NDArray[np.float64]
SCORED_AT_ONCE = 4096


class OneClassSVM(OwnDetector, BaseEstimator):  # type: ignore[misc]
    """scikit-learn's One-Class SVM (RBF), same scores, on a kernel matrix computed beforehand.

    libsvm computes the kernel one pair at a time; a matrix product is several times faster.
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
        self.check_options()
        X = validate_data(self, X, dtype=np.float64)
        self.gamma_ = self._gamma(X)
        machine = svm.OneClassSVM(kernel="precomputed", nu=self.nu, tol=self.tol)
        machine.fit(rbf_kernel(X, X, self.gamma_))
        self.support_vectors_ = X[machine.support_]
        self.dual_coef_ = machine.dual_coef_[0]
        self.offset_ = float(machine.offset_[0])
        return self

    def score_samples(self, X: NDArray[Any]) -> Array:
        """Rate each row; higher means more normal."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        parts = [
            rbf_kernel(X[i : i + SCORED_AT_ONCE], self.support_vectors_, self.gamma_)
            @ self.dual_coef_
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


def rbf_kernel(A: Array, B: Array, gamma: float) -> Array:
    """Compute exp(-gamma |a - b|^2) for every pair; (n_a, n_b)."""
    kernel = A @ B.T  # where B is A, numpy computes one half
    kernel *= 2 * gamma
    kernel -= gamma * np.einsum("ij,ij->i", A, A)[:, None]
    kernel -= gamma * np.einsum("ij,ij->i", B, B)
    np.minimum(kernel, 0, out=kernel)
    return np.exp(kernel, out=kernel)
