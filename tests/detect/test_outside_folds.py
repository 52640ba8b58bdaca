"""What is subtracted for a fold is what a scaler would learn without it."""

import numpy as np
import pytest

from detect.detectors.distance import KNN
from detect.outside_folds import outside_folds, scores_by_refit
from detect.scaler import ColumnScaler

FOLDS = np.arange(30) % 5


@pytest.fixture
def X(rng):
    X = rng.normal(size=(30, 6)) * [1, 100, 1e-3, 1, 1, 1e-9] + 7
    X[:, 4] = 7.3
    return X


def test_clips_are_seen_as_behind_a_scaler_that_was_fitted_without_the_fold(X):
    outside = outside_folds(X, FOLDS, scaled=True)

    assert outside.is_exact.all()
    for fold, held in enumerate(outside.held):
        expected = ColumnScaler().fit(np.delete(X, held, axis=0)).transform(X)
        seen = (outside.U - outside.mean[fold]) * outside.factor[fold]
        np.testing.assert_allclose(seen, expected, rtol=1e-8, atol=1e-6)
        assert outside.n[fold] == 24


def test_without_a_scaler_distances_are_those_of_the_clips(X):
    outside = outside_folds(X, FOLDS, scaled=False)

    seen = outside.U * outside.factor[2]
    np.testing.assert_allclose(seen[3] - seen[4], X[3] - X[4], rtol=1e-6)


def test_a_fold_that_holds_nearly_all_of_a_columns_variance_is_not_exact(X):
    X[3, 0] = 1e4

    outside = outside_folds(X, FOLDS, scaled=True)

    assert outside.is_exact.tolist() == [True, True, True, False, True]


def test_a_fold_of_all_clips_is_refused(X):
    with pytest.raises(ValueError, match="One fold holds all 30 clips, so that none is left"):
        outside_folds(X, np.zeros(30, dtype=np.int64), scaled=True)


def test_a_refit_sees_the_other_clips_only(X):
    held = np.flatnonzero(FOLDS == 1)
    kept, scaler = np.delete(X, held, axis=0), ColumnScaler()

    scores = scores_by_refit(KNN(), X, held, scaler)

    expected = KNN().fit(scaler.fit_transform(kept)).score_samples(scaler.transform(X[held]))
    np.testing.assert_array_equal(scores, expected)
