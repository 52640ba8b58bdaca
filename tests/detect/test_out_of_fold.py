"""Every training clip is rated by a detector that has seen neither it nor its recording."""

from dataclasses import replace

import numpy as np
import pytest
from fitted_units import SHAPES, Embeddings, quick, table

from detect import DETECTORS
from detect.detector import anomaly_scores
from detect.fitting import DetectorChoice, FitUnit, fit, fit_and_score, read_for, units
from detect.out_of_fold import fold_numbers, number_of_folds, out_of_fold


def unit_of(n, groups=(), ids=()):
    keys = tuple(f"{i:03d}.wav" for i in range(n))
    return FitUnit("fan", "id_00", keys, ids or ("id_00",) * n, (), (), groups)


class Rows:
    """Reads the rows of X by keys like 007.wav, and counts the reads of each."""

    def __init__(self, X):
        self.X, self.asked = X, []

    def __call__(self, keys):
        self.asked += keys
        return self.X[[int(key[:3]) for key in keys]]


@pytest.mark.parametrize(
    ("n_recordings", "n_folds"), [(2, 2), (3, 3), (12, 12), (13, 5), (19, 5), (20, 10), (968, 10)]
)
def test_the_number_of_folds_is_the_recipes(n_recordings, n_folds):
    assert number_of_folds(n_recordings) == n_folds


@pytest.mark.parametrize("n", [3, 13, 20, 43])
def test_folds_are_the_recipes_permutation(n):
    names = [f"{i:03d}" for i in range(n)]
    k = number_of_folds(n)

    folds = fold_numbers(names)

    order = np.random.RandomState(0).permutation(n)
    for i in range(k):
        assert sorted(np.flatnonzero(folds == i)) == sorted(order[i::k])


@pytest.mark.parametrize("name", DETECTORS)
def test_scores_of_every_detector_equal_a_plain_loop_over_folds(name):
    choice, row = quick(name)
    shape = SHAPES[row.takes]
    (unit,) = units(table(n_train=4), "type" if row.needs_ids else "id")[:1]
    read = Embeddings(shape)

    unseen = out_of_fold(unit, read, choice, most_folds=10)

    folds = fold_numbers(unit.train_keys)
    ids = np.array(unit.train_ids)
    keys = np.array(unit.train_keys)
    for number in range(2):
        kept, left = folds != number, folds == number
        part = replace(
            unit, train_keys=tuple(keys[kept].tolist()), train_ids=tuple(ids[kept].tolist())
        )
        detector = fit(part, read, choice)
        X = read_for(name, keys[left].tolist(), read)
        expected = anomaly_scores(detector, X, ids[left] if row.needs_ids else None)
        np.testing.assert_allclose(unseen.scores[left], expected, rtol=1e-5, atol=1e-8)


def test_scores_look_like_test_normals_and_those_of_fitted_clips_do_not():
    (unit,) = units(table(ids=("id_00",), n_train=60, n_test=60))
    choice, read = DetectorChoice("knn", {"k": 2}), Embeddings((30,))
    test = fit_and_score(unit, read, choice).scores
    on_itself = replace(unit, test_keys=unit.train_keys, test_ids=unit.train_ids)

    unseen = out_of_fold(unit, read, choice).scores

    assert np.median(unseen) == pytest.approx(np.median(test), rel=0.2)
    assert np.median(fit_and_score(on_itself, read, choice).scores) < 0.8 * np.median(unseen)


