"""What every detector promises, whoever wrote it; ours agree with their stock references."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import OneClassSVM as StockOneClassSVM
from sklearn.utils.estimator_checks import parametrize_with_checks

from detect import DETECTORS, detector_options, make_detector
from detect.detector import anomaly_scores, last_step
from detect.detectors.autoencoder import Autoencoder
from detect.detectors.bands import BandKNN
from detect.detectors.distance import KNN, LOF, Mahalanobis, nearest
from detect.detectors.id_classifier import IDClassifier
from detect.detectors.mixture import GMM
from detect.detectors.ocsvm import OneClassSVM
from detect.detectors.subspace import PCAResidual
from detect.scaler import ColumnScaler

VECTOR_DETECTORS = [
    name for name, row in DETECTORS.items() if row.takes == "vectors" and not row.needs_ids
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
        assert "a minimum of 2 is required" in str(error)  # noqa: PT017
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
        ("knn", {"k": 0}, "knn.k is a whole number of 1 or more; got 0"),
        ("knn", {"k": "x"}, "knn.k is a whole number of 1 or more; got 'x'"),
        ("knn", {"k": 2.5}, "knn.k is a whole number of 1 or more; got 2.5"),
        ("knn", {"k": True}, "knn.k is a whole number of 1 or more; got True"),
        ("knn", {"metric": "manhattan"}, "knn.metric is euclidean or cosine; got 'manhattan'"),
        ("gmm", {"rate_by": "all"}, "gmm.rate_by is mixture or nearest; got 'all'"),
        ("ocsvm", {"gamma": -1}, "ocsvm.gamma is scale or auto or a number above 0; got -1"),
        ("ocsvm", {"nu": 2.0}, "ocsvm.nu is a number above 0 and at most 1; got 2.0"),
        ("pca", {"explained": 3}, "pca.explained is a number between 0 and 1; got 3"),
        ("mlp", {"batch_size": 0}, "mlp.batch_size is a whole number of 1 or more; got 0"),
        ("mlp", {"learning_rate": -1.0}, "mlp.learning_rate is a number above 0; got -1.0"),
        ("cnn_svdd", {"skips": "maybe"}, "cnn_svdd.skips is true or false; got 'maybe'"),
        ("fc_ae", {"hidden": 64}, r"fc_ae.hidden is a list in brackets, each a whole"),
        ("fc_ae", {"hidden": (64, 0)}, r"fc_ae.hidden is a list .* of 1 or more; got \(64, 0\)"),
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
    with pytest.raises(ValueError, match=r"^density_k is a whole number of 1 or more; got 0"):
        KNN(density_k=0).fit(rng.normal(size=(10, 4)))


def test_equal_columns_do_not_make_the_covariance_singular(rng):
    X = rng.normal(size=(5000, 1)).repeat(6, axis=1)

    scores = Mahalanobis().fit(X).score_samples(np.stack([X[0], X[0] + np.arange(6)]))

    assert scores[0] > scores[1]


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

        np.testing.assert_allclose(scores**2 / 2, stock, 1e-6)

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


@pytest.mark.parametrize(("over_bands", "expected"), [("mean", 0.25), ("max", 0.5)])
def test_beam_takes_the_nearest_clip_of_each_band(over_bands, expected):
    # band 0 points along the third clip's; band 1 is 60 degrees from the nearest, the third's
    clip = np.array([[[7.0, 7.0], [-np.sqrt(3), -1]]])
    clip[0, 1] = [np.cos(np.pi / 3), -np.sin(np.pi / 3)]
    detector = BandKNN(over_bands=over_bands).fit(BANDS_OF_TRAINING)

    np.testing.assert_allclose(detector.band_distances(clip), [[0.0, 0.5]], atol=1e-12)
    np.testing.assert_allclose(-detector.score_samples(clip), [expected])


@pytest.mark.parametrize("name", DETECTORS)
def test_the_scaler_stands_before_those_that_want_it_unless_there_is_none(name):
    assert [step for step, _ in make_detector(name).steps] == (
        ["scaler", name] if DETECTORS[name].scale else [name]
    )
    assert [step for step, _ in make_detector(name, scaler="none").steps] == [name]


def test_beam_does_not_care_how_loud_a_band_is(rng):
    X, clips = rng.normal(size=(20, 4, 6)), rng.normal(size=(5, 4, 6))
    detector = BandKNN(k=3).fit(X)

    np.testing.assert_allclose(
        detector.score_samples(clips), detector.score_samples(clips * 10), rtol=1e-9
    )


def test_beam_refuses_other_bands_than_it_was_fitted_to():
    with pytest.raises(ValueError, match=r"bands \(3, 2\); \(2, 2\) were fitted"):
        BandKNN().fit(BANDS_OF_TRAINING).score_samples(np.zeros((1, 3, 2)))


@pytest.mark.parametrize("name", [name for name, row in DETECTORS.items() if row.needs_ids])
class TestDetectorsThatTellIDsApart:
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

    def test_one_machine_id_is_refused(self, name, rng):
        with pytest.raises(ValueError, match="needs two or more of a type"):
            make_detector(name).fit(rng.normal(size=(9, 3)), np.array(["id_00"] * 9))

    def test_a_machine_id_that_was_not_fitted_is_refused(self, name, rng):
        with pytest.raises(ValueError, match="id_09 is none of the machine IDs fitted: id_00"):
            anomaly_scores(self.fitted(name, rng), np.zeros((1, 6)), ["id_09"])


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
