"""The 120 numbers of `spectrum` equal their formulas in plain numpy."""

import numpy as np
import pytest
import soundfile
from auto_reference import spectrum, triangles

from embed import make_encoder, make_pooling
from embed.encoders.spectrum import logarithmic_filters

CLIP = [make_pooling("clip")]


def assert_like_the_reference(waveforms: np.ndarray) -> None:
    expected = np.stack([spectrum(waveform) for waveform in waveforms])

    (vectors,) = make_encoder("spectrum").encode(waveforms, CLIP)

    assert vectors.shape == (len(waveforms), 120)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-5)


def test_filters_are_the_triangles_of_the_recipe():
    filters = logarithmic_filters()

    np.testing.assert_allclose(filters, triangles().T, atol=1e-12)
    np.testing.assert_allclose(filters.sum(axis=0), 1)


@pytest.mark.parametrize("n_samples", [2048, 16_001, 160_000])
def test_noise_equals_the_reference(rng, n_samples):
    assert_like_the_reference(rng.normal(0, 0.1, (2, n_samples)).astype(np.float32))


def test_recordings_equal_the_reference(shared_data):
    clips = sorted((shared_data / "mimii_fan").glob("fan/test/*.wav"))[::9]

    assert_like_the_reference(
        np.stack([soundfile.read(clip, dtype="float32")[0] for clip in clips])
    )


def test_silence_is_at_the_floor():
    (vectors,) = make_encoder("spectrum").encode(np.zeros((1, 16_000), np.float32), CLIP)

    np.testing.assert_allclose(vectors[0, :96], -100, rtol=1e-6)
    np.testing.assert_allclose(vectors[0, 96:], np.log(0.1), rtol=1e-6)


def test_frames_cannot_be_had():
    assert "no 'frames' output" in make_encoder("spectrum").why_not(make_pooling("mean"))
