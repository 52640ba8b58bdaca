"""What every detector promises, whoever wrote it; ours agree with their stock references."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fitted_units import SHAPES, MedianDistance
from fitted_units import quick as quick_choice
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf, ledoit_wolf
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import OneClassSVM as StockOneClassSVM
from sklearn.utils.estimator_checks import parametrize_with_checks

from detect import DETECTORS, detector_options, facts_of, make_detector
from detect.detector import DetectorFacts, anomaly_scores, last_step, scores_out_of_fold
from detect.detectors.autoencoder import Autoencoder
from detect.detectors.bands import BandKNN
from detect.detectors.distance import KNN, LOF, nearest
from detect.detectors.id_classifier import IDClassifier
from detect.detectors.mahalanobis import Mahalanobis, SharedMahalanobis
from detect.detectors.mixture import GMM
from detect.detectors.ocsvm import OneClassSVM
from detect.detectors.subspace import PCAResidual
from detect.scaler import ColumnScaler

VECTOR_DETECTORS = [
    name for name in DETECTORS if facts_of(name).takes == "vectors" and not facts_of(name).needs_ids
]
DETERMINISTIC = ["mahalanobis", "knn", "ocsvm", "lof", "pca"]
QUICK = {"mlp": {"epochs": 30}, "unet": {"epochs": 30}}


def quick(name, **options):
    return make_detector(name, **{**QUICK.get(name, {}), **options})


@parametrize_with_checks(
    [
        Mahalanobis(),
        KNN(),
        KNN(metric="cosine", normalize="ldn"),
        KNN(normalize="varmin"),
        LOF(),
        OneClassSVM(),
        GMM(),
        GMM(rate_by="nearest"),
        Autoencoder("mlp", epochs=2),
        Autoencoder("unet", epochs=2),
        PCAResidual(),
        IDClassifier("logistic"),
        IDClassifier("mlp", epochs=2),
        SharedMahalanobis(),
        ColumnScaler(),
    ]
)
def test_is_a_scikit_learn_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", VECTOR_DETECTORS)
@pytest.mark.parametrize("scaler", ["standard", "none"])
def test_far_clip_is_more_anomalous(name, scaler, rng):
    detector = quick(name, scaler=scaler).fit(rng.normal(size=(200, 8)))

    near, far = anomaly_scores(detector, np.stack([np.zeros(8), np.full(8, 9.0)]))

    assert far > near


@pytest.mark.parametrize("name", VECTOR_DETECTORS)
def test_equal_seeds_give_equal_scores(name, rng):
    X, clips = rng.normal(size=(40, 6)), rng.normal(size=(9, 6))
    np.random.seed(1)  # noqa: NPY002  the global state must not matter
    one = quick(name, seed=3).fit(X).score_samples(clips)
    np.random.seed(2)  # noqa: NPY002
    other = quick(name, seed=3).fit(X).score_samples(clips)

    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["iforest", "mlp", "unet"])
def test_another_seed_gives_other_scores(name, rng):
    X, clips = rng.normal(size=(40, 6)), rng.normal(size=(9, 6))

    one = quick(name, seed=0).fit(X).score_samples(clips)

    assert not np.allclose(one, quick(name, seed=1).fit(X).score_samples(clips))


@pytest.mark.parametrize("name", VECTOR_DETECTORS)
def test_a_clips_score_does_not_depend_on_the_clips_beside_it(name, rng):
    detector = quick(name).fit(rng.normal(size=(40, 16)))
    clips = rng.normal(size=(30, 16))
    together = detector.score_samples(clips)
    shuffled = rng.permutation(30)

    alone = np.concatenate([detector.score_samples(clip[None]) for clip in clips])

    np.testing.assert_allclose(alone, together, rtol=1e-9)
    np.testing.assert_allclose(detector.score_samples(clips[shuffled]), together[shuffled], 1e-9)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_order_of_training_clips_does_not_matter(name, rng):
    X, clips = rng.normal(size=(50, 12)), rng.normal(size=(9, 12))

    one = quick(name).fit(X).score_samples(clips)
    other = quick(name).fit(X[::-1]).score_samples(clips)

    tolerance = 5e-3 if name == "ocsvm" else 1e-6  # libsvm stops at 1e-3, from another start
    np.testing.assert_allclose(one, other, rtol=tolerance)


@pytest.mark.parametrize("name", VECTOR_DETECTORS)
@pytest.mark.parametrize("n_train", [1, 2, 12])
def test_a_handful_of_clips_is_enough_or_the_message_says_how_many_are(name, n_train, rng):
    X = rng.normal(size=(n_train, 128))
    try:
        detector = quick(name).fit(X)
    except ValueError as error:
        assert n_train == 1
        assert "a minimum of 2 is required" in str(error)
        return

    scores = anomaly_scores(detector, np.stack([X.mean(axis=0), np.full(128, 50.0)]))
    assert np.isfinite(scores).all()
    if n_train == 12:
        assert scores[1] > scores[0]


@pytest.mark.parametrize("name", VECTOR_DETECTORS)
def test_alike_clips_and_constant_columns_do_not_break_a_fit(name, rng):
    X = rng.normal(size=(20, 8))
    X[:, 3] = 7.0
    alike = np.ones((20, 8))

    for clips in (X, alike):
        scores = quick(name).fit(clips).score_samples(np.stack([clips[0], clips[0] + 5]))
        assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_an_unknown_option_names_those_that_exist(name):
    with pytest.raises(ValueError, match="has no option 'colour'; it has ") as error:
        make_detector(name, colour="red")

    assert str(error.value).endswith(", ".join(detector_options(name)) or "it has none")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("knn", {"k": 0}, "knn.k should be greater than or equal to 1; got 0"),
        ("knn", {"k": "x"}, "knn.k should be a valid integer; got 'x'"),
        ("knn", {"k": 2.5}, "knn.k should be a valid integer; got 2.5"),
        ("knn", {"k": True}, "knn.k should be a valid integer; got True"),
        ("knn", {"metric": "manhattan"}, "knn.metric should be 'euclidean' or 'cosine'; got"),
        ("gmm", {"rate_by": "all"}, "gmm.rate_by should be 'mixture' or 'nearest'; got 'all'"),
        ("ocsvm", {"gamma": -1}, "ocsvm.gamma should be 'scale' or 'auto' or greater than 0"),
        ("ocsvm", {"nu": 2.0}, "ocsvm.nu should be less than or equal to 1; got 2.0"),
        ("pca", {"explained": 3}, "pca.explained should be less than 1; got 3"),
        ("mlp", {"batch_size": 0}, "mlp.batch_size should be greater than or equal to 1; got 0"),
        ("mlp", {"learning_rate": -1.0}, "mlp.learning_rate should be greater than 0; got -1.0"),
        ("cnn_svdd", {"skips": "maybe"}, "cnn_svdd.skips should be a valid boolean; got 'maybe'"),
        ("fc_ae", {"hidden": 64}, "fc_ae.hidden should be a valid tuple; got 64"),
        ("fc_ae", {"hidden": []}, r"fc_ae.hidden .*at least 1 item.*; got \[\]"),
        ("fc_ae", {"hidden": (64, 0)}, r"fc_ae.hidden should be greater than .* 1; got \(64, 0\)"),
        ("iforest", {"n_estimators": "x"}, "'n_estimators' parameter of .* must be an int"),
    ],
)
def test_a_value_that_an_option_cannot_have_is_refused_before_anything_is_fitted(
    name, options, message
):
    with pytest.raises(ValueError, match=message):
        make_detector(name, **options)


@pytest.mark.parametrize("name", DETECTORS)
def test_every_option_of_every_detector_is_checked_and_its_own_default_is_good(name):
    detector = last_step(make_detector(name))

    for option in detector_options(name):
        make_detector(name, **{option: getattr(detector, option)})
        with pytest.raises(ValueError, match=option):
            make_detector(name, **{option: object()})


def test_an_estimator_used_by_itself_checks_its_options_when_it_is_fitted(rng):
    with pytest.raises(ValueError, match=r"^density_k should be greater than or equal to 1; got 0"):
        KNN(density_k=0).fit(rng.normal(size=(10, 4)))


@pytest.mark.parametrize("name", DETECTORS)
def test_predict_flags_a_twentieth_of_the_training_clips_and_clips_that_score_below(name):
    choice, facts = quick_choice(name)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, *SHAPES[facts.takes])).astype(np.float32)
    ids = np.array(["id_00", "id_02"]).repeat(20)  # ignored by most
    clips = np.concatenate([X, X[:5] + 30 * rng.normal(size=X[:5].shape).astype(np.float32)])
    all_ids = np.concatenate([ids, ids[:5]])

    detector = make_detector(name, **choice.options).fit(X, ids)

    margins = detector.decision_function(clips, all_ids)
    verdicts = detector.predict(clips, all_ids)
    assert set(verdicts) <= {1, -1}
    np.testing.assert_array_equal(verdicts == -1, margins < 0)
    assert 1 <= (verdicts[:40] == -1).sum() <= 2  # beam rates them all 0, but for rounding
    scores = anomaly_scores(detector, clips, all_ids)
    np.testing.assert_allclose(scores, -margins - detector.offset_, rtol=1e-9, atol=1e-12)


def test_the_share_that_predict_flags_can_be_chosen_and_left_out(rng):
    X = rng.normal(size=(100, 4))

    flagged = make_detector("knn", flagged_share=0.2).fit(X).predict(X) == -1

    assert flagged.sum() == 20
    with pytest.raises(NotFittedError, match="has no boundary"):
        make_detector("knn", flagged_share=None).fit(X).predict(X)
    with pytest.raises(ValueError, match=r"is between 0 and 1, or None; got 1\.5"):
        make_detector("knn", flagged_share=1.5)


class TestAClassFromOutside:
    NAME = "fitted_units:MedianDistance"

    def test_needs_no_scikit_learn_and_gets_the_default_facts(self, rng):
        X = rng.normal(size=(50, 3)) * [1, 10, 100]
        assert facts_of(self.NAME) == DetectorFacts()

        detector = make_detector(self.NAME, power=2.0).fit(X)

        own = MedianDistance(2.0).fit(ColumnScaler().fit_transform(X))
        expected = own.score_samples(detector.scaler.transform(X))
        np.testing.assert_array_equal(detector.score_samples(X), expected)
        assert detector.predict(np.array([[9.0, 90, 900]])) == [-1]

    def test_has_its_options_checked_by_its_annotations(self):
        assert detector_options(self.NAME) == ("power",)
        with pytest.raises(ValueError, match="has no option 'colour'; it has power"):
            make_detector(self.NAME, colour="red")
        with pytest.raises(ValueError, match=r"power should be a valid number; got 'x'"):
            make_detector(self.NAME, power="x")

    def test_that_is_no_detector_is_refused(self):
        with pytest.raises(ValueError, match=r"json:JSONDecoder is no detector: .* no method fit"):
            make_detector("json:JSONDecoder")
        with pytest.raises(ValueError, match="json:Nothing cannot be used"):
            make_detector("json:Nothing")
        with pytest.raises(ValueError, match="unknown detector 'kn': did you mean 'knn'"):
            make_detector("kn")


def test_the_readmes_detector_works_from_its_own_module(tmp_path, monkeypatch, rng):
    page = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def fit" in b]
    (tmp_path / "readme_detector.py").write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    X = rng.normal(size=(50, 3))

    detector = make_detector("readme_detector:MedianDistance", order=1.0).fit(X)

    assert detector.predict(X.mean(axis=0, keepdims=True)) == [1]
    assert detector.predict(X.mean(axis=0, keepdims=True) + 99) == [-1]


def test_equal_columns_do_not_make_the_covariance_singular(rng):
    X = rng.normal(size=(5000, 1)).repeat(6, axis=1)

    scores = Mahalanobis().fit(X).score_samples(np.stack([X[0], X[0] + np.arange(6)]))

    assert scores[0] > scores[1]


@pytest.mark.parametrize(("n", "dim"), [(200, 20), (60, 128), (12, 96), (3, 5)])
def test_mahalanobis_behind_its_scaler_is_the_textbook_distance(n, dim, rng):
    mixing = rng.normal(size=(dim, dim))
    X, clips = (rng.normal(size=(m, dim)) @ mixing + 7 for m in (n, 30))
    deviation = X.std(axis=0)
    standardised = (X - X.mean(axis=0)) / deviation
    covariance = ledoit_wolf(standardised)[0] + 1e-9 * np.eye(dim)
    away = (clips - X.mean(axis=0)) / deviation

    squares = np.einsum("ij,ij->i", away, np.linalg.solve(covariance, away.T).T)

    scores = anomaly_scores(make_detector("mahalanobis").fit(X), clips)
    np.testing.assert_allclose(scores, squares, rtol=1e-8)


def spoilt_in_one_fold(X):
    X = X.copy()
    X[:, 1] = 5.0
    X[3] *= 1e3
    X[:, 2] = 0.0
    X[7, 2] = 1.0  # constant without this clip
    return X


@pytest.mark.parametrize("name", [name for name in DETECTORS if facts_of(name).has_fast_folds])
@pytest.mark.parametrize("scaler", ["standard", "none"])
@pytest.mark.parametrize(
    ("n", "dim", "n_folds"), [(60, 8, 10), (40, 38, 10), (30, 64, 5), (8, 3, 8)]
)
@pytest.mark.parametrize("change", [np.asarray, spoilt_in_one_fold])
def test_fast_scores_out_of_fold_are_those_of_a_refit(name, scaler, n, dim, n_folds, change, rng):
    X = change(rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim)) + 3)
    folds = rng.permutation(n) % n_folds
    expected = np.empty(n)
    for number in range(n_folds):
        held = folds == number
        refitted = make_detector(name, scaler=scaler).fit(X[~held])
        expected[held] = refitted.score_samples(X[held])

    scores = scores_out_of_fold(make_detector(name, scaler=scaler), X, folds)

    np.testing.assert_allclose(scores, expected, rtol=1e-8)


@pytest.mark.parametrize("options", [{"metric": "cosine"}, {"normalize": "ldn"}])
def test_neighbours_by_other_rules_are_to_be_refitted(options, rng):
    X = rng.normal(size=(6, 3))

    assert scores_out_of_fold(make_detector("knn", **options), X, np.arange(6)) is None


def test_a_fold_that_leaves_one_clip_is_refused_and_other_detectors_are_to_be_refitted(rng):
    X = rng.normal(size=(6, 3))

    assert scores_out_of_fold(make_detector("gmm"), X, np.arange(6)) is None
    with pytest.raises(ValueError, match="Fold 0 leaves 1 of 6 clips; 2 are needed"):
        scores_out_of_fold(make_detector("mahalanobis"), X, np.array([0, 0, 0, 0, 0, 1]))


class TestSharedMahalanobis:
    IDS = np.array(["id_00", "id_02", "id_04"]).repeat(16)

    def alike(self, rng, n=16, dim=12):
        mixing = np.random.default_rng(5).normal(size=(dim, dim))
        parts = [rng.normal(size=(n, dim)) @ mixing + 10 * i for i in range(3)]
        return np.concatenate(parts)

    def unlike(self, rng, n=16, dim=12):
        narrow = [np.linalg.qr(rng.normal(size=(dim, dim)))[0] for _ in range(3)]
        widths = np.geomspace(1, 1e-3, dim)
        return np.concatenate([(rng.normal(size=(n, dim)) * widths) @ basis for basis in narrow])

    def test_few_clips_of_machines_that_vary_alike_share_a_covariance(self, rng):
        shared = SharedMahalanobis().fit(self.alike(rng), self.IDS)

        assert shared.share_ >= 0.75
        assert shared.share_ == shared.SHARES[int(np.argmax(shared.likelihoods_))]

    def test_machines_that_vary_differently_are_rated_as_if_each_were_alone(self, rng):
        X, clips = self.unlike(rng, 16), rng.normal(size=(20, 12))

        shared = make_detector("mahalanobis_shared").fit(X, self.IDS)

        assert shared.detector.share_ == 0
        alone = make_detector("mahalanobis").fit(X[self.IDS == "id_02"])
        expected = anomaly_scores(alone, clips)
        scores = anomaly_scores(shared, clips, ["id_02"] * 20)
        np.testing.assert_allclose(scores, expected, rtol=1e-8)

    def test_the_covariance_is_the_weighted_mean_of_the_ids(self, rng):
        X, clips = self.alike(rng), rng.normal(size=(20, 12))
        scaled = {i: ColumnScaler().fit(X[i == self.IDS]) for i in np.unique(self.IDS)}
        own = {
            i: ledoit_wolf(scaler.transform(X[i == self.IDS]))[0] + 1e-9 * np.eye(12)
            for i, scaler in scaled.items()
        }

        shared = SharedMahalanobis().fit(X, self.IDS)

        covariance = (1 - shared.share_) * own["id_04"] + shared.share_ * sum(own.values()) / 3
        away = scaled["id_04"].transform(clips)
        expected = np.einsum("ij,ij->i", away, np.linalg.solve(covariance, away.T).T)
        scores = shared.score_samples(clips, np.array(["id_04"] * 20))
        np.testing.assert_allclose(-scores, expected, rtol=1e-8)

    def test_the_likelihood_is_that_of_clips_left_out(self, rng):
        """Twelve clips of one ID are left out one by one; the other ID has too few for folds."""
        X, ids = rng.normal(size=(14, 3)), np.array(["a"] * 12 + ["b"] * 2)
        other = ledoit_wolf(ColumnScaler().fit_transform(X[12:]))[0]
        expected = np.zeros(5)
        for left in range(12):
            kept = np.delete(X[:12], left, axis=0)
            scaler = ColumnScaler().fit(kept)
            own = ledoit_wolf(scaler.transform(kept))[0]
            for j, share in enumerate(SharedMahalanobis.SHARES):
                covariance = (1 - share) * own + share * (own + other) / 2
                clip = scaler.transform(X[left : left + 1])[0]
                expected[j] += multivariate_normal.logpdf(clip, np.zeros(3), covariance)

        found = SharedMahalanobis().fit(X, ids).likelihoods_

        constant = 12 * 3 / 2 * np.log(2 * np.pi)
        np.testing.assert_allclose(found, expected + constant, rtol=1e-6)

    def test_one_machine_id_is_enough_and_one_clip_of_it_is_not(self, rng):
        X = rng.normal(size=(9, 3))

        alone = SharedMahalanobis().fit(X, np.array(["a"] * 9))

        assert alone.share_ == 0
        with pytest.raises(ValueError, match="machine ID b has 1 training clip; 2 are needed"):
            SharedMahalanobis().fit(X, np.array(["a"] * 8 + ["b"]))


def test_an_unknown_scaler_is_refused():
    with pytest.raises(ValueError, match="no scaler 'robust'; it is standard or none"):
        make_detector("knn", scaler="robust")


def test_importing_the_menu_imports_nothing_heavy():
    heavy = "{'torch', 'sklearn', 'scipy', 'numpy', 'rich'} & set(sys.modules)"
    code = f"import sys, detect; found = {heavy}; sys.exit(str(found) if found else 0)"

    finished = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )

    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize(("n", "dim"), [(200, 20), (60, 128), (30, 300), (12, 128)])
class TestAgainstStock:
    @pytest.fixture
    def clips(self, n, dim, rng):
        mixing = rng.normal(size=(dim, dim)) / np.sqrt(dim)
        return rng.normal(size=(n, dim)) @ mixing, rng.normal(size=(40, dim)) @ mixing

    def test_mahalanobis(self, clips):
        X, test = clips

        np.testing.assert_allclose(
            Mahalanobis().fit(X).mahalanobis(test), LedoitWolf().fit(X).mahalanobis(test), 1e-6
        )

    def test_shrinkage(self, clips):
        X, _ = clips

        assert Mahalanobis().fit(X).shrinkage_ == pytest.approx(LedoitWolf().fit(X).shrinkage_)

    def test_knn(self, clips):
        X, test = clips
        stock = NearestNeighbors(n_neighbors=5).fit(X).kneighbors(test)[0].mean(axis=1)

        np.testing.assert_allclose(-KNN(k=5).fit(X).score_samples(test), stock, 1e-6)

    def test_cosine_knn(self, clips):
        X, test = clips
        stock = NearestNeighbors(n_neighbors=1, metric="cosine").fit(X).kneighbors(test)[0][:, 0]

        scores = -KNN(k=1, metric="cosine").fit(X).score_samples(test)

        np.testing.assert_allclose(2 * scores, stock, 1e-6)

    def test_one_class_svm(self, clips):
        X, test = clips
        stock = StockOneClassSVM(nu=0.1, tol=1e-8).fit(X)
        ours = OneClassSVM(nu=0.1, tol=1e-8).fit(X)

        np.testing.assert_allclose(ours.score_samples(test), stock.score_samples(test), 1e-6)
        np.testing.assert_allclose(
            ours.decision_function(test), stock.decision_function(test), atol=1e-6
        )

    def test_pca_residual(self, clips):
        X, test = clips
        stock = PCA(0.95, svd_solver="full").fit(X)
        rebuilt = stock.inverse_transform(stock.transform(test))

        np.testing.assert_allclose(
            -PCAResidual(0.95).fit(X).score_samples(test), np.sum((test - rebuilt) ** 2, axis=1)
        )

    @pytest.mark.parametrize("n_components", [1, 2])
    def test_gmm(self, clips, n_components):
        X, test = clips
        centre = X.mean(axis=0)
        stock = GaussianMixture(n_components, reg_covar=1e-3, random_state=0).fit(X - centre)

        np.testing.assert_allclose(
            GMM(n_components).fit(X).score_samples(test), stock.score_samples(test - centre), 1e-6
        )


@pytest.mark.parametrize(("n", "nu"), [(400, 0.1), (400, 0.5), (60, 0.99), (1500, 0.1)])
def test_one_class_svm_stops_where_stock_stops(n, nu, rng):
    # at the usual tolerance the place depends on every step; products in float32 would stray
    X = rng.normal(size=(n, 32)) @ rng.normal(size=(32, 96)) + 5

    ours, stock = OneClassSVM(nu).fit(X), StockOneClassSVM(nu=nu).fit(X)

    np.testing.assert_allclose(ours.score_samples(X[:50]), stock.score_samples(X[:50]), rtol=1e-10)
    assert ours.offset_ == pytest.approx(stock.offset_[0], rel=1e-10)


def test_gmm_by_its_nearest_component_ignores_the_weights(rng):
    X = np.concatenate([rng.normal(size=(90, 2)), rng.normal(size=(10, 2)) + 20])
    clips = np.array([[0.0, 0.0], [20.0, 20.0]])
    mixture = GMM(2, rate_by="mixture").fit(X)
    nearest = GMM(2, rate_by="nearest").fit(X)

    difference = mixture.score_samples(clips) - nearest.score_samples(clips)

    np.testing.assert_allclose(np.sort(difference), np.log([0.1, 0.9]), atol=1e-6)


def test_ldn_divides_by_how_sparse_the_neighbours_surroundings_are():
    # a dense cluster at 0 (spacing 1) and a sparse one at 100 (spacing 4)
    X = np.array([[0.0], [1], [2], [3], [100], [104], [108], [112]])
    detector = KNN(k=1, normalize="ldn", density_k=1).fit(X)

    scores = -detector.score_samples(np.array([[-2.0], [120.0]]))

    np.testing.assert_allclose(scores, [2 / 1, 8 / 4])


def test_no_clip_is_its_own_neighbour_when_it_is_left_out_even_among_three():
    clips = np.array([[0.0], [1.0], [5.0]])

    distances, rows = nearest(clips, clips, 2, leave_one_out=True)

    np.testing.assert_allclose(distances, [[1, 5], [1, 4], [4, 5]], rtol=1e-6)
    assert rows.tolist() == [[1, 2], [0, 2], [1, 0]]


def test_varmin_makes_the_training_clips_own_distances_vary_least(rng):
    dense, sparse = rng.normal(size=(60, 3)), 5 * rng.normal(size=(60, 3)) + 60
    X = np.concatenate([dense, sparse])

    detector = KNN(k=1, normalize="varmin").fit(X)

    distances = NearestNeighbors(n_neighbors=2).fit(X).kneighbors(X)
    own, density = distances[0][:, 1], detector.density_[distances[1][:, 1]]
    best = np.var(own - detector.multiple_ * density)
    for other in (0.0, 0.9 * detector.multiple_, 1.1 * detector.multiple_):
        assert best < np.var(own - other * density)


def test_a_column_that_hardly_moves_is_divided_by_the_median_deviation():
    X = np.array([[0.0, 0, 0, 5], [2, 4, 2e-4, 5]])  # deviations 1, 2, 1e-4, 0: median 0.50005

    scaler = ColumnScaler().fit(X)

    np.testing.assert_allclose(scaler.scale_, [1, 2, 0.50005, 0.50005])
    np.testing.assert_allclose(scaler.transform(X)[1, :2], [1, 1])


def test_sequences_are_scaled_per_feature_and_padding_counts_nowhere():
    X = np.zeros((2, 3, 2), dtype=np.float32)
    X[0, :, 0] = [1, 2, 3]
    X[1, :, 0] = [4, 5, np.nan]
    X[:, :, 1] = [[10, 20, 30], [40, 50, np.nan]]

    scaled = ColumnScaler().fit(X).transform(X)

    frames = scaled.reshape(-1, 2)[:5]
    np.testing.assert_allclose(frames.mean(axis=0), [0, 0], atol=1e-6)
    np.testing.assert_allclose(frames.std(axis=0), [1, 1], atol=1e-6)
    assert np.isnan(scaled[1, 2]).all()
    assert scaled.dtype == np.float32


BANDS_OF_TRAINING = np.array(
    [[[1.0, 0], [0, 2]], [[0, 3], [0, 5]], [[1, 1], [4, 0]]]
)  # three clips of two bands


@pytest.mark.parametrize(("over_bands", "expected"), [("mean", 0.125), ("max", 0.25)])
def test_beam_takes_the_nearest_clip_of_each_band(over_bands, expected):
    # band 0 points along the third clip's; band 1 is 60 degrees from the nearest, the third's
    clip = np.array([[[7.0, 7.0], [-np.sqrt(3), -1]]])
    clip[0, 1] = [np.cos(np.pi / 3), -np.sin(np.pi / 3)]
    detector = BandKNN(over_bands=over_bands).fit(BANDS_OF_TRAINING)

    np.testing.assert_allclose(detector.band_distances(clip), [[0.0, 0.25]], atol=1e-12)
    np.testing.assert_allclose(-detector.score_samples(clip), [expected])


def at_degrees(*angles: float) -> np.ndarray:
    """Clips of one band, at these angles; (n, 1, 2)."""
    radians = np.radians(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)[:, None]


def test_varmin_of_beam_by_hand():
    # D = (1 - cosine) / 2: 0 to 60 degrees 1/4, 0 to 180 1, 60 to 180 3/4
    first, second = at_degrees(0, 60, 180), at_degrees(0, 0, 0)
    X = np.concatenate([first, second], axis=1)  # the clips agree in the second band
    clip = np.concatenate([at_degrees(25), at_degrees(180)], axis=1)

    detector = BandKNN(normalize="varmin", density_k=2).fit(X)

    # b = 5/8, 1/2, 7/8; nearest others: d = 1/4, 1/4, 3/4 with b = 1/2, 5/8, 1/2 around them
    np.testing.assert_allclose(detector.density_, [[5 / 8, 1 / 2, 7 / 8], [0, 0, 0]], atol=1e-6)
    # Cov(d, b) = -1/144 and Var(b) = 1/288: the multiple is negative and stays so
    np.testing.assert_allclose(detector.multiple_, [-2, 0], rtol=1e-5)
    # at 25 degrees, the clip at 0 is nearest, but the one at 60 is once adjusted
    adjusted = [(1 - np.cos(np.radians(35))) / 2 + 2 * 1 / 2, 1.0]
    np.testing.assert_allclose(detector.band_distances(clip), [adjusted], rtol=1e-5)
    np.testing.assert_allclose(-detector.score_samples(clip), [np.mean(adjusted)], rtol=1e-5)


def test_ldn_of_beam_by_hand():
    detector = BandKNN(normalize="ldn", density_k=2).fit(at_degrees(0, 60, 180))

    distances = detector.band_distances(at_degrees(90))  # D = 1/2 to 0 and 180

    nearest_of = (1 - np.cos(np.radians(30))) / 2 / (1 / 2), 1 / 2 / (7 / 8)
    np.testing.assert_allclose(distances, [[min(nearest_of)]], rtol=1e-5)


@pytest.mark.parametrize("normalize", ["none", "ldn", "varmin"])
def test_knn_of_one_band_by_its_cosine_is_beam(normalize, rng):
    X, clips = rng.normal(size=(30, 1, 5)), rng.normal(size=(7, 1, 5))
    domains = np.array(["source"] * 22 + ["target"] * 8)

    for per_domain in (False, True):
        options = {"normalize": normalize, "density_k": 4, "per_domain": per_domain}
        beam = BandKNN(k=2, **options).fit(X, None, domains)
        knn = KNN(k=2, metric="cosine", **options).fit(X[:, 0], None, domains)
        scores = beam.score_samples(clips)
        np.testing.assert_allclose(knn.score_samples(clips[:, 0]), scores, rtol=1e-4, atol=1e-5)


def test_banks_per_domain_by_hand():
    X = np.array([[0.0], [1], [3], [100], [110], [130]])
    domains = np.array(["source"] * 3 + ["target"] * 3)

    detector = KNN(k=1, per_domain=True).fit(X, None, domains)
    scores = -detector.score_samples(np.array([[5.0], [104.0]]))

    # own distances 1, 1, 2 and 10, 10, 20
    deviation = np.sqrt(2) / 3
    expected = [(2 - 4 / 3) / deviation, (4 - 40 / 3) / (10 * deviation)]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("domains", "message"),
    [
        (None, "needs training clips of two domains, .* these have none"),
        (["source"] * 4, "these have source"),
        (["source"] * 3 + ["target"], "domain target: .*"),
    ],
)
@pytest.mark.parametrize("cls", [KNN, BandKNN])
def test_banks_per_domain_need_two_domains(cls, domains, message, rng):
    X = rng.normal(size=(4, 2) if cls is KNN else (4, 1, 2))

    with pytest.raises(ValueError, match=message):
        cls(per_domain=True).fit(X, None, None if domains is None else np.array(domains))


@pytest.mark.parametrize("name", DETECTORS)
def test_the_scaler_stands_before_those_that_want_it_unless_there_is_none(name):
    assert (make_detector(name).scaler is not None) == facts_of(name).wants_scaling
    assert make_detector(name, scaler="none").scaler is None


def test_beam_does_not_care_how_loud_a_band_is(rng):
    X, clips = rng.normal(size=(20, 4, 6)), rng.normal(size=(5, 4, 6))
    detector = BandKNN(k=3).fit(X)

    np.testing.assert_allclose(
        detector.score_samples(clips), detector.score_samples(clips * 10), rtol=1e-9
    )


def test_beam_refuses_other_bands_than_it_was_fitted_to():
    with pytest.raises(ValueError, match=r"bands \(3, 2\); \(2, 2\) were fitted"):
        BandKNN().fit(BANDS_OF_TRAINING).score_samples(np.zeros((1, 3, 2)))


@pytest.mark.parametrize("name", [name for name in DETECTORS if facts_of(name).needs_ids])
class TestDetectorsThatNeedIDs:
    def fitted(self, name, rng):
        ids = np.array(["id_00", "id_02"]).repeat(40)
        X = rng.normal(size=(80, 6)) + 3 * (ids == "id_02")[:, None]
        return make_detector(name).fit(X, ids)

    def test_a_clip_that_sounds_like_another_machine_is_more_anomalous(self, name, rng):
        detector = self.fitted(name, rng)
        clips = np.stack([np.zeros(6), np.full(6, 3.0)])

        as_first = anomaly_scores(detector, clips, ["id_00", "id_00"])
        as_second = anomaly_scores(detector, clips, ["id_02", "id_02"])

        assert as_first[1] > as_first[0]
        assert as_second[0] > as_second[1]

    def test_a_machine_id_that_was_not_fitted_is_refused(self, name, rng):
        with pytest.raises(ValueError, match="id_09 is none of the machine IDs fitted: id_00"):
            anomaly_scores(self.fitted(name, rng), np.zeros((1, 6)), ["id_09"])


@pytest.mark.parametrize("name", ["id_logistic", "id_mlp", "id_mahalanobis"])
def test_one_machine_id_is_refused_by_those_that_tell_ids_apart(name, rng):
    with pytest.raises(ValueError, match="needs two or more of a type"):
        make_detector(name).fit(rng.normal(size=(9, 3)), np.array(["id_00"] * 9))


def test_the_probability_of_the_own_id_is_that_of_scikit_learns_regression(rng):
    from sklearn.linear_model import LogisticRegression

    ids = np.array(["a", "b", "c"]).repeat(20)
    X = rng.normal(size=(60, 4)) + (ids == "b")[:, None]
    stock = LogisticRegression(max_iter=1000).fit(X, ids).predict_log_proba(X)

    scores = IDClassifier("logistic").fit(X, ids).score_samples(X, ids)

    np.testing.assert_allclose(scores, stock[np.arange(60), np.arange(3).repeat(20)], rtol=1e-6)


@pytest.mark.parametrize("n_ids", [2, 3])
def test_a_clip_far_from_its_own_machine_id_still_has_a_finite_score(n_ids, rng):
    ids = np.repeat([f"id_{i:02d}" for i in range(n_ids)], 20)
    X = rng.normal(size=(len(ids), 64)) + 3 * np.repeat(np.eye(n_ids, 64), 20, axis=0)
    detector = IDClassifier("logistic").fit(X, ids)

    near, far = detector.score_samples(np.stack([X[0], 1000 * X[0]]), np.array(["id_01"] * 2))

    assert np.isfinite(far)
    assert far < near - 700  # log of the smallest float64
    own = np.searchsorted(detector.classes_, ids)
    expected = detector.model_.predict_log_proba(X)[np.arange(len(X)), own]
    np.testing.assert_allclose(detector.score_samples(X, ids), expected, rtol=1e-9, atol=1e-12)
