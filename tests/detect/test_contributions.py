"""Contributions: they add up to the score, and name what was changed."""

import numpy as np
import pytest

from detect import make_detector
from detect.contributions import (
    MemberContributions,
    band_weights,
    contributions,
    member_shares,
    nearest_clip,
)
from detect.detector import anomaly_scores

DIM = 12


@pytest.fixture
def clips(rng):
    mixing = rng.normal(size=(DIM, DIM))
    return 5 + rng.normal(size=(200, DIM)) @ mixing


def scored_by(detector):
    return lambda X: anomaly_scores(detector, X)


def test_contributions_to_a_mahalanobis_distance_add_up_to_it(clips, rng):
    detector = make_detector("mahalanobis").fit(clips)
    x = clips[0] + rng.normal(0, 3, DIM)

    parts = contributions(scored_by(detector), x, clips.mean(axis=0))

    assert parts.sum() == pytest.approx(anomaly_scores(detector, x[None])[0], rel=1e-9)


def test_a_contribution_is_the_deviation_times_the_whitened_deviation(clips, rng):
    detector = make_detector("mahalanobis", scaler="none").fit(clips)
    x = clips.mean(axis=0) + rng.normal(0, 3, DIM)
    unit = np.eye(DIM)
    centre = clips.mean(axis=0)
    alone = anomaly_scores(detector, centre + unit)
    pairs = anomaly_scores(detector, centre + (unit[:, None] + unit).reshape(-1, DIM))
    precision = (pairs.reshape(DIM, DIM) - alone[:, None] - alone) / 2

    parts = contributions(scored_by(detector), x, centre)

    np.testing.assert_allclose(parts, (x - centre) * (precision @ (x - centre)), rtol=1e-6)


@pytest.mark.parametrize("detector", ["mahalanobis", "knn", "gmm", "ocsvm", "pca"])
def test_the_feature_that_was_changed_contributes_most(detector, rng):
    clips = rng.normal(size=(200, DIM))
    x = np.zeros(DIM)
    x[7] = 9.0

    fitted = make_detector(detector).fit(clips)
    parts = contributions(scored_by(fitted), x, clips.mean(axis=0))

    assert parts.argmax() == 7
    assert parts[7] > 0


def test_vectors_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match=r"got \(3,\) and \(4,\)"):
        contributions(lambda X: X.sum(axis=1), np.zeros(3), np.zeros(4))


def test_the_nearest_clip_comes_with_its_differences(clips):
    x = clips[17].copy()
    x[3] += 0.5

    row, squares = nearest_clip(x, clips)

    assert row == 17
    np.testing.assert_allclose(squares, np.where(np.arange(DIM) == 3, 0.25, 0.0), atol=1e-12)


def test_shares_of_members_are_those_of_their_positive_z():
    assert member_shares({"a": 3.0, "b": 1.0, "c": -2.0}) == {"a": 0.75, "b": 0.25, "c": 0.0}
    assert member_shares({"a": -1.0, "b": -0.5}) == {"a": 0.0, "b": 0.0}


def test_bands_get_what_lies_in_them():
    low, high = np.array([0.0, 100.0, 200.0]), np.array([100.0, 200.0, 300.0])
    coarse = MemberContributions(0.5, [4.0, -1.0], [0.0, 200.0], [200.0, 300.0])
    fine = MemberContributions(0.5, [1.0, 1.0, 2.0], [120.0, 150.0, np.nan], [130.0, 160.0, np.nan])

    weights = band_weights([coarse, fine], low, high)

    np.testing.assert_allclose(weights, [0.25, 0.25 + 0.25, -0.125])


def test_a_member_without_bands_or_without_contribution_weighs_nothing():
    wave = MemberContributions(1.0, [1.0, 2.0], [np.nan] * 2, [np.nan] * 2)
    silent = MemberContributions(1.0, [0.0], [0.0], [100.0])

    assert band_weights([wave, silent], [0.0, 50.0], [50.0, 100.0]).tolist() == [0.0, 0.0]
