"""What autoencoders rebuild of a clip, and where the error is named."""

import numpy as np
import pytest

from detect import DETECTORS, facts_of, make_detector
from detect.detector import anomaly_scores, last_step
from detect.reconstruction import Reconstruction, reconstruct, worst_rebuilt

RECONSTRUCTING = [name for name in DETECTORS if facts_of(name).reconstructs]
SMALL = {
    "mel_mlp_ae": {"hidden": (8,)},
    "fc_ae": {"hidden": (8,)},
    "fc_vae": {"hidden": (8,)},
    "resnet50_cnn": {"weights": "random", "widths": (8, 8, 8, 8, 8)},
    "lstm_predictor": {"hidden": 8},
    "gru_ae": {"hidden": 8},
    "lstm_ae": {"hidden": 8, "mlp": 8},
    "cnn_svdd": {"widths": (4, 8, 8, 8)},
    "cnn_svdd_l2": {"widths": (4, 8, 8, 8)},
    "conv_ae": {"widths": (4, 8)},
    "mel_conv_ae": {"widths": (4, 8)},
    "conv_vae": {"widths": (4, 8)},
}
NOT_THEIR_MEAN_ERROR = {"official_mahalanobis", "gru_ae"}
"""Their scores whiten the errors, or are a mean over overlapping windows before these are joined"""
LOW = np.arange(40) * 200.0
STEP = 0.1


def normals(n=8, n_frames=24, dim=16):
    return -40 + np.random.default_rng(0).normal(size=(n, n_frames, dim)).astype(np.float32)


@pytest.mark.parametrize("name", RECONSTRUCTING)
def test_a_detector_that_reconstructs_shows_what_its_score_is_made_of(name):
    clips = normals() if facts_of(name).takes == "sequences" else normals()[:, 0].astype(float)
    detector = make_detector(name, epochs=1, **SMALL.get(name, {})).fit(clips)

    shown = reconstruct(detector, clips[0])

    frames = np.atleast_2d(clips[0])
    np.testing.assert_array_equal(shown.given, frames)
    assert shown.rebuilt.shape == shown.error.shape == frames.shape
    assert shown.normal_error.shape == (16,)
    assert np.abs(np.nanmean(shown.rebuilt) + 40) < 5, "it is in the units of the clip"
    if name not in NOT_THEIR_MEAN_ERROR and "frames_vae" not in name and name != "official_ae":
        score = anomaly_scores(detector, clips[:1])[0]
        assert np.nanmean(shown.error) == pytest.approx(score, rel=1e-3)


def test_an_image_from_the_centre_leaves_the_frames_beside_it_open():
    detector = make_detector("fc_ae", epochs=1, hidden=(4,), n_frames=10, start="centre")
    clips = normals(4)

    shown = reconstruct(detector.fit(clips), clips[0])

    seen = ~np.isnan(shown.rebuilt).any(axis=1)
    assert np.flatnonzero(seen).tolist() == list(range(7, 17))


@pytest.mark.parametrize("old", [True, False])
def test_nothing_is_shown_of_other_detectors_and_of_earlier_models(old):
    clips = normals()[:, 0]
    detector = make_detector("mlp" if old else "knn", **({"epochs": 1} if old else {})).fit(clips)
    if old:
        del last_step(detector).normal_error_

    assert reconstruct(detector, clips[0]) is None


def wrong_at(frames, bands, n_frames=50):
    error = np.ones((n_frames, 40))
    error[frames, bands] = 10.0
    given = np.zeros((n_frames, 40))
    return Reconstruction(given, given, error, np.ones(40))


def test_the_band_and_the_moment_of_the_error_are_named():
    worst = worst_rebuilt(wrong_at(slice(20, 30), slice(10, 14)), LOW, LOW + 200, STEP)

    assert (worst.low_hz, worst.high_hz) == (2000.0, 2800.0)
    assert worst.start_s == pytest.approx(1.95)
    assert worst.end_s == pytest.approx(2.95)
    assert worst.ratio == pytest.approx(10.0)


def test_an_error_throughout_has_no_moment_and_a_vector_has_no_time():
    throughout = worst_rebuilt(wrong_at(slice(None), slice(3, 6)), LOW, LOW + 200, STEP)
    vector = worst_rebuilt(wrong_at(slice(None), slice(3, 6), 1), LOW, LOW + 200)

    assert throughout.start_s is vector.start_s is None
    assert throughout.low_hz == vector.low_hz == 600.0


def test_numbers_without_a_band_are_not_named():
    low = np.concatenate([LOW[:20], np.full(20, np.nan)])

    worst = worst_rebuilt(wrong_at(slice(None), slice(18, 40)), low, low + 200, STEP)

    assert worst.high_hz == 4000.0


def test_a_clip_that_is_rebuilt_as_well_as_normal_ones_has_no_worst_place():
    assert worst_rebuilt(wrong_at(slice(0), slice(0)), LOW, LOW + 200, STEP) is None
