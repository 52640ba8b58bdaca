"""A fitted detector comes back from disk as it was, and nothing in its file can run."""

import argparse
import pickle
import zipfile

import numpy as np
import pytest
from fitted_units import SHAPES, Embeddings, quick, table
from safetensors.numpy import save_file

from detect import DETECTORS
from detect.detector import anomaly_scores
from detect.detectors.autoencoder import Autoencoder
from detect.fitting import fit, read_for, units
from detect.saving import load_detector, save_detector


def rated(name, detector, unit, read):
    X = read_for(name, unit.test_keys, read)
    ids = unit.test_ids if DETECTORS[name].needs_ids else None
    return anomaly_scores(detector, X, ids)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_loaded_detector_rates_as_the_saved_one(name, tmp_path):
    choice, row = quick(name)
    read = Embeddings(SHAPES[row.takes])
    unit = units(table(), "type" if row.needs_ids else "id")[0]
    detector = fit(unit, read, choice)
    before = rated(name, detector, unit, read)

    save_detector(detector, tmp_path / "one")
    loaded = load_detector(tmp_path / "one")

    np.testing.assert_allclose(rated(name, loaded, unit, read), before, rtol=1e-6)
    np.testing.assert_array_equal(rated(name, detector, unit, read), before)


def test_a_detector_without_a_scaler_is_saved_too(tmp_path):
    from sklearn.ensemble import IsolationForest

    X = np.random.default_rng(0).normal(size=(50, 3))
    forest = IsolationForest(random_state=0).fit(X)

    save_detector(forest, tmp_path / "forest")

    loaded = load_detector(tmp_path / "forest")
    np.testing.assert_array_equal(loaded.score_samples(X), forest.score_samples(X))


def test_a_type_from_elsewhere_is_refused(tmp_path):
    from skops import io

    io.dump({"a": argparse.Namespace(a=1)}, tmp_path / "foreign.skops")

    with pytest.raises(ValueError, match=r"no detector of ours: it holds argparse\.Namespace"):
        load_detector(tmp_path / "foreign")


def test_no_function_is_called_by_opening_a_file(tmp_path):
    from skops import io

    detector = Autoencoder(network=eval)  # a network of the fitted shape is network(n_features_in_)
    detector.n_features_in_ = f"open({str(tmp_path / 'ran')!r}, 'w')"
    io.dump(detector, tmp_path / "evil.skops")
    save_file({"network_/weight": np.zeros(1)}, tmp_path / "evil.safetensors")

    with pytest.raises(ValueError, match=r"no detector of ours: it holds builtins\.eval"):
        load_detector(tmp_path / "evil")
    assert not (tmp_path / "ran").exists()


def test_a_pickle_is_not_opened(tmp_path):
    (tmp_path / "evil.skops").write_bytes(pickle.dumps({"a": 1}))

    with pytest.raises(zipfile.BadZipFile):
        load_detector(tmp_path / "evil")
