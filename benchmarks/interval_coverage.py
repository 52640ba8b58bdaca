"""How often the intervals of AUC and pAUC hold the true value, as a table in Markdown.

    python benchmarks/interval_coverage.py [--runs 20000]

Scores of normal and anomalous clips are drawn from three pairs of distributions with a known AUC:
normal with equal deviations; normal, the anomalous with three times the deviation; exponential.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from scipy.stats import norm

from detect import metrics

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
Tail = Callable[[np.ndarray], np.ndarray]
AUCS = (0.6, 0.9, 0.99)
SIZES = ((5, 5), (10, 10), (30, 30), (100, 100), (100, 356))


def equal(auc: float) -> tuple[Draw, Draw, Tail]:
    """Return draws of both classes, and the true positive rate at a false positive rate."""
    shift = norm.ppf(auc) * 2**0.5
    return (
        lambda rng, shape: rng.normal(size=shape),
        lambda rng, shape: rng.normal(size=shape) + shift,
        lambda fpr: norm.sf(norm.isf(fpr) - shift),
    )


def wide(auc: float) -> tuple[Draw, Draw, Tail]:
    shift = norm.ppf(auc) * 10**0.5
    return (
        lambda rng, shape: rng.normal(size=shape),
        lambda rng, shape: 3 * rng.normal(size=shape) + shift,
        lambda fpr: norm.sf((norm.isf(fpr) - shift) / 3),
    )


def exponential(auc: float) -> tuple[Draw, Draw, Tail]:
    ratio = auc / (1 - auc)
    return (
        lambda rng, shape: rng.exponential(size=shape),
        lambda rng, shape: ratio * rng.exponential(size=shape),
        lambda fpr: fpr ** (1 / ratio),
    )


def coverage(draws: tuple[Draw, Draw, Tail], auc: float, m: int, n: int, runs: int) -> list[float]:
    """Share of runs whose interval holds the true AUC, and the true pAUC."""
    draw_normal, draw_anomalous, tail = draws
    rng = np.random.default_rng(0)
    highest_first = -np.sort(-draw_normal(rng, (runs, m)), axis=1)
    anomalous = np.sort(draw_anomalous(rng, (runs, n)), axis=1)
    pairs = zip(anomalous, highest_first, strict=True)
    found = np.stack([1 - np.searchsorted(a, x, side="right") / n for a, x in pairs])
    weights = np.clip(metrics.MAX_FPR * m - np.arange(m), 0, 1) / (metrics.MAX_FPR * m)
    fpr = (np.arange(100_000) + 0.5) / 100_000 * metrics.MAX_FPR
    chance = metrics.MAX_FPR / 2
    standardised = [
        0.5 * (1 + (x - chance) / (1 - chance)) for x in (found @ weights, tail(fpr).mean())
    ]
    shares = []
    for observed, true, interval in (
        (found.mean(axis=1), auc, metrics.auc_interval),
        (*standardised, metrics.pauc_interval),
    ):
        low, high = interval(observed, m, n)
        inside = (low - 1e-12 <= true) & (true <= high + 1e-12)
        shares.append(float(np.mean(inside)) if np.isfinite(low).all() else float("nan"))
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20_000)
    runs = parser.parse_args().runs
    kinds = {"equal deviations": equal, "three times wider": wide, "exponential": exponential}
    cells = [f"{figure} {auc:g}" for figure in ("AUC", "pAUC where AUC is") for auc in AUCS]
    print(f"| scores | normal, anomalous clips | {' | '.join(cells)} |")
    print("|---|---|" + "---|" * len(cells))
    for kind, make in kinds.items():
        for m, n in SIZES:
            pairs = [coverage(make(auc), auc, m, n, runs) for auc in AUCS]
            shares = [*(pair[0] for pair in pairs), *(pair[1] for pair in pairs)]
            texts = ["none" if np.isnan(share) else f"{100 * share:.1f} %" for share in shares]
            print(f"| {kind} | {m}, {n} | {' | '.join(texts)} |", flush=True)


if __name__ == "__main__":
    main()
