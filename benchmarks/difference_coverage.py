"""How often the intervals of `compare` hold the true difference of two runs.

    python benchmarks/difference_coverage.py

Two runs rate the same simulated clips: normal scores of equal deviations whose correlation is 0.7.
It prints the table in docs/comparing.md.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.special import ndtri
from scipy.stats import norm

from detect import metrics
from detect.paired import auc_difference, pauc_difference

SIZES = ((8, 20), (20, 20), (30, 30), (100, 100))
AUCS = ((0.75, 0.75), (0.9, 0.8), (0.97, 0.9))
CORRELATION = 0.7
RESAMPLES = 500
POINTS = 200_000


def true_pauc(auc: float) -> float:
    """Return the pAUC of normal scores with that AUC."""
    fpr = (np.arange(POINTS) + 0.5) / POINTS * metrics.MAX_FPR
    tpr = norm.sf(norm.isf(fpr) - np.sqrt(2) * ndtri(auc))
    return float(metrics.standardised(tpr.mean(), metrics.MAX_FPR))


def coverage(
    sizes: tuple[int, int], aucs: tuple[float, float], n_aucs: int, n_paucs: int
) -> tuple[float, float | None]:
    """Return the shares of AUC and pAUC intervals that hold; None for pAUC of too few clips."""
    rng = np.random.default_rng(0)
    truth = np.repeat([False, True], sizes)
    shift = np.sqrt(2) * ndtri(np.array(aucs))[:, None] * truth
    root = np.linalg.cholesky([[1, CORRELATION], [CORRELATION, 1]])
    paucs = true_pauc(aucs[0]) - true_pauc(aucs[1])
    held, held_paucs = 0, 0
    has_pauc = min(sizes) >= metrics.FEWEST_FOR_PAUC
    for trial in range(n_aucs):
        scores = root @ rng.normal(size=(2, len(truth))) + shift
        low, high = auc_difference(truth, scores, [1, -1]).interval
        held += low <= aucs[0] - aucs[1] <= high
        if has_pauc and trial < n_paucs:
            found = pauc_difference(truth, scores, [1, -1], seed=trial, n_resamples=RESAMPLES)
            low, high = found.interval
            held_paucs += low <= paucs <= high
    return held / n_aucs, held_paucs / n_paucs if has_pauc else None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000, help="for AUC; a fifth for pAUC")
    trials = parser.parse_args().trials
    headings = [f"{figure} {one:g} and {other:g}" for figure in ("AUC", "pAUC at AUC")
                for one, other in AUCS]  # fmt: skip
    print("| normal, anomalous clips |", " | ".join(headings), "|")
    print("|---|" + "---|" * len(headings))
    for sizes in SIZES:
        cells = [coverage(sizes, aucs, trials, trials // 5) for aucs in AUCS]
        shares = [auc for auc, _ in cells] + [pauc for _, pauc in cells]
        shown = ["none" if share is None else f"{100 * share:.1f} %" for share in shares]
        print(f"| {sizes[0]}, {sizes[1]} |", " | ".join(shown), "|", flush=True)


if __name__ == "__main__":
    main()
