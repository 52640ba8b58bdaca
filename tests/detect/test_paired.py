"""Paired differences are those of the published implementation, and their intervals hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtri

from detect import metrics
from detect.paired import (
    Difference,
    auc_covariance,
    auc_difference,
    holm,
    mean_difference,
    pauc_difference,
)

ASAH = np.loadtxt(Path(__file__).with_name("asah.csv"), delimiter=",", skiprows=1)
"""113 patients with a subarachnoid haemorrhage: whether the outcome was poor, and three markers.

Published with pROC (Robin et al., BMC Bioinformatics 2011, 12:77) from Turck et al. (Intensive Care
Medicine 2010, 36:107-115).
"""
POOR, MARKERS = ASAH[:, 0] == 1, dict(zip(("wfns", "s100b", "ndka"), ASAH.T[1:], strict=True))


@pytest.mark.parametrize(
    ("first", "second", "z", "p_value", "low", "high"),
    [
        ("wfns", "s100b", 2.20898359144091, 0.0271757822291882, 0.01040617695648, 0.1742144192495),
        ("wfns", "ndka", 2.79777591868904, 0.00514557970691098, 0.0634011709340, 0.3600405634834),
        ("ndka", "s100b", -1.39077002573558, 0.164295175223054, -0.28769174463, 0.04887060642),
    ],
)
def test_the_difference_of_two_aucs_is_that_of_proc(first, second, z, p_value, low, high):
    """The figures are those of pROC's own tests of `roc.test`, method DeLong."""
    scores = [MARKERS[first], MARKERS[second]]

    found = auc_difference(POOR, scores, [1, -1])

    assert found.value / np.sqrt(found.variance) == pytest.approx(z, rel=1e-9)
    assert found.p_value == pytest.approx(p_value, rel=1e-9)
    assert found.interval == pytest.approx((low, high), rel=1e-9)


def test_the_variance_of_an_auc_is_that_of_proc():
    aucs, covariance = auc_covariance(POOR, [MARKERS["wfns"], MARKERS["ndka"]])

    assert aucs == pytest.approx([0.823678861788618, 0.611957994579946], rel=1e-12)
    assert np.diag(covariance) == pytest.approx([0.00146991470882363, 0.0031908105493913], rel=1e-9)


def test_the_covariance_is_that_of_the_structural_components_by_definition(rng):
    truth = np.repeat([False, True], [9, 7])
    scores = rng.integers(0, 6, size=(3, 16)) + 1.5 * truth  # with ties

    aucs, covariance = auc_covariance(truth, scores)

    wins = [
        (own[truth][:, None] > own[~truth]) + 0.5 * (own[truth][:, None] == own[~truth])
        for own in scores
    ]
    expected = np.cov([w.mean(axis=1) for w in wins]) / 7
    expected += np.cov([w.mean(axis=0) for w in wins]) / 9
    assert covariance == pytest.approx(expected, rel=1e-12)
    assert aucs == pytest.approx([metrics.auc(truth, own) for own in scores], rel=1e-12)


def test_several_seeds_are_compared_by_their_mean(rng):
    truth = np.repeat([False, True], 20)
    first, second, other = rng.normal(size=(3, 40)) + truth

    found = auc_difference(truth, [first, second, other], [0.5, 0.5, -1])

    mean = (metrics.auc(truth, first) + metrics.auc(truth, second)) / 2
    assert found.value == pytest.approx(mean - metrics.auc(truth, other))


def test_pauc_differs_by_what_the_metric_says_and_more_where_runs_are_unlike(rng):
    truth = np.repeat([False, True], 30)
    first = rng.normal(size=60) + 2 * truth
    alike, unlike = first + rng.normal(size=60) / 10, rng.normal(size=60) + 2 * truth

    close = pauc_difference(truth, [first, alike], [1, -1], n_resamples=300)
    far = pauc_difference(truth, [first, unlike], [1, -1], n_resamples=300)

    assert close.value == pytest.approx(metrics.pauc(truth, first) - metrics.pauc(truth, alike))
    assert close.variance < far.variance / 4
    assert close == pauc_difference(truth, [first, alike], [1, -1], n_resamples=300)


