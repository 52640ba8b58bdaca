"""Blocks of samples are checked, reduced to one channel and resampled."""

import librosa
import numpy as np
import pytest
import soundfile
from sounds import RATE, load, noise

from embed.recordings.dataset import ClipError


@pytest.mark.parametrize("rate", [16_000, 32_000, 22_050, 8_000])
@pytest.mark.parametrize("own_rate", [16_000, 44_100, 48_000, 11_025])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "PCM_U8"])
def test_a_waveform_equals_librosas_to_the_last_bit(rate, own_rate, subtype, tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(9_973), own_rate, subtype)

    waveform = load(path, rate).waveform
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(waveform, librosa.load(path, sr=rate)[0])


@pytest.mark.parametrize("n_channels", range(1, 9))
def test_the_first_channel_any_other_or_their_mean_is_taken(n_channels, tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(4_000, n_channels), RATE)
    channels, _ = librosa.load(path, sr=RATE, mono=False)
    channels = np.atleast_2d(channels)

    np.testing.assert_array_equal(load(path).waveform, channels[0])
    last = load(path, channel=n_channels - 1).waveform
    np.testing.assert_array_equal(last, channels[-1])
    assert last.flags.c_contiguous
    mean = load(path, channel="mean").waveform
    np.testing.assert_array_equal(mean, librosa.load(path, sr=RATE, mono=True)[0])


def test_a_channel_that_is_not_there_is_refused(wav):
    with pytest.raises(ClipError, match=r"has 1 channel\(s\), counted from 0; there is no 1"):
        load(wav, channel=1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers_are_located(value, tmp_path):
    samples = noise()
    samples[[4_000, 9_000]] = value
    soundfile.write(tmp_path / "clip.wav", samples, RATE, "FLOAT")

    with pytest.raises(ClipError, match=r"samples are NaN or infinite, first at 0\.250 s"):
        load(tmp_path / "clip.wav")


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_samples_on_the_scale_of_integers_are_refused(subtype, tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise() * 32768, RATE, subtype)

    with pytest.raises(ClipError, match=r"float samples up to \d+.*divide them by 32768"):
        load(path)


def test_float_samples_a_little_over_full_scale_are_read_unclipped(tmp_path):
    samples = noise()
    samples[7] = 1.75
    soundfile.write(tmp_path / "clip.wav", samples, RATE, "FLOAT")

    np.testing.assert_array_equal(load(tmp_path / "clip.wav").waveform, samples)
