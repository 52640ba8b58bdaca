"""AUC and pAUC are scikit-learn's, intervals cover, domains are compared as DCASE does."""

from itertools import pairwise
from time import perf_counter

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import f1_score, roc_auc_score

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


def test_f1_ev_equals_a_loop_over_thresholds(rng):
    for _ in range(50):
        n = int(rng.integers(4, 40))
        truth = rng.random(n) < 0.5
        truth[:2] = [False, True]
        scores = rng.integers(0, 9, n) / 3
        scores[:2] = [0.1, 0.7]
        levels = np.unique(scores)

        expected = sum(
            (high - low) * f1_score(truth, scores > low) for low, high in pairwise(levels)
        )

        assert metrics.f1_ev(truth, scores) == pytest.approx(expected / np.ptp(scores))


def test_f1_ev_grows_with_the_gap_and_is_zero_without_any():
    truth = [False, False, True, True]

    near, far = (metrics.f1_ev(truth, [0, 1, 1 + gap, 2 + gap]) for gap in (0.5, 50))

    assert near < far < 1
    assert metrics.f1_ev(truth, np.ones(4)) == 0


def interval(*figures):
    low, high = metrics.auc_interval(*figures)
    return float(low), float(high)


def test_one_clip_of_each_class_says_next_to_nothing():
    low, high = interval(1.0, 1, 1)

    assert low == pytest.approx(1 / (1 + norm.ppf(0.975) ** 2))  # Wilson's limit of 1 in 1
    assert high == 1.0
    assert interval(0.0, 1, 1) == (0.0, pytest.approx(1 - low))


def test_limits_are_where_the_observed_auc_becomes_unusual():
    low, high = interval(0.8, 12, 7)

    z = norm.ppf(0.975)
    for limit in (low, high):
        deviation = np.sqrt(metrics._variance(np.array(limit), np.array(12.0), np.array(7.0)))
        assert abs(0.8 - limit) == pytest.approx(z * deviation, rel=1e-9)


@pytest.mark.parametrize("auc", [0.5, 0.77, 1.0])
def test_more_clips_narrow_the_interval_around_the_auc(auc):
    widths = []
    for n in (2, 10, 100, 1000):
        low, high = interval(auc, n, n)
        assert 0 <= low <= auc <= high <= 1
        widths.append(high - low)

    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.06


def normal_scores(rng, auc, n, runs):
    """Draw scores of n normal and n anomalous clips each, (runs, 2 n), whose true AUC is known."""
    drawn = rng.normal(size=(runs, 2 * n))
    drawn[:, n:] += norm.ppf(auc) * 2**0.5
    return drawn


@pytest.mark.parametrize("auc", [0.6, 0.9, 0.99])
@pytest.mark.parametrize("n", [5, 10, 30])
def test_intervals_cover_the_true_auc_as_often_as_they_say(auc, n, rng):
    scores = normal_scores(rng, auc, n, 4000)
    observed = (scores[:, None, n:] > scores[:, :n, None]).mean(axis=(1, 2))

    low, high = metrics.auc_interval(observed, n, n)

    assert 0.92 <= np.mean((low <= auc) & (auc <= high)) <= 0.98


def test_intervals_of_means_cover_too(rng):
    aucs, n, runs = np.array([0.7, 0.8, 0.9, 0.97]), 20, 1500
    covered = np.zeros(2)
    observed = np.stack(
        [
            (s[:, None, n:] > s[:, :n, None]).mean(axis=(1, 2))
            for s in (normal_scores(rng, auc, n, runs) for auc in aucs)
        ],
        axis=1,
    )
    low, high = metrics.auc_interval(observed, n, n)
    for figures in zip(observed, low, high, strict=True):
        for i, (true, of_mean) in enumerate(
            [
                (aucs.mean(), metrics.mean_interval),
                (metrics.harmonic_mean(aucs), metrics.harmonic_mean_interval),
            ]
        ):
            limits = of_mean(*figures)
            covered[i] += limits[0] <= true <= limits[1]

    assert (covered / runs > 0.92).all()
    assert (covered / runs < 0.985).all()


def test_a_pauc_of_few_clips_has_no_interval_and_of_many_a_narrow_one():
    low, high = metrics.pauc_interval([0.8] * 4, [9, 100, 10, 100], [100, 9, 10, 100])

    assert np.isnan(low).tolist() == [True, True, False, False]
    assert (low[2:] < 0.8).all()
    assert (high[2:] > 0.8).all()
    assert high[3] - low[3] < high[2] - low[2]


@pytest.mark.parametrize("auc", [0.6, 0.9, 0.99])
def test_pauc_intervals_cover_at_least_as_often_as_they_say(auc, rng):
    n, runs = 30, 800
    scores = normal_scores(rng, auc, n, runs)
    truth = np.arange(2 * n) >= n
    fpr = np.linspace(0, 0.1, 10_001)[1:]
    true = np.mean(norm.sf(norm.isf(fpr) - norm.ppf(auc) * 2**0.5))
    observed = np.array([metrics.pauc(truth, run) for run in scores])

    low, high = metrics.pauc_interval(observed, n, n)

    standardised = 0.5 * (1 + (true - 0.05) / 0.95)
    assert np.mean((low <= standardised) & (standardised <= high)) >= 0.93


def test_a_figure_of_zero_makes_the_harmonic_mean_zero_and_its_interval_wide():
    low, high = metrics.harmonic_mean_interval([0.0, 0.8], [0.0, 0.6], [0.2, 0.9])

    assert (low, high) == (0.0, pytest.approx(2 / (1 / 0.2 + 1 / 0.9)))


def test_ten_thousand_machines_have_intervals_in_a_second(rng):
    observed = rng.random(10_000)

    start = perf_counter()
    metrics.auc_interval(observed, 100, 356)
    metrics.pauc_interval(observed, 100, 356)

    assert perf_counter() - start < 5
