"""Oracle thresholds are the best of all thresholds, found by trying each."""

from dataclasses import replace

import numpy as np
import pytest
from fitted_units import Embeddings, quick, table
from sklearn.metrics import f1_score, roc_curve

from detect.fitting import fit_and_score, units
from detect.oracle import oracle_thresholds, oracle_thresholds_of


def rates_at(truth, scores, threshold):
    flagged = scores > threshold
    return flagged[~truth].mean(), flagged[truth].mean()


def test_every_oracle_is_best_by_its_own_measure(rng):
    for _ in range(50):
        truth = np.arange(30) < 12
        scores = rng.integers(0, 12, 30) + 2.0 * truth
        false_alarms, recall, _ = roc_curve(truth, scores, drop_intermediate=False)

        found = oracle_thresholds(truth, scores, target_recall=0.7)

        distance = np.hypot(false_alarms, 1 - recall).min()
        fpr, tpr = rates_at(truth, scores, found["oracle_nearest_corner"])
        assert np.hypot(fpr, 1 - tpr) == pytest.approx(distance)
        fpr, tpr = rates_at(truth, scores, found["oracle_at_recall"])
        assert tpr >= 0.7
        assert fpr == pytest.approx(false_alarms[recall >= 0.7].min())
        best = max(f1_score(truth, scores >= level) for level in np.unique(scores))
        assert f1_score(truth, scores > found["oracle_best_f1"]) == pytest.approx(best)


def test_all_clips_can_be_flagged_where_recall_must_be_complete():
    found = oracle_thresholds([True, False], [0.0, 1.0], target_recall=1.0)

    assert found["oracle_at_recall"] < 0


def test_one_class_has_no_oracle():
    with pytest.raises(ValueError, match="2 normal and 0 anomalous"):
        oracle_thresholds([False, False], [0.0, 1.0])


def test_each_machine_with_both_classes_has_its_own_and_unlabelled_clips_take_no_part():
    clips = table()
    scored = [fit_and_score(unit, Embeddings(), quick("knn")[0], 0) for unit in units(clips)]
    labels = [
        "unknown" if key.endswith("0.wav") else label
        for key, label in zip(clips.key, clips.label, strict=True)
    ]
    one_class = [
        "normal" if i == "id_02" else label
        for i, label in zip(clips.machine_id, labels, strict=True)
    ]

    found = oracle_thresholds_of(replace(clips, label=tuple(one_class)), scored)

    assert list(found) == ["slider id_00"]
    rated = [
        (label == "anomalous", score)
        for key, score in zip(scored[0].unit.test_keys, scored[0].scores, strict=True)
        if (label := dict(zip(clips.key, labels, strict=True))[key]) != "unknown"
    ]
    assert found["slider id_00"] == oracle_thresholds(*zip(*rated, strict=True))
