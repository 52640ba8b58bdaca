"""Filters and power in bands equal librosa's and a plain product."""

import librosa
import numpy as np
import pytest

from embed.encoders.band_power import BandFilters, BandPower, hann, mel_filters


@pytest.mark.parametrize(
    ("sample_rate", "n_fft", "n_mels", "fmin", "fmax"),
    [
        (16_000, 1024, 128, 0.0, 8000.0),
        (16_000, 512, 64, 125.0, 7500.0),
        (32_000, 1024, 64, 50.0, 14_000.0),
        (44_100, 2048, 256, 0.0, 22_050.0),
        (16_000, 256, 128, 0.0, 8000.0),  # some bands hold no bin
    ],
)
@pytest.mark.filterwarnings("ignore:Empty filters")
def test_mel_filters_are_those_of_librosa(sample_rate, n_fft, n_mels, fmin, fmax):
    theirs = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax)

    ours = mel_filters(sample_rate, n_fft, n_mels, fmin, fmax)

    np.testing.assert_allclose(ours.T, theirs, rtol=0, atol=1e-7 * theirs.max())


def test_filters_are_applied_as_one_product(rng):
    matrix = mel_filters(16_000, 256, 128, 0.0, 8000.0)
    power = rng.random((7, 129)).astype(np.float32)
    out = np.full((7, 128), np.nan, np.float32)

    BandFilters(matrix).apply(power, out=out)

    np.testing.assert_allclose(out, power @ matrix, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("length", [1024, 400])
def test_the_window_is_that_of_librosa(length):
    theirs = librosa.util.pad_center(librosa.filters.get_window("hann", length), size=1024)

    np.testing.assert_allclose(hann(length, 1024), theirs, atol=1e-7)


@pytest.mark.filterwarnings("ignore:n_fft=1024 is too large")
@pytest.mark.parametrize("n_samples", [1, 511, 512, 1024, 33_000])
def test_frames_are_centred_and_counted_as_by_librosa(rng, n_samples):
    waveform = rng.normal(0, 0.1, n_samples).astype(np.float32)
    identity = BandFilters(np.eye(513))
    stft = librosa.stft(
        waveform.astype(np.float64),
        n_fft=1024,
        hop_length=512,
        pad_mode="constant",
        dtype=np.complex128,
    )

    decibels = BandPower(hann(1024, 1024), 512, identity)(waveform)

    expected = np.abs(stft.T) ** 2 + 1e-10
    assert decibels.shape == expected.shape
    np.testing.assert_allclose(10 ** (decibels / 10), expected, atol=1e-6 * expected.max())