def test_resamples_are_those_of_drawn_clips(rng):
    from detect.paired import _paucs

    truth = np.repeat([False, True], [12, 15])
    scores = rng.integers(0, 8, size=27) + 2.0 * truth
    drawn = [*rng.integers(0, 12, size=12), *rng.integers(12, 27, size=15)]

    found = _paucs(truth, scores, np.bincount(drawn, minlength=27)[None].astype(float))

    assert found == pytest.approx([metrics.pauc(truth[drawn], scores[drawn])], rel=1e-12)


def test_two_perfect_runs_are_not_called_equal_for_certain():
    truth = np.repeat([False, True], 12)

    found = auc_difference(truth, [truth * 1.0, truth * 2.0], [1, -1])
    of_pauc = pauc_difference(truth, [truth * 1.0, truth * 2.0], [1, -1], n_resamples=50)

    for each in (found, of_pauc):
        low, high = each.interval
        assert each.value == 0
        assert low < -0.1
        assert high > 0.1
        assert each.p_value == 1.0
        assert "no clip is ranked differently" in each.note


def test_a_run_that_rates_all_clips_alike_has_an_interval_too():
    truth = np.repeat([False, True], 12)

    found = auc_difference(truth, [truth * 1.0, np.ones(24)], [1, -1])

    low, high = found.interval
    assert found.value == 0.5
    assert low < 0.4
    assert high > 0.6


@pytest.mark.parametrize(
    ("n_normal", "n_anomalous"), [(1, 20), (20, 1), (0, 20)], ids=["normal", "anomalous", "none"]
)
def test_one_clip_of_a_class_is_refused(n_normal, n_anomalous):
    truth = np.repeat([False, True], [n_normal, n_anomalous])
    scores = np.ones((2, len(truth)))

    with pytest.raises(ValueError, match=f"got {n_normal} normal and {n_anomalous} anomalous"):
        auc_difference(truth, scores, [1, -1])


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match="1 scores are not finite"):
        auc_difference([False, False, True, True], [[1, 2, 3, np.nan], [1, 2, 3, 4]], [1, -1])


def test_the_mean_over_machines_adds_up_their_variances():
    found = mean_difference([Difference(0.1, 0.04), Difference(0.3, 0.05)])

    assert found.value == pytest.approx(0.2)
    assert found.variance == pytest.approx(0.0225)


def test_holm_multiplies_the_smallest_by_all_and_keeps_the_order():
    found = holm([0.04, 0.01, 0.03, 0.9])

    assert found == pytest.approx([0.09, 0.04, 0.09, 0.9])


def coverage(n_normal, n_anomalous, aucs, correlation, n_trials, rng):
    """Share of DeLong's intervals that hold the true difference of two binormal runs."""
    truth = np.repeat([False, True], [n_normal, n_anomalous])
    shift = np.sqrt(2) * ndtri(aucs)[:, None] * truth
    root = np.linalg.cholesky([[1, correlation], [correlation, 1]])
    held = 0
    for _ in range(n_trials):
        scores = root @ rng.normal(size=(2, len(truth))) + shift
        low, high = auc_difference(truth, scores, [1, -1]).interval
        held += low <= aucs[0] - aucs[1] <= high
    return held / n_trials


def test_intervals_of_the_difference_hold_as_often_as_they_say(rng):
    assert 0.92 < coverage(30, 30, np.array([0.85, 0.75]), 0.5, 600, rng) < 0.98


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(30, 30), (50, 100), (100, 356)])
@pytest.mark.parametrize("aucs", [(0.6, 0.6), (0.75, 0.75), (0.85, 0.75), (0.9, 0.8)])
@pytest.mark.parametrize("correlation", [0.2, 0.7])
def test_intervals_of_the_difference_hold_in_93_to_97_percent(sizes, aucs, correlation, rng):
    assert 0.93 <= coverage(*sizes, np.array(aucs), correlation, 4000, rng) <= 0.97
