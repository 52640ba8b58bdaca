"""A detector that lies on disk answers what results ask of the one that was fitted."""

import numpy as np
import pytest

from detect import make_detector
from detect.detector import last_step, warning_of
from detect.kept_detector import KeptDetector
from detect.results import why_equal
from detect.saving import keep_detector, load_detector, save_detector


@pytest.fixture
def X(rng):
    return rng.normal(size=(20, 3))


@pytest.mark.parametrize(("column", "said"), [(1.0, ""), (1e14, "beside which others vanish")])
@pytest.mark.parametrize("name", ["ocsvm", "mahalanobis"])
def test_it_answers_as_the_fitted_one(name, column, said, X, tmp_path):
    detector = make_detector(name).fit(X * [1, 1, column])

    kept = keep_detector(detector, tmp_path / "one")

    assert why_equal(kept) == why_equal(detector)
    assert said in why_equal(kept)
    assert warning_of(kept) == warning_of(detector)
    boundary = getattr(last_step(detector), "offset_", None)
    assert last_step(kept).offset_ == boundary


def test_its_files_become_those_of_several_models(X, tmp_path):
    detector = make_detector("mlp", epochs=1).fit(X)
    kept = keep_detector(detector, tmp_path / "spool" / "one")

    for model in ("a", "b"):
        files = save_detector(kept, tmp_path / model / "0")

        assert [file.name for file in files] == ["0.skops", "0.safetensors"]
        loaded = load_detector(tmp_path / model / "0")
        np.testing.assert_allclose(loaded.score_samples(X), detector.score_samples(X), rtol=1e-6)


def test_a_file_system_without_second_names_gets_copies(X, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    kept = keep_detector(make_detector("knn").fit(X), tmp_path / "one")
    monkeypatch.setattr("os.link", refuse)

    (file,) = save_detector(kept, tmp_path / "model" / "0")

    assert file.read_bytes() == (tmp_path / "one.skops").read_bytes()


def test_a_detector_without_a_scaler_has_none(X, tmp_path):
    kept = KeptDetector.of(make_detector("knn", scaler="none").fit(X), tmp_path / "one")

    assert kept.scaler is None
