"""Whether one run separates the same clips better than another: paired differences of AUC and pAUC.

Both runs rate the same clips, so their figures rise and fall together, and the difference is known
better than either. `is_anomalous` is a boolean array (n_clips,); `scores` are (n_runs, n_clips),
higher is more anomalous. A comparison weighs the runs by `contrast` (n_runs,), such as (1, -1):
several seeds of a method share the weight 1.

AUC: the covariance of DeLong, DeLong and Clarke-Pearson (Biometrics 1988, 44:837-845), computed
from midranks as Sun and Xu do (IEEE Signal Processing Letters 2014, 21:1389-1393), and a normal
interval. pAUC: a stratified bootstrap that draws the same clips for all runs, and its percentiles.
Clips are taken as independent; coverage is measured in docs/comparing.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detect import metrics
from detect.metrics import COVERAGE, FEWEST_FOR_PAUC, MAX_FPR, Array

FEWEST = 2
"""Normal and anomalous clips below which DeLong's variance is not defined."""
RESAMPLES = 2000
CELLS_AT_ONCE = 2_000_000
"""Resamples times clips that are held in memory."""
APART = "so the interval is that of two separate sets of clips"
EPSILON = 1e-12
"""A variance below this is 0."""


@dataclass(frozen=True)
class Difference:
    """A figure of one run minus that of another on the same clips."""

    value: float
    variance: float
    note: str = ""
    drawn: Array | None = field(default=None, compare=False, repr=False)
    """The difference in each resample, (n_resamples,); None where the interval is a normal one."""

    @property
    def interval(self) -> tuple[float, float]:
        """Interval that holds the true difference in 95 % of the cases."""
        if self.drawn is None:
            reach = _z() * float(np.sqrt(self.variance))
            return max(-1.0, self.value - reach), min(1.0, self.value + reach)
        low, high = np.quantile(self.drawn, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
        return float(low), float(high)

    @property
    def p_value(self) -> float:
        """How often chance alone makes a difference at least as large, if there is none."""
        from scipy.special import ndtr

        if self.drawn is not None:
            sides = np.sum(self.drawn <= 0), np.sum(self.drawn >= 0)
            return min(1.0, float(2 * (1 + min(sides)) / (1 + len(self.drawn))))
        return float(2 * ndtr(-abs(self.value) / np.sqrt(self.variance)))


def auc_difference(is_anomalous: ArrayLike, scores: ArrayLike, contrast: ArrayLike) -> Difference:
    """Difference of AUCs, by DeLong.

    DeLong's variance is 0 where no clip is ranked differently, or where no run ranks any clip
    wrongly. Then the variances behind the AUCs' own intervals are added, as if the runs had seen
    different clips. Raises ValueError below two clips of either class.
    """
    truth, values, weights = _checked(is_anomalous, scores, contrast)
    aucs, covariance = auc_covariance(truth, values)
    value, variance = float(weights @ aucs), float(weights @ covariance @ weights)
    if variance > EPSILON:
        return Difference(value, variance)
    low, high = metrics.auc_interval(aucs, int(np.sum(~truth)), int(np.sum(truth)))
    apart = float(weights**2 @ ((high - low) / (2 * _z())) ** 2)
    value = 0.0 if abs(value) < EPSILON else value
    note = "no clip is ranked differently" if not value else "one ranks every clip alike"
    return Difference(value, apart, f"{note}, {APART}")


def auc_covariance(is_anomalous: ArrayLike, scores: ArrayLike) -> tuple[Array, Array]:
    """AUC of each run (n_runs,) and their covariance (n_runs, n_runs), by DeLong."""
    from scipy.stats import rankdata

    truth, values, _ = _checked(is_anomalous, scores)
    anomalous, normal = values[:, truth], values[:, ~truth]
    ranks = rankdata(values, axis=1)
    n_anomalous, n_normal = anomalous.shape[1], normal.shape[1]
    # by clip: share of the other class that it is ranked rightly against, (n_runs, n_class)
    of_anomalous = (ranks[:, truth] - rankdata(anomalous, axis=1)) / n_normal
    of_normal = 1 - (ranks[:, ~truth] - rankdata(normal, axis=1)) / n_anomalous
    covariance = np.cov(of_anomalous) / n_anomalous + np.cov(of_normal) / n_normal
    return of_anomalous.mean(axis=1), np.atleast_2d(covariance)


def pauc_difference(
    is_anomalous: ArrayLike,
    scores: ArrayLike,
    contrast: ArrayLike,
    *,
    seed: int = 0,
    n_resamples: int = RESAMPLES,
) -> Difference:
    """Difference of pAUCs, by a paired stratified bootstrap.

    Where no resample has a difference, the variances behind the pAUCs' own intervals are added.
    Raises ValueError below ten clips of either class, since the figure then rests on less than one
    normal clip.
    """
    from scipy.special import ndtri

    truth, values, weights = _checked(is_anomalous, scores, contrast, FEWEST_FOR_PAUC)
    paucs = np.array([metrics.pauc(truth, own) for own in values])
    value = float(weights @ paucs)
    drawn = weights @ _resampled_paucs(truth, values, n_resamples, np.random.default_rng(seed))
    variance = float(np.var(drawn, ddof=1))
    if variance > EPSILON:
        return Difference(value, variance, drawn=drawn)
    low, high = metrics.pauc_interval(paucs, int(np.sum(~truth)), int(np.sum(truth)))
    apart = float(weights**2 @ ((high - low) / (2 * _z())) ** 2)
    evenly = ndtri((np.arange(n_resamples) + 0.5) / n_resamples)
    drawn = value + np.sqrt(apart) * np.random.default_rng(seed).permutation(evenly)
    return Difference(value, apart, f"no clip is ranked differently, {APART}", drawn)


def mean_difference(differences: Sequence[Difference]) -> Difference:
    """Mean of the differences of machines, each of which weighs the same.

    Machines have clips of their own, so their variances add up; resamples are averaged one by one.
    They must have been drawn with different seeds.
    """
    n = len(differences)
    drawn = [each.drawn for each in differences if each.drawn is not None]
    return Difference(
        sum(each.value for each in differences) / n,
        sum(each.variance for each in differences) / n**2,
        drawn=np.mean(drawn, axis=0) if drawn else None,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of several comparisons so that a false one among all of them is rare.

    Holm (Scandinavian Journal of Statistics 1979, 6:65-70).
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for n_smaller, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - n_smaller) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def _resampled_paucs(
    truth: NDArray[np.bool_], values: Array, n_resamples: int, rng: np.random.Generator
) -> Array:
    """Compute the pAUC of each run in each resample, (n_runs, n_resamples).

    A resample is how often each clip was drawn; both classes keep their sizes.
    """
    at_once = max(1, CELLS_AT_ONCE // len(truth))
    parts = []
    for start in range(0, n_resamples, at_once):
        counts = np.empty((min(at_once, n_resamples - start), len(truth)))
        for chosen in (truth, ~truth):
            n = int(chosen.sum())
            counts[:, chosen] = rng.multinomial(n, np.full(n, 1 / n), size=len(counts))
        parts.append(np.stack([_paucs(truth, own, counts) for own in values]))
    return np.concatenate(parts, axis=1)


def _paucs(truth: NDArray[np.bool_], values: Array, counts: Array) -> Array:
    """Compute the pAUC of one run where clips count as often as drawn, (n_resamples,)."""
    order = np.argsort(-values, kind="stable")
    first_of_ties = np.flatnonzero(np.append(True, np.diff(values[order]) != 0))
    counts, is_anomalous = counts[:, order], truth[order]
    found = np.cumsum(np.add.reduceat(counts * is_anomalous, first_of_ties, axis=1), axis=1)
    false = np.cumsum(np.add.reduceat(counts * ~is_anomalous, first_of_ties, axis=1), axis=1)
    start = np.zeros((len(counts), 1))
    fpr = np.concatenate([start, false / false[:, -1:]], axis=1)
    tpr = np.concatenate([start, found / found[:, -1:]], axis=1)
    return metrics.standardised(metrics.area(fpr, tpr, MAX_FPR) / MAX_FPR, MAX_FPR)


def _checked(
    is_anomalous: ArrayLike,
    scores: ArrayLike,
    contrast: ArrayLike | None = None,
    fewest: int = FEWEST,
) -> tuple[NDArray[np.bool_], Array, Array]:
    """Return all as arrays; ValueError unless finite, of fitting shapes, and of enough clips."""
    truth = np.asarray(is_anomalous, dtype=bool)
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or truth.shape != values.shape[1:]:
        raise ValueError(f"{truth.shape} labels do not go with {values.shape} scores")
    weights = np.zeros(len(values)) if contrast is None else np.asarray(contrast, dtype=np.float64)
    if weights.shape != values.shape[:1]:
        raise ValueError(f"a contrast {weights.shape} does not go with {values.shape} scores")
    if not np.isfinite(values).all():
        raise ValueError(f"{np.sum(~np.isfinite(values))} scores are not finite")
    n_anomalous = int(truth.sum())
    n_normal = len(truth) - n_anomalous
    if min(n_normal, n_anomalous) < fewest:
        raise ValueError(
            f"a comparison needs {fewest} normal and {fewest} anomalous clips; got {n_normal} "
            f"normal and {n_anomalous} anomalous"
        )
    return truth, values, weights


def _z() -> float:
    """Return the half width of an interval in standard deviations."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + COVERAGE / 2))
