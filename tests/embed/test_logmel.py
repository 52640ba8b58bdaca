"""The log-mel of numpy equals librosa's and that of torch, and needs neither."""

import subprocess
import sys
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from embed import make_encoder, make_pooling

FRAMES = make_pooling("frames")
ROOT = Path(__file__).resolve().parents[2]


def sounds(n_samples: int) -> dict[str, np.ndarray]:
    t = np.arange(n_samples) / 16_000
    noise = np.random.default_rng(0).normal(0, 0.1, n_samples)
    return {
        "noise": noise,
        "a tone": 0.5 * np.sin(2 * np.pi * 440 * t),
        "a full-scale square wave": np.sign(np.sin(2 * np.pi * 100 * t)),
        "silence": np.zeros(n_samples),
        "a constant": np.full(n_samples, 0.3),
    }


@pytest.mark.parametrize("n_samples", [1024, 16_000, 16_001, 160_000])
def test_log_mel_equals_librosa(n_samples):
    waveforms = np.stack(list(sounds(n_samples).values())).astype(np.float32)

    ours = make_encoder("logmel").encode(waveforms, [FRAMES])[0]

    for name, waveform, got in zip(sounds(n_samples), waveforms, ours, strict=True):
        power = librosa.feature.melspectrogram(
            y=waveform.astype(np.float64), sr=16_000, n_fft=1024, hop_length=512, n_mels=128
        )
        # relative in power: at -100 dB the floor hides what single precision cannot know
        got_power, want_power = 10 ** (got.T / 10), power + 1e-10
        worst = np.abs(got_power - want_power).max() / want_power.max()
        assert worst < 3e-6, name
    expected = 10 * np.log10(power + 1e-10)
    assert expected.shape == got.T.shape


def test_log_mel_in_db_equals_librosa_on_noise(rng):
    waveform = rng.normal(0, 0.1, 160_000).astype(np.float32)

    ours = make_encoder("logmel").encode(waveform[None], [FRAMES])[0][0]

    power = librosa.feature.melspectrogram(y=waveform, sr=16_000, n_fft=1024, n_mels=128)
    np.testing.assert_allclose(ours.T, 10 * np.log10(power + 1e-10), atol=1e-3)


def test_mfcc_equals_librosa_on_noise(rng):
    waveform = rng.normal(0, 0.1, 32_000).astype(np.float32)

    ours = make_encoder("mfcc").encode(waveform[None], [FRAMES])[0][0]

    power = librosa.feature.melspectrogram(y=waveform, sr=16_000, n_fft=1024, n_mels=128)
    expected = librosa.feature.mfcc(S=10 * np.log10(power + 1e-10), n_mfcc=40)
    np.testing.assert_allclose(ours.T, expected, atol=2e-3)


def test_a_long_recording_in_pieces_equals_the_whole(rng, monkeypatch):
    waveform = rng.normal(0, 0.1, (1, 50_000)).astype(np.float32)
    whole = make_encoder("logmel").encode(waveform, [FRAMES])[0]

    monkeypatch.setattr("embed.encoders.band_power.FRAMES_AT_ONCE", 7)
    pieces = make_encoder("logmel").encode(waveform, [FRAMES])[0]

    np.testing.assert_allclose(pieces, whole, rtol=1e-6, atol=1e-4)


def test_the_settings_of_the_reports_are_options(rng):
    narrow = make_encoder("logmel", win_length=512, hop_length=160, n_mels=64, n_fft=512)

    frames = narrow.encode(rng.normal(size=(1, 16_000)), [FRAMES])[0]

    assert frames.shape == (1, 101, 64)


def test_options_that_cannot_be_meant_are_refused():
    with pytest.raises(ValueError, match=r"no option 'hop'; it has .*hop_length"):
        make_encoder("logmel", hop=160)
    with pytest.raises(ValueError, match="at most n_fft"):
        make_encoder("logmel", win_length=2048)
    with pytest.raises(ValueError, match="below fmax"):
        make_encoder("logmel", fmin=4000.0, fmax=2000.0)
    with pytest.raises(ValueError, match=r"logmel.n_mels .*greater than or equal to 1; got 0"):
        make_encoder("logmel", n_mels=0)


