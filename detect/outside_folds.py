"""Columns' means and scales of the clips outside each fold, by subtracting the fold's sums."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from detect.scaler import ColumnScaler, scale_of

Array = NDArray[np.float64]

LEAST_VARIANCE = 1e-4
"""Share of a column's variance that must be left outside a fold; with less, nearly equal numbers
are subtracted, and the fold is to be refitted."""


@dataclass(frozen=True)
class OutsideFolds:
    """Clips in columns of unit deviation, and how each fold's detector would see them.

    Fitted without fold f, a detector behind the scaler sees `(U - mean[f]) * factor[f]`, up to a
    shift where no scaler is used.
    """

    U: Array
    """(n, dim), all clips, each column with mean 0 and deviation 1; constant columns are 0."""
    held: tuple[NDArray[np.intp], ...]
    """Rows of each fold."""
    n: NDArray[np.intp]
    """(n_folds,), clips outside each fold."""
    mean: Array
    """(n_folds, dim), means outside the fold, in columns of U."""
    factor: Array
    """(n_folds, dim), from columns of U to those that the detector sees."""
    is_exact: NDArray[np.bool_]
    """(n_folds,), False where subtracting loses digits; such a fold's mean and factor are of no
    use."""

    @cached_property
    def squares(self) -> Array:
        return np.square(self.U)


def outside_folds(X: Array, folds: NDArray[np.int64], *, scaled: bool) -> OutsideFolds:
    """Prepare clips X (n, dim) of folds (n,), in the order of the folds' numbers.

    `scaled` says that a `ColumnScaler` is fitted without each fold. ValueError where all clips are
    in one fold.
    """
    held = tuple(np.flatnonzero(folds == number) for number in np.unique(folds))
    n = np.array([len(X) - len(rows) for rows in held])
    if not n.all():
        raise ValueError(f"One fold holds all {len(X)} clips, so that none is left to learn from")
    centre, deviation = X.mean(axis=0), X.std(axis=0)
    is_constant = deviation <= 1e-12 * np.abs(centre)
    unit = np.where(is_constant, 1.0, deviation)
    U = X - centre
    U /= unit
    U[:, is_constant] = 0.0

    mean = np.array([-U[rows].sum(axis=0) for rows in held]) / n[:, None]  # U's own sum is zero
    within = np.array([np.einsum("ij,ij->j", U[rows], U[rows]) for rows in held])
    variance = (np.einsum("ij,ij->j", U, U) - within) / n[:, None] - np.square(mean)
    is_exact = (variance[:, ~is_constant] >= LEAST_VARIANCE).all(axis=1)
    factor = np.tile(unit, (len(held), 1))
    if scaled:
        deviations = np.sqrt(np.where(variance > 0, variance, 0.0)) * unit
        deviations[:, is_constant] = 0.0
        scales = [scale_of(centre + m * unit, d) for m, d in zip(mean, deviations, strict=True)]
        factor /= np.array(scales)
    return OutsideFolds(U, held, n, mean, factor, is_exact)


def scores_by_refit(
    detector: Any, X: Array, held: NDArray[np.intp], scaler: ColumnScaler | None
) -> Array:
    """Rate the clips `held` of X (n, dim) by a fit to the others, behind a scaler if there is one.

    For folds that are not exact.
    """
    kept, left = np.delete(X, held, axis=0), X[held]
    if scaler is not None:
        scaler = clone(scaler).fit(kept)
        kept, left = scaler.transform(kept), scaler.transform(left)
    return clone(detector).fit(kept).score_samples(left)  # type: ignore[no-any-return]
