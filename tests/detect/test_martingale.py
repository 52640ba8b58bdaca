"""Drift is found soon, and hardly ever said of scores that do not drift."""

import json

import numpy as np
import pytest

from detect.martingale import LEVEL, MOST_SCORES, DriftMartingale


def delay(shift: float, seed: int, n_calibration: int = 100, n_before: int = 500) -> int | None:
    """Windows until drift is said of scores that are shifted by so many deviations."""
    rng = np.random.default_rng(seed)
    drift = DriftMartingale.over(rng.normal(size=n_calibration))
    for score in rng.normal(size=n_before):
        drift.update(score)
    for i, score in enumerate(rng.normal(shift, size=2000), 1):
        drift.update(score)
        if drift.is_drift:
            return i
    return None


@pytest.mark.parametrize("n_calibration", [0, 20, 200])
def test_scores_without_drift_are_not_said_to_drift(n_calibration):
    rng = np.random.default_rng(n_calibration)
    drift = DriftMartingale.over(rng.normal(size=n_calibration))
    highest = 0.0

    for score in rng.normal(size=10_000):
        drift.update(score)
        highest = max(highest, drift.evidence)

    assert highest < LEVEL / 10


def test_a_shift_of_one_deviation_is_said_within_200_windows():
    delays = [delay(1.0, seed) for seed in range(5)]

    assert all(d is not None and d <= 200 for d in delays)


def test_single_anomalies_are_no_drift():
    rng = np.random.default_rng(1)
    drift = DriftMartingale.over(rng.normal(size=200))

    for i, score in enumerate(rng.normal(size=4000)):
        drift.update(1e6 if i % 50 < 2 else score)
        assert not drift.is_drift


def test_ties_are_no_evidence():
    drift = DriftMartingale.over([1.0] * 50)

    for _ in range(2000):
        drift.update(1.0)

    assert not drift.is_drift


def test_the_scores_to_compare_with_are_bounded():
    drift = DriftMartingale.over([])

    joined = sum(drift.update(float(score)) for score in range(MOST_SCORES + 10))

    assert joined == len(drift.scores) == MOST_SCORES


def test_a_martingale_that_was_kept_goes_on_as_if_nothing_had_been():
    scores = np.random.default_rng(3).normal(size=300)
    whole = DriftMartingale.over(scores[:50])
    for score in scores[50:200]:
        whole.update(score)
    kept = json.loads(json.dumps(whole.to_dict()))
    again = DriftMartingale.from_dict(kept, [*whole.scores])

    for score in scores[200:]:
        whole.update(score)
        again.update(score)

    assert again == whole
