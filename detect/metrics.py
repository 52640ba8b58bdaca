"""How well anomaly scores separate anomalous from normal clips.

`is_anomalous` is a boolean array; `scores` has the same length and higher means more
anomalous. Results lie in [0, 1], and 0.5 is chance. pAUC is the area up to 0.1 false positives,
standardised as McClish (1989) does, so that chance is 0.5 there too: the form that DCASE uses.

Intervals are formulas of the figure and the number of clips; nothing is drawn at random. They are
arrays in, arrays out, and their coverage is measured in docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
MAX_FPR = 0.1
COVERAGE = 0.95
FEWEST_FOR_PAUC = 10
"""Normal and anomalous clips below which a pAUC has no interval: it rests on less than one clip."""
EXPONENTIAL_SHARE = 0.75
"""Weight of Hanley and McNeil's exponential variance; the binormal variance has the rest."""
BISECTIONS = 50


def auc(is_anomalous: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: how often an anomalous clip outranks a normal one."""
    return float(area(*_roc(is_anomalous, scores), max_fpr=1.0))


def pauc(is_anomalous: ArrayLike, scores: ArrayLike, max_fpr: float = MAX_FPR) -> float:
    """Standardised area under the ROC curve up to `max_fpr` false positives."""
    below = area(*_roc(is_anomalous, scores), max_fpr=max_fpr)
    return float(standardised(below / max_fpr, max_fpr))


def f1_ev(is_anomalous: ArrayLike, scores: ArrayLike) -> float:
    """F1 expected of a threshold drawn evenly between the lowest and the highest score.

    F1-EV of Wilkinghoff and Imoto (arXiv 2312.09143), unbounded form: the integral of F1 over the
    threshold, divided by the range of the scores; clips above the threshold are flagged. It
    rewards scores whose gap between normal and anomalous clips is wide, so it changes when the
    scores are transformed. All scores equal gives 0.
    """
    truth, values = _checked(is_anomalous, scores)
    levels = np.unique(values)
    if len(levels) == 1:
        return 0.0
    flagged = len(values) - np.searchsorted(np.sort(values), levels, side="right")
    anomalous = np.sort(values[truth])
    hits = len(anomalous) - np.searchsorted(anomalous, levels, side="right")
    f1 = 2 * hits / (flagged + len(anomalous))
    return float(np.sum(np.diff(levels) * f1[:-1]) / (levels[-1] - levels[0]))


def auc_interval(
    auc: ArrayLike, n_normal: ArrayLike, n_anomalous: ArrayLike, coverage: float = COVERAGE
) -> tuple[Array, Array]:
    """Interval of AUCs from as many normal and anomalous clips; arrays of any equal shape.

    Newcombe's method 5 (Statistics in Medicine 2006, 25:559-573): all true AUCs whose normal
    approximation would not find the observed one unusual, with both class sizes replaced by their
    mean in the variance's inner terms. The variance is three parts Hanley and McNeil's
    exponential model and one part the binormal one, since the first alone is too wide near 1. One
    normal and one anomalous clip that are ranked rightly give 0.21 to 1.
    """
    from scipy.special import ndtri

    observed, m, n = np.broadcast_arrays(
        *(np.asarray(values, dtype=np.float64) for values in (auc, n_normal, n_anomalous))
    )
    z = float(ndtri(0.5 + coverage / 2))
    limits = []
    for outer in (np.zeros(observed.shape), np.ones(observed.shape)):
        unusual, usual = outer, observed.copy()
        for _ in range(BISECTIONS):
            middle = (unusual + usual) / 2
            is_usual = np.abs(observed - middle) <= z * np.sqrt(_variance(middle, m, n))
            usual = np.where(is_usual, middle, usual)
            unusual = np.where(is_usual, unusual, middle)
        limits.append(usual)
    return limits[0], limits[1]


def _variance(auc: Array, n_normal: Array, n_anomalous: Array) -> Array:
    """Variance of an observed AUC where `auc` is the true one."""
    from scipy.special import ndtri, owens_t

    product = auc * (1 - auc)
    exponential = product * ((1 - auc) / (2 - auc) + auc / (1 + auc))
    two_outranked = auc - 2 * owens_t(ndtri(auc), 3**-0.5)
    binormal = 2 * (two_outranked - auc**2)
    shared = EXPONENTIAL_SHARE * exponential + (1 - EXPONENTIAL_SHARE) * binormal
    mean_size = (n_normal + n_anomalous) / 2
    return np.maximum(product + (mean_size - 1) * shared, 0) / (n_normal * n_anomalous)  # type: ignore[no-any-return]


def pauc_interval(
    pauc: ArrayLike, n_normal: ArrayLike, n_anomalous: ArrayLike, coverage: float = COVERAGE
) -> tuple[Array, Array]:
    """Interval of pAUCs up to 0.1 false positives; NaN below 10 clips of either class.

    Before it is standardised, a pAUC is the AUC of the anomalous clips against the tenth of the
    normal clips that scores highest, so it has the interval of that AUC with a tenth of the
    normal clips. It is wider than need be where the pAUC is moderate.
    """
    observed, m, n = np.broadcast_arrays(
        *(np.asarray(values, dtype=np.float64) for values in (pauc, n_normal, n_anomalous))
    )
    chance = 0.5 * MAX_FPR
    against_highest = chance + (2 * observed - 1) * (1 - chance)
    highest = np.maximum(1.0, MAX_FPR * m)
    low, high = auc_interval(np.clip(against_highest, 0, 1), highest, np.maximum(n, 1), coverage)
    few = np.minimum(m, n) < FEWEST_FOR_PAUC
    return (
        np.where(few, np.nan, standardised(low, MAX_FPR)),
        np.where(few, np.nan, standardised(high, MAX_FPR)),
    )


def mean_interval(values: ArrayLike, low: ArrayLike, high: ArrayLike) -> tuple[float, float]:
    """Interval of the mean of independent figures from their own intervals.

    Squares of the distances to the limits add up (Zou and Donner 2008, "MOVER").
    """
    centre = np.asarray(values, dtype=np.float64)
    return _added_up(float(centre.mean()), np.full(len(centre), 1 / len(centre)), centre, low, high)


def harmonic_mean_interval(
    values: ArrayLike, low: ArrayLike, high: ArrayLike
) -> tuple[float, float]:
    """Interval of the harmonic mean, as `mean_interval`; each figure weighs by its slope.

    A figure of 0 makes the mean 0; its interval then reaches to the mean of the upper limits.
    """
    centre = np.asarray(values, dtype=np.float64)
    if not centre.all():
        return 0.0, float(harmonic_mean(np.asarray(high, dtype=np.float64)))
    mean = float(harmonic_mean(centre))
    return _added_up(mean, (mean / centre) ** 2 / len(centre), centre, low, high)


def _added_up(
    mean: float, weights: Array, centre: Array, low: ArrayLike, high: ArrayLike
) -> tuple[float, float]:
    below = float(np.sqrt(np.sum((weights * (centre - np.asarray(low))) ** 2)))
    above = float(np.sqrt(np.sum((weights * (np.asarray(high) - centre)) ** 2)))
    return max(0.0, mean - below), min(1.0, mean + above)


def harmonic_mean(values: Sequence[float] | Array, axis: int = 0) -> Array:
    """Harmonic mean, where weak machines weigh more; zero if any value is zero."""
    array = np.asarray(values, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return 1.0 / np.mean(1.0 / array, axis=axis)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class DomainAUC:
    """A section's AUC and pAUC in the source and the target domain; None where undefined."""

    auc_source: float | None
    auc_target: float | None
    pauc_source: float | None = None
    pauc_target: float | None = None


def domain_aucs(
    is_anomalous: ArrayLike, scores: ArrayLike, domains: Sequence[str], year: int
) -> DomainAUC:
    """Compare domains by the rules of that year's DCASE challenge.

    2021: AUC and pAUC within each domain. From 2022: each domain's normal clips against all
    anomalous clips of the section; pAUC is that of the whole section, so none per domain.
    """
    truth, values = _checked(is_anomalous, scores)
    domain = np.asarray(domains)
    areas: list[float | None] = []
    paucs: list[float | None] = []
    for name in ("source", "target"):
        within = domain == name
        chosen = within if year <= 2021 else within | truth
        possible = _has_both(truth[chosen])
        areas.append(auc(truth[chosen], values[chosen]) if possible else None)
        paucs.append(pauc(truth[chosen], values[chosen]) if possible and year <= 2021 else None)
    return DomainAUC(*areas, *paucs)


def _has_both(truth: NDArray[np.bool_]) -> bool:
    return bool(truth.any() and not truth.all())


def _checked(is_anomalous: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], Array]:
    """Return both as arrays (n_clips,); ValueError unless finite, of one length, of two classes."""
    truth = np.asarray(is_anomalous, dtype=bool)
    values = np.asarray(scores, dtype=np.float64)
    if truth.shape != values.shape or truth.ndim != 1:
        raise ValueError(f"{truth.shape} labels do not go with {values.shape} scores")
    if not np.isfinite(values).all():
        raise ValueError(f"{np.sum(~np.isfinite(values))} of {len(values)} scores are not finite")
    if not _has_both(truth):
        raise ValueError(
            f"AUC needs normal and anomalous clips; got {np.sum(~truth)} normal and "
            f"{np.sum(truth)} anomalous"
        )
    return truth, values