def test_folds_never_split_a_recording():
    groups = tuple(f"recording {i // 4}" for i in range(12))
    read = Rows(np.array([[1000.0 * (i // 4), float(i)] for i in range(12)]))

    found = out_of_fold(unit_of(12, groups), read, DetectorChoice("knn", {"k": 1}, "none"))

    assert found.scores.min() > 900
    assert (found.n_recordings, found.n_folds) == (3, 3)
    assert found.notes == ("12 training clips are from 3 recordings; the promise counts clips",)


def test_clips_without_a_recording_are_their_own_and_no_name_can_collide():
    groups = ("", "000.wav", "000.wav", "")

    found = out_of_fold(unit_of(4, groups), Rows(np.eye(4)), DetectorChoice("knn", {"k": 1}))

    assert found.n_recordings == 3


def test_one_recording_is_refused_with_the_way_out(rng):
    unit, read = unit_of(12, ("tape 1",) * 12), Rows(rng.normal(size=(12, 3)))

    with pytest.raises(ValueError, match="All 12 training clips of fan id_00 are from one record"):
        out_of_fold(unit, read, DetectorChoice("knn"))

    found = out_of_fold(unit, read, DetectorChoice("knn"), split_recordings=True)
    assert found.n_folds == 12
    assert "expect more false alarms than promised" in found.notes[0]


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_clips_are_refused_with_the_consequence(n, rng):
    with pytest.raises(ValueError, match=f"has {n} training clips; .* scores without verdicts"):
        out_of_fold(unit_of(n), Rows(rng.normal(size=(n, 3))), DetectorChoice("knn"))


@pytest.mark.parametrize("n", [3, 9, 10])
def test_few_clips_are_left_out_one_by_one(n, rng):
    for name in ("mahalanobis", "knn", "ocsvm", "lof", "iforest"):
        read = Rows(rng.normal(size=(n, 3)))

        found = out_of_fold(unit_of(n), read, DetectorChoice(name))

        assert found.n_folds == n
        assert np.isfinite(found.scores).all()


def test_constant_features_have_no_out_of_fold_scores():
    with pytest.raises(ValueError, match=r"too few different embeddings \(1 of 20\)"):
        out_of_fold(unit_of(20), Rows(np.ones((20, 3))), DetectorChoice("mahalanobis"))


@pytest.mark.parametrize("shape", [(3,), (3, 2)])
def test_copied_clips_share_a_fold_and_are_noted(shape, rng):
    X = rng.normal(size=(24, *shape))
    X[23] = X[0]
    name = "knn" if len(shape) == 1 else "beam"

    found = out_of_fold(unit_of(24), Rows(X), DetectorChoice(name, {}, "none"))

    assert found.notes[0].startswith("1 training clips have the embedding of another one")
    assert found.n_recordings == 23
    assert found.scores[23] == pytest.approx(found.scores[0])
    assert found.scores[0] > 1e-3  # 0 if one had seen the other


def test_recordings_with_a_copy_in_common_are_held_out_together(rng):
    X = rng.normal(size=(6, 3))
    X[2] = X[1]
    groups = ("a", "a", "b", "b", "c", "d")

    found = out_of_fold(unit_of(6, groups), Rows(X), DetectorChoice("knn", {"k": 1}))

    assert found.n_recordings == 3


def test_vectors_are_read_once_however_many_folds_there_are(rng):
    read = Rows(rng.normal(size=(40, 3)))

    out_of_fold(unit_of(40), read, DetectorChoice("gmm"))

    assert sorted(read.asked) == sorted(unit_of(40).train_keys)


def test_scores_of_one_machine_of_a_type_are_found(rng):
    ids = ("id_00", "id_02") * 10

    found = out_of_fold(unit_of(20, ids=ids), Rows(rng.normal(size=(20, 3))), DetectorChoice("knn"))

    np.testing.assert_array_equal(found.of_machine("id_02"), found.scores[1::2])


def test_a_fold_that_cannot_be_fitted_says_what_is_missing():
    ids = ("id_00",) * 9 + ("id_02",)
    read = Rows(np.random.default_rng(0).normal(size=(10, 3)))

    with pytest.raises(ValueError, match=r"Without fold \d+ of \d+, fan id_00 gets no threshold: "):
        out_of_fold(unit_of(10, ids=ids), read, DetectorChoice("id_logistic"))


def test_the_seed_of_the_run_decides_and_nothing_else(rng):
    read = Rows(rng.normal(size=(20, 3)))
    choice = DetectorChoice("iforest")

    one, again, other = (out_of_fold(unit_of(20), read, choice, seed=seed) for seed in (1, 1, 2))

    np.testing.assert_array_equal(one.scores, again.scores)
    assert (one.scores != other.scores).any()


def test_a_detectors_exact_way_replaces_the_refits_and_keeps_the_sign(rng, monkeypatch):
    handed = []

    def shortcut(detector, X, folds):
        handed.append((X, folds))
        return -np.arange(20.0)

    monkeypatch.setattr("detect.out_of_fold.scores_out_of_fold", shortcut)
    X = rng.normal(size=(20, 3))

    found = out_of_fold(unit_of(20), Rows(X), DetectorChoice("mahalanobis"))

    np.testing.assert_array_equal(found.scores, np.arange(20.0))
    np.testing.assert_array_equal(handed[0][0], X)
    np.testing.assert_array_equal(handed[0][1], fold_numbers(unit_of(20).train_keys))


@pytest.mark.parametrize(("name", "n_folds"), [("knn", 10), ("mlp", 3)])
def test_networks_are_trained_three_more_times_at_most(name, n_folds, rng):
    options = {"epochs": 1} if name == "mlp" else {}
    read, choice = Rows(rng.normal(size=(30, 8))), DetectorChoice(name, options)

    assert out_of_fold(unit_of(30), read, choice).n_folds == n_folds
    assert out_of_fold(unit_of(30), read, choice, most_folds=2).n_folds == 2