def test_fluctuation_needs_a_multiple_of_64_bands_in_db():
    fluctuation = make_pooling("fluctuation")

    assert make_encoder("logmel").why_not(fluctuation) == ""
    assert "multiple of 64, got 80" in make_encoder("logmel", n_mels=80).why_not(fluctuation)
    assert "cepstral" in make_encoder("mfcc", n_mfcc=64).why_not(fluctuation)


def torch_log_mel(waveforms: np.ndarray) -> np.ndarray:
    """Compute log-mel as versions that took torch did: their caches stay valid."""
    spectrum = torch.stft(
        torch.from_numpy(waveforms),
        1024,
        hop_length=512,
        window=torch.hann_window(1024),
        pad_mode="constant",
        return_complex=True,
    )
    filters = torch.from_numpy(librosa.filters.mel(sr=16_000, n_fft=1024, n_mels=128).T.copy())
    return (10 * (spectrum.abs().square().transpose(1, 2) @ filters + 1e-10).log10()).numpy()


def test_the_numbers_are_those_of_the_torch_front_end(rng):
    waveforms = rng.normal(0, 0.1, (2, 160_000)).astype(np.float32)

    ours = make_encoder("logmel").encode(waveforms, [FRAMES])[0]

    np.testing.assert_allclose(ours, torch_log_mel(waveforms), atol=1e-4, rtol=0)


def test_the_numbers_are_those_of_the_torch_front_end_on_recordings(shared_data):
    clips = sorted((shared_data / "mimii_fan").glob("fan/test/*.wav"))[::7]
    waveforms = np.stack([librosa.load(clip, sr=16_000)[0] for clip in clips])

    ours = make_encoder("logmel").encode(waveforms, [FRAMES])[0]

    np.testing.assert_allclose(ours, torch_log_mel(waveforms), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["logmel", "mfcc", "spectrum", "wave"])
def test_an_encoder_without_a_network_loads_neither_torch_nor_librosa(name):
    code = f"""
import sys
import numpy as np
from embed import make_encoder
encoder = make_encoder({name!r})
encoder.embed(np.random.default_rng(0).normal(size=(2, 16_000)))
print(*sorted({{"torch", "librosa", "numba", "sklearn"}} & set(sys.modules)))
"""

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == ""


def test_a_clip_gets_the_same_vector_alone_and_in_a_batch(rng):
    waveforms = rng.normal(0, 0.1, (5, 20_000)).astype(np.float32)
    encoder, pooling = make_encoder("logmel"), make_pooling("fluctuation")

    (together,) = encoder.encode(waveforms, [pooling])
    alone = [encoder.encode(waveform[None], [pooling])[0][0] for waveform in waveforms]

    np.testing.assert_array_equal(together, alone)


def test_the_default_features_equal_a_librosa_computation_of_the_three_steps(shared_data):
    """On a real recording: log-mel in dB, then level, fluctuation and flux, all by librosa."""
    clip = next((shared_data / "mimii_fan").glob("fan/test/anomaly_*.wav"))
    waveform, _ = librosa.load(clip, sr=16_000)
    power = librosa.feature.melspectrogram(
        y=waveform, sr=16_000, n_fft=1024, hop_length=512, n_mels=128
    ).T.astype(np.float64)
    db = 10 * np.log10(power + 1e-10)  # (n_frames, 128)
    level = 10 * np.log10((power + 1e-10).reshape(-1, 64, 2).mean(axis=2))
    bands = db.reshape(-1, 32, 4).mean(axis=2)
    expected = np.concatenate(
        [
            level.mean(axis=0),
            np.log(bands.std(axis=0) + 0.1),
            np.log(np.diff(bands, axis=0).std(axis=0) + 0.1),
        ]
    )

    ours = make_encoder("logmel").encode(waveform[None], [make_pooling("fluctuation")])[0][0]

    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
