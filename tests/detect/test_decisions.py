"""Fixed thresholds on the decision value: counts by hand, no label in their choice."""

import numpy as np
import pytest

from detect.decisions import THRESHOLDS, decisions, rates
from detect.fitting import ClipTable, DetectorChoice, fit_and_score, units
from report.tables import leaderboard_table, over_seeds


def test_rates_by_hand():
    # 3 anomalous, 2 of them flagged; 2 normal, 1 of them flagged
    got = rates([True, True, True, False, False], [True, True, False, True, False])

    assert got == {"accuracy": 3 / 5, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3}


def test_rates_without_a_flag_are_zero_not_undefined():
    assert rates([True, False], [False, False]) == {
        "accuracy": 0.5,
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
    }


@pytest.fixture
def fitted(rng):
    n = 60
    labels = ("normal",) * 50 + ("normal",) * 5 + ("anomalous",) * 5
    table = ClipTable(
        key=tuple(f"{i:03d}.wav" for i in range(n)),
        machine_type=("fan",) * n,
        machine_id=("id_00",) * n,
        split=("train",) * 50 + ("test",) * 10,
        label=labels,
    )
    X = rng.normal(size=(n, 4))
    X[55:] += 8
    (unit,) = units(table)

    def fit(name, **options):
        choice = DetectorChoice(name, options)
        return fit_and_score(unit, lambda keys: X[[int(k[:3]) for k in keys]], choice)

    return table, fit


def test_below_the_boundary_is_what_scikit_learn_flags(fitted, rng):
    table, fit = fitted
    scores = fit("ocsvm")

    told = decisions(table, [scores])

    machine = scores.detector.detector
    assert set(told) == {
        f"{r}_at_{t:g}" for t in THRESHOLDS for r in ("accuracy", "precision", "recall", "f1")
    }
    assert told["recall_at_0"] == 1.0
    flagged = -scores.scores - machine.offset_ < 0
    truth = [table.label[table.key.index(key)] == "anomalous" for key in scores.unit.test_keys]
    assert told["accuracy_at_0"] == np.mean(flagged == np.array(truth))


def test_a_detector_without_a_boundary_decides_nothing(fitted):
    table, fit = fitted

    assert decisions(table, [fit("mahalanobis")]) == {}


def test_seeds_are_merged_to_mean_and_spread():
    entries = [
        {"encoder": "logmel", "detector": "mlp", "seed": str(seed), "auc_mean": auc}
        for seed, auc in enumerate([0.8, 0.9, 1.0])
    ]

    (merged,) = over_seeds(entries)

    assert merged["seeds"] == "3"
    assert merged["auc_mean"] == pytest.approx(0.9)
    assert merged["auc_spread"] == pytest.approx(0.1)
    assert "seed" not in merged
    assert [c.header for c in leaderboard_table([merged]).columns][:4] == [
        "encoder",
        "detector",
        "seeds",
        "AUC mean",
    ]


def test_a_failed_seed_keeps_its_reason():
    entries = [
        {"encoder": "logmel", "seed": "0", "auc_mean": 0.8},
        {"encoder": "logmel", "seed": "1", "auc_mean": None, "error": "diverged"},
    ]

    (merged,) = over_seeds(entries)

    assert merged["error"] == "diverged"
    assert (merged["auc_mean"], merged["seeds"]) == (0.8, "1")
