"""What is done to a waveform is what the documentation says."""

import librosa
import numpy as np
import pytest
import soundfile
from sounds import RATE, load, noise

from embed.recordings.dataset import ClipError
from embed.recordings.preprocessing import Preprocessing


def test_a_short_clip_is_refused_padded_or_repeated(tmp_path):
    path = tmp_path / "clip.wav"
    samples = noise(800)
    soundfile.write(path, samples, RATE, "FLOAT")

    with pytest.raises(ClipError, match=r"^0\.050 s long, the encoder needs 0\.125 s; --short pad"):
        load(path, min_samples=2_000)
    padded = load(path, min_samples=2_000, short="pad")
    np.testing.assert_array_equal(padded.waveform, np.concatenate([samples, np.zeros(1_200)]))
    assert padded.note == "padded by 0.075 s of zeros"
    repeated = load(path, min_samples=2_000, short="repeat")
    np.testing.assert_array_equal(repeated.waveform, np.concatenate([samples] * 3)[:2_000])
    assert repeated.note == "repeated from 0.050 s to 0.125 s"
    assert load(path, min_samples=800, short="pad").note == ""


def test_the_level_is_set_before_a_short_clip_is_padded(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(800), RATE)
    waveform = load(path, min_samples=RATE, short="pad", normalize="rms").waveform

    assert np.sqrt(np.mean(waveform[:800] ** 2)) == pytest.approx(0.05, rel=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.25])
@pytest.mark.parametrize("normalize", ["none", "rms", "peak"])
@pytest.mark.parametrize("trim", [False, True])
@pytest.mark.parametrize("denoise", [False, True])
def test_silence_and_constants_are_recordings(value, normalize, trim, denoise, tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.full(RATE, value), RATE, "FLOAT")
    waveform = load(path, normalize=normalize, trim=trim, denoise=denoise).waveform

    assert waveform.shape == (RATE,)
    assert np.isfinite(waveform).all()
    if not value:
        assert not waveform.any()


def test_rms_and_peak_are_as_defined(tmp_path):
    path = tmp_path / "clip.wav"
    samples = noise()
    soundfile.write(path, samples, RATE, "FLOAT")
    exact = samples.astype(np.float64)

    level = 0.05 / np.sqrt(np.mean(exact**2) + 1e-12)
    np.testing.assert_allclose(load(path, normalize="rms").waveform, exact * level, rtol=1e-6)
    peak = load(path, normalize="peak").waveform
    np.testing.assert_allclose(peak, exact / np.abs(exact).max(), rtol=1e-6)
    assert np.abs(peak).max() == 1.0


def test_rms_is_not_clipped(tmp_path):
    samples = np.zeros(RATE)
    samples[100] = 0.5
    soundfile.write(tmp_path / "clip.wav", samples, RATE)

    assert load(tmp_path / "clip.wav", normalize="rms").waveform.max() > 6.0


def test_a_quiet_beginning_and_end_are_trimmed(tmp_path):
    path = tmp_path / "clip.wav"
    samples = noise(3 * RATE)
    samples[:RATE] *= 1e-3
    samples[2 * RATE :] *= 1e-3
    soundfile.write(path, samples, RATE, "FLOAT")

    waveform = load(path, trim=True).waveform
    np.testing.assert_array_equal(waveform, librosa.effects.trim(samples, top_db=40)[0])
    assert RATE <= len(waveform) < 1.2 * RATE


def test_denoising_removes_the_steady_and_keeps_the_passing(tmp_path):
    path = tmp_path / "clip.wav"
    t = np.arange(2 * RATE) / RATE
    hum = 0.2 * np.sin(2 * np.pi * 200 * t)
    knock = 0.2 * np.sin(2 * np.pi * 3_000 * t) * ((t > 1.0) & (t < 1.1))
    soundfile.write(path, hum + knock, RATE, "FLOAT")

    spectrum = np.abs(np.fft.rfft(load(path, denoise=True).waveform))
    before = np.abs(np.fft.rfft(hum + knock))
    assert spectrum[400] < 0.05 * before[400]
    assert spectrum[6_000] > 0.9 * before[6_000]


def test_denoising_is_as_defined(tmp_path):
    path = tmp_path / "clip.wav"
    samples = noise(2 * RATE)
    soundfile.write(path, samples, RATE, "FLOAT")

    spectrum = librosa.stft(samples, n_fft=1024, hop_length=256)
    left = np.abs(spectrum) - np.median(np.abs(spectrum), axis=1, keepdims=True)
    expected = librosa.istft(
        np.maximum(left, 0) * np.exp(1j * np.angle(spectrum)), hop_length=256, length=len(samples)
    )
    np.testing.assert_allclose(load(path, denoise=True).waveform, expected, atol=1e-6)


def test_the_steps_come_in_the_documented_order(tmp_path):
    path = tmp_path / "clip.wav"
    samples = noise(2 * RATE)
    samples[:RATE] *= 1e-3
    soundfile.write(path, samples, RATE, "FLOAT")
    waveform = load(path, trim=True, denoise=True, normalize="rms").waveform

    assert RATE <= len(waveform) < 1.2 * RATE
    assert np.sqrt(np.mean(waveform**2)) == pytest.approx(0.05, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize": "loud"}, "normalize should be 'none', 'rms' or 'peak'; got 'loud'"),
        ({"short": "stretch"}, "short should be 'error', 'pad' or 'repeat'; got 'stretch'"),
        ({"channel": -1}, "channel should be greater than or equal to 0 or 'mean'.*; got -1"),
        ({"channel": "left"}, "channel should be a valid integer or 'mean'.* or 'w1'; got 'left'"),
    ],
)
def test_unknown_preprocessing_names_the_choices(options, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**options)
