"""How well anomaly scores separate anomalous from normal clips.

`is_anomalous` is a boolean array; `scores` has the same length and higher means more
anomalous. Results lie in [0, 1], and 0.5 is chance. pAUC is the area up to 0.1 false positives,
standardised as McClish (1989) does, so that chance is 0.5 there too: the form that DCASE uses.
Intervals come from a bootstrap that resamples normal and anomalous clips apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
MAX_FPR = 0.1
COVERAGE = 0.95
CELLS_AT_ONCE = 500_000  # fits the cache, and keeps a million clips within memory


def auc(is_anomalous: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: how often an anomalous clip outranks a normal one."""
    return float(_areas(*_steps(is_anomalous, scores), max_fpr=1.0)[0])


def pauc(is_anomalous: ArrayLike, scores: ArrayLike, max_fpr: float = MAX_FPR) -> float:
    """Standardised area under the ROC curve up to `max_fpr` false positives."""
    return float(_standardised(_areas(*_steps(is_anomalous, scores), max_fpr=max_fpr), max_fpr)[0])


@dataclass(frozen=True)
class Resampled:
    """AUC and pAUC of every bootstrap resample, (n_resamples,) each."""

    auc: Array
    pauc: Array


def resample(
    is_anomalous: ArrayLike,
    scores: ArrayLike,
    *,
    n_resamples: int = 1000,
    seed: int | Sequence[int] = 0,
) -> Resampled:
    """Compute AUC and pAUC of resamples that keep the counts of both classes."""
    truth, values = _checked(is_anomalous, scores)
    # the outcome depends on the clips, not on the order they come in
    order = np.lexsort((truth, values))
    truth, values = truth[order], values[order]
    for_normal, for_anomalous = np.random.default_rng(seed).spawn(2)
    chunk = max(1, CELLS_AT_ONCE // len(values))
    aucs, paucs = [], []
    for start in range(0, n_resamples, chunk):
        n = min(chunk, n_resamples - start)
        drawn = _redraw(~truth, n, for_normal), _redraw(truth, n, for_anomalous)
        curve = _curve(values, *drawn)
        aucs.append(_areas(*curve, max_fpr=1.0))
        paucs.append(_standardised(_areas(*curve, max_fpr=MAX_FPR), MAX_FPR))
    return Resampled(np.concatenate(aucs), np.concatenate(paucs))


def interval(resamples: Array, coverage: float = COVERAGE) -> tuple[float, float]:
    """Percentile interval of bootstrap values."""
    tail = (1 - coverage) / 2
    low, high = np.quantile(resamples, [tail, 1 - tail])
    return float(low), float(high)


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


def _steps(is_anomalous: ArrayLike, scores: ArrayLike) -> tuple[Array, Array]:
    truth, values = _checked(is_anomalous, scores)
    order = np.argsort(values, kind="stable")
    truth, values = truth[order], values[order]
    return _curve(values, (~truth)[None].astype(float), truth[None].astype(float))


def _redraw(members: NDArray[np.bool_], n: int, rng: np.random.Generator) -> Array:
    """Count how often each member is drawn, with replacement; (n, n_clips)."""
    rows = np.flatnonzero(members)
    drawn = rng.integers(len(rows), size=(n, len(rows)))
    flat = rows[drawn] + len(members) * np.arange(n)[:, None]
    counts = np.bincount(flat.ravel(), minlength=n * len(members))
    return counts.reshape(n, len(members)).astype(np.float64)


def _curve(ascending: Array, normal: Array, anomalous: Array) -> tuple[Array, Array]:
    """ROC curves from counts (n, n_clips) of clips sorted by score: false, true positive rates."""
    last_of_ties = np.flatnonzero(np.append(np.diff(ascending[::-1]) != 0, True))
    rates = []
    for counts in (normal, anomalous):
        above = np.cumsum(counts[:, ::-1], axis=1)[:, last_of_ties]
        rates.append(np.pad(above / above[:, -1:], ((0, 0), (1, 0))))
    return rates[0], rates[1]


def _areas(fpr: Array, tpr: Array, max_fpr: float) -> Array:
    """Trapezoids under each curve up to `max_fpr`, whose edge is interpolated."""
    left, right = fpr[:, :-1], fpr[:, 1:]
    low, high = tpr[:, :-1], tpr[:, 1:]
    width = np.clip(right, None, max_fpr) - np.clip(left, None, max_fpr)
    full = right - left
    share = np.divide(width, full, out=np.zeros_like(width), where=full > 0)
    return np.sum(width * (low + 0.5 * share * (high - low)), axis=1)  # type: ignore[no-any-return]


def _standardised(areas: Array, max_fpr: float) -> Array:
    chance = 0.5 * max_fpr**2
    return 0.5 * (1 + (areas - chance) / (max_fpr - chance))
