"""Two microphones: which one is heard, and what the far one explains of the near one."""

import io

import numpy as np
import pytest
import soundfile
from machine_halls import FAST
from sounds import RATE, load, noise

from embed.recordings.dataset import ClipError
from embed.recordings.preprocessing import Preprocessing
from embed.recordings.stereo import without_reference
from embed.recordings.streams import RawFormat
from embed.recordings.windows import windows_of, windows_of_stream
from pipeline.checking import check
from pipeline.learning import learn

SECONDS = 4
W1 = Preprocessing(channel="w1")


def hum() -> np.ndarray:
    """Give the harmonics of 100 Hz up to 6 kHz, as rotating machines have them."""
    rng = np.random.default_rng(1)
    time = np.arange(SECONDS * RATE) / RATE
    tones = [np.sin(2 * np.pi * 100 * k * time + rng.uniform(0, 6)) / k for k in range(1, 60)]
    return (0.1 * np.sum(tones, axis=0)).astype(np.float32)


def hiss() -> np.ndarray:
    return noise(SECONDS * RATE, seed=2)


def taps(n: int, delay: int = 0) -> np.ndarray:
    return np.concatenate([np.zeros(delay), np.random.default_rng(n).normal(size=n)])


def attenuation(near: np.ndarray, far: np.ndarray) -> float:
    """Measure in dB how much weaker the near channel becomes, after the common scaling."""
    scaled = near * 0.9 / max(np.abs(near).max(), np.abs(far).max())
    left = without_reference(near, far)
    return float(10 * np.log10(np.mean(scaled**2) / np.mean(left**2)))


@pytest.fixture
def stereo(tmp_path):
    path = tmp_path / "stereo.wav"
    soundfile.write(path, noise(2 * RATE, 2), RATE, "FLOAT")
    return path


@pytest.mark.parametrize(
    ("sound", "leak"),
    [
        (hum, taps(1)),
        (hum, taps(64)),
        (hum, taps(1000)),
        (hum, taps(1, delay=500)),
        (hiss, taps(1)),
        (hiss, taps(32)),
        (hiss, taps(1, delay=60)),
    ],
)
def test_a_reference_that_leaks_through_a_filter_is_attenuated_by_20_db(sound, leak):
    far = sound()
    near = np.convolve(far, leak)[: len(far)].astype(np.float32)

    assert attenuation(near, far) > 20


def test_the_machine_stays_where_only_the_rest_is_heard_by_both():
    machine, rest = hum(), hiss()
    near = (machine + np.convolve(rest, taps(16))[: len(rest)]).astype(np.float32)

    left = without_reference(near, rest)

    gain = 0.9 / max(np.abs(near).max(), np.abs(rest).max())
    assert np.mean((left - gain * machine) ** 2) < 0.01 * np.mean((gain * machine) ** 2)


def test_the_filter_is_the_documented_one_at_every_frequency():
    near, far = noise(RATE, seed=3), noise(RATE, seed=4)
    gain = 0.9 / max(np.abs(near).max(), np.abs(far).max())
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)

    def spectra(samples):
        padded = np.pad(samples * gain, 512)
        frames = np.lib.stride_tricks.sliding_window_view(padded, 1024)[::512]
        return np.fft.rfft(frames * window, axis=1)

    c, f = spectra(near.astype(np.float64)), spectra(far.astype(np.float64))
    h = np.sum(c * f.conj(), axis=0) / (np.sum(np.abs(f) ** 2, axis=0) + 1e-12)
    residual = np.fft.irfft(c - h * f, axis=1) * window
    expected, weight = np.zeros(RATE + 1024), np.zeros(RATE + 1024)
    for i, frame in enumerate(residual):
        expected[i * 512 : i * 512 + 1024] += frame
        weight[i * 512 : i * 512 + 1024] += window**2

    inner = slice(512, 512 + RATE - 1024)
    found = without_reference(near, far)[: RATE - 1024]
    np.testing.assert_allclose(found, expected[inner] / weight[inner], atol=1e-6)


@pytest.mark.parametrize("n_samples", [1, 700, RATE])
def test_silence_and_identical_channels_give_finite_silence(n_samples):
    silence, sound = np.zeros(n_samples, np.float32), noise(n_samples + 1)[:n_samples]

    for near, far in ((silence, silence), (silence, sound), (sound, sound)):
        left = without_reference(near, far)
        assert left.shape == (n_samples,)
        assert np.abs(left).max(initial=0.0) < 1e-6
    assert np.isfinite(without_reference(sound, silence)).all()


