"""The four numbers of `wave` equal their formulas in plain numpy, and mean what they say."""

import numpy as np
import pytest
import soundfile
from auto_reference import wave

from embed import make_encoder, make_pooling

CLIP = [make_pooling("clip")]


def numbers(*waveforms: np.ndarray) -> np.ndarray:
    return make_encoder("wave").encode(np.stack(waveforms).astype(np.float32), CLIP)[0]


@pytest.mark.parametrize("n_samples", [2, 3, 160_000])
def test_noise_equals_the_reference(rng, n_samples):
    waveforms = rng.normal(0.1, 0.1, (3, n_samples)).astype(np.float32)

    vectors = numbers(*waveforms)

    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [wave(w) for w in waveforms], rtol=1e-5, atol=1e-5)


def test_recordings_equal_the_reference(shared_data):
    clips = sorted((shared_data / "mimii_fan").glob("fan/test/*.wav"))
    waveforms = [soundfile.read(clip, dtype="float32")[0] for clip in clips]

    vectors = numbers(*waveforms)

    np.testing.assert_allclose(vectors, [wave(w) for w in waveforms], rtol=1e-5, atol=1e-5)


def test_ten_times_louder_is_20_db_and_nothing_else(rng):
    soft = rng.normal(0, 0.01, 16_000)

    difference = np.subtract(*numbers(10 * soft, soft))

    np.testing.assert_allclose(difference, [20, 0, 0, 0], atol=1e-3)


def test_clicks_are_peaked_and_a_low_tone_is_dull(rng):
    noise = rng.normal(0, 0.1, 16_000)
    clicks = noise.copy()
    clicks[::1000] += 3
    tone = np.sin(2 * np.pi * 50 * np.arange(16_000) / 16_000)

    of_noise, of_clicks, of_tone = numbers(noise, clicks, tone)

    assert of_clicks[1] > of_noise[1] + 1
    assert of_tone[3] < of_noise[3] - 20


def test_silence_and_a_constant_are_finite():
    vectors = numbers(np.zeros(100), np.full(100, 0.3))

    assert np.isfinite(vectors).all()
