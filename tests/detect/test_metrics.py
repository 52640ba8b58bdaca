"""AUC and pAUC are scikit-learn's, intervals cover, domains are compared as DCASE does."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from detect import metrics


def test_auc_and_pauc_equal_scikit_learn_even_with_ties(rng):
    for _ in range(200):
        n = int(rng.integers(4, 90))
        truth = rng.random(n) < 0.4
        truth[:2] = [False, True]
        scores = rng.integers(0, rng.integers(2, 50), n) / 7

        assert abs(metrics.auc(truth, scores) - roc_auc_score(truth, scores)) < 1e-12
        expected = roc_auc_score(truth, scores, max_fpr=0.1)
        assert abs(metrics.pauc(truth, scores) - expected) < 1e-12


def test_auc_counts_pairs_in_the_right_order():
    assert metrics.auc([False, False, True, True], [1, 3, 2, 4]) == 0.75


def test_equal_scores_are_chance():
    truth = [False] * 20 + [True] * 5

    assert metrics.auc(truth, np.ones(25)) == 0.5
    assert metrics.pauc(truth, np.ones(25)) == pytest.approx(0.5)


def test_auc_of_one_class_is_refused():
    with pytest.raises(ValueError, match="3 normal and 0 anomalous"):
        metrics.auc([False] * 3, [1.0, 2.0, 3.0])


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="1 of 2 scores are not finite"):
        metrics.auc([False, True], [1.0, np.nan])


def test_resampling_equals_a_loop_over_resamples(rng):
    truth = np.arange(40) < 15
    scores = rng.normal(size=40) + truth
    ordered = np.lexsort((truth, scores))
    truth, scores = truth[ordered], scores[ordered]

    drawn = metrics.resample(truth, scores, n_resamples=50, seed=3)

    for_normal, for_anomalous = np.random.default_rng(3).spawn(2)
    normal = for_normal.integers(25, size=(50, 25))
    anomalous = for_anomalous.integers(15, size=(50, 15))
    for i in range(50):
        chosen = np.concatenate([scores[~truth][normal[i]], scores[truth][anomalous[i]]])
        labels = np.arange(40) >= 25
        assert drawn.auc[i] == pytest.approx(roc_auc_score(labels, chosen), abs=1e-12)
        expected = roc_auc_score(labels, chosen, max_fpr=0.1)
        assert drawn.pauc[i] == pytest.approx(expected, abs=1e-12)


def test_intervals_cover_the_true_auc_about_as_often_as_they_say(rng):
    truth = np.arange(120) < 60
    covered = 0
    for seed in range(200):
        scores = rng.normal(size=120) + truth  # true AUC: Phi(1 / sqrt 2) = 0.760250
        low, high = metrics.interval(metrics.resample(truth, scores, seed=seed).auc)
        covered += low <= 0.760250 <= high

    assert 0.90 <= covered / 200 <= 0.99


def test_intervals_do_not_depend_on_the_order_of_clips(rng):
    truth = np.arange(60) < 20
    scores = rng.normal(size=60)
    shuffled = rng.permutation(60)

    one = metrics.resample(truth, scores)
    other = metrics.resample(truth[shuffled], scores[shuffled])

    np.testing.assert_array_equal(one.auc, other.auc)


def test_intervals_of_perfect_separation_are_a_point():
    drawn = metrics.resample([False] * 8 + [True] * 8, np.arange(16))

    assert metrics.interval(drawn.auc) == (1.0, 1.0)


def test_resamples_in_parts_equal_those_at_once(rng, monkeypatch):
    truth = np.arange(50) < 25
    scores = rng.normal(size=50)
    whole = metrics.resample(truth, scores, n_resamples=100).auc
    monkeypatch.setattr(metrics, "CELLS_AT_ONCE", 50 * 7)

    np.testing.assert_array_equal(metrics.resample(truth, scores, n_resamples=100).auc, whole)


def test_harmonic_mean_by_hand():
    assert metrics.harmonic_mean([0.5, 1.0]) == pytest.approx(2 / 3)
    assert metrics.harmonic_mean([0.0, 1.0]) == 0.0


# Two normal and two anomalous clips per domain; the target's normals score high.
DOMAINS = ["source"] * 4 + ["target"] * 4
TRUTH = [False, False, True, True] * 2
SCORES = [1.0, 2.0, 3.0, 5.0, 3.5, 4.0, 4.5, 6.0]


def test_2021_compares_within_each_domain():
    found = metrics.domain_aucs(TRUTH, SCORES, DOMAINS, 2021)

    assert (found.auc_source, found.auc_target) == (1.0, 1.0)
    assert (found.pauc_source, found.pauc_target) == (1.0, 1.0)


def test_2022_compares_each_domains_normals_with_all_anomalies():
    found = metrics.domain_aucs(TRUTH, SCORES, DOMAINS, 2022)

    # target normals 3.5 and 4 against 3, 5, 4.5, 6: each loses to 3 only
    assert (found.auc_source, found.auc_target) == (1.0, 0.75)
    assert found.pauc_source is None


def test_a_domain_without_normal_clips_has_no_auc():
    found = metrics.domain_aucs([False, True], [0.0, 1.0], ["source", "source"], 2023)

    assert found.auc_source == 1.0
    assert found.auc_target is None
