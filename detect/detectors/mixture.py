"""Gaussian mixtures of normal clips, exact and fast where clips are fewer than dimensions."""

from __future__ import annotations

import warnings
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted, validate_data

from detect.detector import OwnDetector
from ground.options import Count, Positive

Array = NDArray[np.float64]


class GMM(OwnDetector, BaseEstimator):  # type: ignore[misc]
    """Log-likelihood under a full-covariance Gaussian mixture.

    `rate_by` is "mixture" or "nearest" (the best component without its weight, as in TWFR-GMM: Guan
    et al., "Time-weighted frequency domain audio representation with GMM estimator for anomalous
    sound detection", ICASSP 2023).
    n clips span n - 1 dimensions; in all others every component has variance `reg_covar` and
    mean zero. So the mixture is fitted within the span and the rest is added in closed form, which
    gives the same likelihood at a fraction of the cost.
    """

    def __init__(
        self,
        n_components: Count = 2,
        *,
        reg_covar: Positive = 1e-3,
        max_iter: Count = 100,
        rate_by: Literal["mixture", "nearest"] = "mixture",
        random_state: int | None = 0,
    ) -> None:
        self.n_components = n_components
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.rate_by = rate_by
        self.random_state = random_state

    def fit(self, X: NDArray[Any], y: object = None) -> Self:
        """Fit the mixture to normal clips X (n, dim)."""
        self.check_options()
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        n, dim = X.shape
        self.location_ = X.mean(axis=0)
        Z = X - self.location_
        self.basis_ = np.linalg.qr(Z.T)[0] if n < dim else None  # (dim, n)
        mixture = GaussianMixture(
            min(self.n_components, n),
            reg_covar=self.reg_covar,
            max_iter=self.max_iter,
            random_state=self.random_state,
        )
        with warnings.catch_warnings():
            # few clips: duplicates for k-means, or EM still moving after max_iter; both are fine
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(Z if self.basis_ is None else Z @ self.basis_)
        self.weights_ = mixture.weights_
        self.means_ = mixture.means_
        self.precisions_cholesky_ = mixture.precisions_cholesky_
        return self

    def score_samples(self, X: NDArray[Any]) -> Array:
        """Rate each row by its log-likelihood; higher means more normal."""
        check_is_fitted(self)
        Z = validate_data(self, X, dtype=np.float64, reset=False) - self.location_
        outside = 0.0
        if self.basis_ is not None:
            within = Z @ self.basis_
            left = np.square(Z - within @ self.basis_.T).sum(axis=1)
            n_left = Z.shape[1] - self.basis_.shape[1]
            outside = -0.5 * (left / self.reg_covar + n_left * np.log(2 * np.pi * self.reg_covar))
            Z = within
        densities = np.stack([self._log_density(Z, k) for k in range(len(self.means_))], axis=1)
        if self.rate_by == "nearest":
            return densities.max(axis=1) + outside  # type: ignore[no-any-return]
        return logsumexp(densities + np.log(self.weights_), axis=1) + outside  # type: ignore[no-any-return]

    def _log_density(self, Z: Array, component: int) -> Array:
        root = self.precisions_cholesky_[component]
        whitened = (Z - self.means_[component]) @ root
        log_det = np.log(np.diag(root)).sum()
        constant = Z.shape[1] * np.log(2 * np.pi)
        return log_det - 0.5 * (constant + np.square(whitened).sum(axis=1))  # type: ignore[no-any-return]