def _roc(is_anomalous: ArrayLike, scores: ArrayLike) -> tuple[Array, Array]:
    """Compute false and true positive rates from the highest threshold down; ties are one step."""
    truth, values = _checked(is_anomalous, scores)
    order = np.argsort(-values, kind="stable")
    truth, values = truth[order], values[order]
    last_of_ties = np.flatnonzero(np.append(np.diff(values) != 0, True))
    found = np.cumsum(truth)[last_of_ties]
    false = last_of_ties + 1 - found
    return (np.append(0.0, false / false[-1]), np.append(0.0, found / found[-1]))


def area(fpr: Array, tpr: Array, max_fpr: float) -> Array:
    """Trapezoids under curves (..., n_points) up to `max_fpr`, whose edge is interpolated."""
    width = np.diff(np.clip(fpr, None, max_fpr))
    full = np.diff(fpr)
    share = np.divide(width, full, out=np.zeros_like(width), where=full > 0)
    return np.sum(width * (tpr[..., :-1] + 0.5 * share * np.diff(tpr)), axis=-1)  # type: ignore[no-any-return]


def standardised(mean_tpr: ArrayLike, max_fpr: float) -> Array:
    """Bring the mean true positive rate up to `max_fpr` to the scale where chance is 0.5."""
    chance = 0.5 * max_fpr
    return np.asarray(0.5 * (1 + (np.asarray(mean_tpr) - chance) / (1 - chance)))
