"""How soon a drift of normal scores is said, and how often one is said that is none.

    python benchmarks/drift_of_normals.py

Scores are draws of a normal distribution, whose mean moves by some deviations, at once or slowly.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from detect.martingale import DriftMartingale

N_TRAINING = (25, 100, 1000)
SHIFTS = (0.25, 0.5, 1.0, 2.0, 4.0)
N_BEFORE, N_AFTER = 1000, 10_000
DAY = 8640  # windows of 10 s


def delay(n: int, seed: int, mean_at: Callable[[int], float]) -> float:
    """Count the windows from the begin of a drift until it is said; infinite where it is not."""
    rng = np.random.default_rng([seed, n])
    drift = DriftMartingale.over(rng.normal(size=n))
    for score in rng.normal(size=N_BEFORE):
        drift.update(score)
    for i in range(N_AFTER):
        drift.update(rng.normal(mean_at(i)))
        if drift.is_drift:
            return i + 1
    return float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--clean", type=int, default=100_000)
    arguments = parser.parse_args()
    seeds = range(arguments.seeds)
    for n in N_TRAINING:
        n_false, highest = 0, 0.0
        for seed in seeds:
            rng = np.random.default_rng([seed, n, 1])
            drift = DriftMartingale.over(rng.normal(size=n))
            said = False
            for score in rng.normal(size=arguments.clean):
                drift.update(score)
                highest = max(highest, drift.evidence)
                said = said or drift.is_drift
            n_false += said
        print(
            f"{n} training scores: drift said in {n_false} of {len(seeds)} times "
            f"{arguments.clean} clean windows; highest evidence {highest:.2g}"
        )
        drifts = {f"{s:g} at once": (lambda _, s=s: s) for s in SHIFTS}
        drifts["1 in a day"] = lambda i: min(1.0, i / DAY)
        for name, mean_at in drifts.items():
            delays = np.array([delay(n, seed, mean_at) for seed in seeds])
            print(
                f"  shift of {name}: said in {np.isfinite(delays).sum()} of {len(seeds)}, after "
                f"{np.median(delays):.0f} windows (median), {np.max(delays):.0f} at most"
            )


if __name__ == "__main__":
    main()