def test_near_and_far_are_channels_0_and_1_to_the_last_bit_and_by_fingerprint(stereo):
    for name, number in (("near", 0), ("far", 1)):
        named, numbered = load(stereo, 22_050, channel=name), load(stereo, 22_050, channel=number)
        np.testing.assert_array_equal(named.waveform, numbered.waveform)
        assert Preprocessing(channel=name) == Preprocessing(channel=number)
    assert len({Preprocessing(channel=c) for c in (0, 1, "mean", "mix", "w1")}) == 5


def test_mix_is_the_mean_of_the_first_two_channels(tmp_path):
    path = tmp_path / "three.wav"
    soundfile.write(path, noise(RATE, 3), RATE, "FLOAT")
    samples = noise(RATE, 3)

    mixed = load(path, channel="mix").waveform
    np.testing.assert_allclose(mixed, samples[:, :2].mean(axis=1), atol=1e-7)


def test_w1_comes_after_resampling_and_before_the_other_steps(stereo):
    near, far = (load(stereo, 22_050, channel=c).waveform for c in ("near", "far"))

    np.testing.assert_array_equal(
        load(stereo, 22_050, channel="w1").waveform, without_reference(near, far)
    )
    level = load(stereo, 22_050, channel="w1", normalize="rms").waveform
    assert np.sqrt(np.mean(level**2)) == pytest.approx(0.05, rel=1e-4)


@pytest.mark.parametrize("rate", [RATE, 22_050])
def test_each_window_is_subtracted_by_itself(stereo, rate):
    near, far = (load(stereo, rate, channel=c).waveform for c in ("near", "far"))

    windows = [*windows_of(stereo, rate, 0.5, 0.4, W1)]

    assert len(windows) == 5
    for window in windows:
        part = slice(round(window.start_s * rate), round(window.end_s * rate))
        np.testing.assert_array_equal(window.waveform, without_reference(near[part], far[part]))


@pytest.mark.parametrize("channel", ["mix", "w1"])
def test_a_mono_recording_is_refused_in_one_line(channel, wav):
    with pytest.raises(ClipError, match=f"is mono, and --channel {channel} needs") as caught:
        load(wav, channel=channel)
    with pytest.raises(ClipError, match="is mono"):
        next(windows_of(wav, RATE, 0.5, 0.5, Preprocessing(channel=channel)))

    assert "\n" not in str(caught.value)


def test_damage_in_either_channel_is_found_where_it_is(tmp_path):
    samples = noise(RATE, 2)
    samples[8_000, 1] = np.nan
    soundfile.write(tmp_path / "clip.wav", samples, RATE, "FLOAT")

    with pytest.raises(ClipError, match=r"NaN or infinite, first at 0\.500 s"):
        load(tmp_path / "clip.wav", channel="w1")
    load(tmp_path / "clip.wav", channel="near")


@pytest.fixture(scope="module")
def hall(tmp_path_factory):
    """Write 14 stereo recordings of a machine, two of them to be judged, and a mono one."""
    root, machine, rest = tmp_path_factory.mktemp("hall"), hum()[:RATE], noise(RATE * 16, seed=5)
    (root / "hall" / "press").mkdir(parents=True)
    for i in range(14):
        far = rest[i * RATE : (i + 1) * RATE]
        near = machine + far * (1 + i % 3)
        folder = root / "hall" / "press" if i < 12 else root
        soundfile.write(folder / f"{i}.wav", np.stack([near, far], axis=1) / 2, RATE)
    soundfile.write(root / "mono.wav", machine, RATE)
    return root


@pytest.mark.parametrize("windows", [{}, {"window": 0.5}], ids=["whole clips", "windows"])
def test_a_model_hears_new_recordings_by_its_own_channel_and_names_the_mono_one(
    windows, hall, tmp_path
):
    options = {**FAST, "quiet": True, "cache_dir": tmp_path, **windows}
    learn(hall / "hall", model=tmp_path / "model", channel="w1", **options)

    stereo, mono = (
        check(hall / name, model=tmp_path / "model").rows for name in ("12.wav", "mono.wav")
    )

    assert {row.verdict for row in stereo} == {"normal"}
    assert len(stereo) == (3 if windows else 1)
    assert [row.verdict for row in mono] == ["unknown"]
    assert "is mono, and --channel w1 needs" in mono[0].reason


def test_a_stream_of_two_channels_is_heard_as_the_file_is(stereo):
    content = (load(stereo, channel="near").waveform, load(stereo, channel="far").waveform)
    raw = io.BytesIO(np.stack(content, axis=1).astype("<f4").tobytes())

    streamed = windows_of_stream(raw, RawFormat(RATE, "f32le", 2), RATE, 0.5, 0.4, W1)

    for window, of_file in zip(streamed, windows_of(stereo, RATE, 0.5, 0.4, W1), strict=True):
        np.testing.assert_array_equal(window.waveform, of_file.waveform)
