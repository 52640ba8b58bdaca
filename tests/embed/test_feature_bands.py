"""Which frequencies each number of a vector is about: a tone raises the numbers of its band."""

import librosa
import numpy as np
import pytest

from embed import make_encoder, make_pooling
from embed.feature_bands import WAVE_KINDS, feature_bands, mel_bands

VECTORS = [
    ("logmel", "fluctuation"),
    ("logmel", "quiet"),
    ("logmel", "mean"),
    ("spectrum", "clip"),
]


def tone(hz, n=32_000):
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(n) / 16_000)).astype(np.float32)


@pytest.mark.parametrize(("encoder", "pooling"), VECTORS)
@pytest.mark.parametrize("hz", [130.0, 700.0, 2345.0, 6100.0])
def test_a_tone_is_loudest_in_the_band_that_holds_it(encoder, pooling, hz, rng):
    noise = 1e-3 * rng.standard_normal(32_000).astype(np.float32)

    bands = feature_bands(encoder, pooling)
    pooled = make_encoder(encoder).encode((tone(hz) + noise)[None], [make_pooling(pooling)])[0][0]

    assert len(pooled) == len(bands.low_hz) == len(bands.high_hz) == len(bands.kind)
    levels = np.array([kind in ("level", "quiet") for kind in bands.kind])
    loudest = int(np.argmax(np.where(levels, pooled, -np.inf)))
    width = bands.high_hz[loudest] - bands.low_hz[loudest]
    assert bands.low_hz[loudest] - width / 2 <= hz <= bands.high_hz[loudest] + width / 2


def test_a_beating_tone_moves_the_group_that_holds_it(rng):
    t = np.arange(32_000) / 16_000
    noise = 1e-2 * rng.standard_normal(32_000)
    steady = (noise + tone(2345.0)).astype(np.float32)
    beating = (noise + tone(2345.0) * (0.55 + 0.45 * np.sin(2 * np.pi * 3 * t))).astype(np.float32)

    bands = feature_bands("logmel", "fluctuation")
    pooled = make_encoder("logmel").encode(
        np.stack([steady, beating]), [make_pooling("fluctuation")]
    )[0]

    moves = np.array([kind == "fluctuation" for kind in bands.kind])
    most = int(np.argmax(np.where(moves, pooled[1] - pooled[0], -np.inf)))
    assert bands.low_hz[most] <= 2345.0 <= bands.high_hz[most]


def test_bands_are_those_of_the_mel_filters_and_meet():
    edges = mel_bands(n_mels=64, fmin=50.0, fmax=7000.0)
    corners = librosa.mel_frequencies(66, fmin=50.0, fmax=7000.0)

    np.testing.assert_allclose(edges, (corners[:-1] + corners[1:]) / 2, rtol=1e-12)


def test_the_waveform_has_no_band():
    bands = feature_bands("wave", "clip")

    assert bands.kind == WAVE_KINDS
    assert np.isnan(bands.low_hz).all()


@pytest.mark.parametrize(
    ("encoder", "pooling"), [("panns", "clip"), ("mfcc", "mean"), ("mfcc", "frames")]
)
def test_other_vectors_have_no_bands(encoder, pooling):
    assert feature_bands(encoder, pooling) is None


def test_frames_have_the_bands_of_log_mel_and_their_step_in_time():
    bands = feature_bands("logmel", "frames", {"hop_length": 256, "n_mels": 64})

    assert (len(bands.low_hz), bands.frame_seconds) == (64, 256 / 16_000)
