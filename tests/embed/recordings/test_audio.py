"""How one file becomes a waveform, and what is said of the files that do not."""

import hashlib
import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import librosa
import numpy as np
import pytest
import soundfile

from embed.recordings.audio import (
    LARGEST_BYTES,
    LONGEST_S,
    ClipError,
    Preprocessing,
    Recording,
    load_recording,
)

RATE = 16_000


def load(path: Path, rate: int = RATE, min_samples: int = 1, **options: Any) -> Recording:
    return load_recording(path, rate, min_samples, Preprocessing(**options))


def noise(n_samples: int = RATE, n_channels: int = 1, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(n_samples, n_channels)) * 0.1
    return drawn.astype(np.float32).squeeze()


@pytest.fixture
def wav(tmp_path) -> Path:
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(), RATE)
    return path


class ChangedMeanwhile(type(Path())):  # type: ignore[misc]
    """A path whose file another program changes once its bytes are being read."""

    def open(self, *args: Any, **kwargs: Any) -> BinaryIO:
        change = self.change

        class File(io.BufferedReader):
            def read(self, *args: Any) -> bytes:
                content = super().read(*args)
                change()
                return content

        return File(io.FileIO(self))

    def change(self) -> None:
        with Path(self).open("ab") as another:
            another.write(b"more")


class ReplacedMeanwhile(ChangedMeanwhile):
    def change(self) -> None:
        content = Path(self).read_bytes()
        other = Path(f"{self}.part")
        other.write_bytes(content)
        other.replace(self)


class RemovedMeanwhile(ChangedMeanwhile):
    def change(self) -> None:
        self.unlink()


@pytest.fixture
def forbidden(wav) -> Iterator[Path]:
    """Give a recording that may not be read, also when the tests run as root."""
    wav.chmod(0)
    as_root = os.geteuid() == 0
    if as_root:
        os.seteuid(65534)
    yield wav
    if as_root:
        os.seteuid(0)


@pytest.mark.parametrize("rate", [16_000, 32_000, 22_050, 8_000])
@pytest.mark.parametrize("own_rate", [16_000, 44_100, 48_000, 11_025])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "PCM_U8"])
def test_a_waveform_equals_librosas_to_the_last_bit(rate, own_rate, subtype, tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(9_973), own_rate, subtype)

    waveform = load(path, rate).waveform
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(waveform, librosa.load(path, sr=rate)[0])


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_every_format_is_read_as_librosa_reads_it(ending, tmp_path):
    path = tmp_path / f"clip.{ending}"
    soundfile.write(path, noise(48_000), 48_000)

    np.testing.assert_array_equal(load(path).waveform, librosa.load(path, sr=RATE)[0])


def test_the_real_flac_equals_librosas(shared_data):
    path = shared_data / "golden" / "1272-128104-0000.flac"

    np.testing.assert_array_equal(load(path, 32_000).waveform, librosa.load(path, sr=32_000)[0])


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


def test_a_recording_tells_which_content_it_was_computed_from(wav):
    os.utime(wav, ns=(0, 123_456_789))
    recording = load(wav)

    content = wav.read_bytes()
    assert recording.size == len(content)
    assert recording.mtime_ns == 123_456_789
    assert recording.sha256 == hashlib.sha256(content).hexdigest()
    assert recording.note == ""


def rewrite_data_size(path: Path, size: int) -> None:
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", size)
    path.write_bytes(content)


def test_a_truncated_wav_is_refused(wav):
    os.truncate(wav, 20_000)

    with pytest.raises(ClipError, match=r"truncated: its header tells of 32000 bytes .* 19956 are"):
        load(wav)


def test_a_truncated_wav_with_a_chunk_before_its_samples_is_refused(wav):
    content = wav.read_bytes()
    at = content.index(b"data")
    note = b"LIST" + struct.pack("<I", 5) + b"data!\0"  # odd length, padded, a trap in its text
    wav.write_bytes(content[:at] + note + content[at:-1])

    with pytest.raises(ClipError, match="tells of 32000 bytes of samples, 31999 are there"):
        load(wav)


def test_a_truncated_rf64_is_refused(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(), RATE, format="RF64")
    whole = load(path).waveform
    os.truncate(path, 20_000)

    assert len(whole) == RATE
    with pytest.raises(ClipError, match="truncated: its header tells of 32000 bytes"):
        load(path)


@pytest.mark.parametrize("ending", ["flac", "ogg", "mp3"])
@pytest.mark.parametrize("share", [0.5, 0.97])
def test_a_truncated_compressed_file_is_refused(ending, share, tmp_path):
    path = tmp_path / f"clip.{ending}"
    soundfile.write(path, noise(10 * RATE), RATE)
    os.truncate(path, int(path.stat().st_size * share))

    with pytest.raises(ClipError, match=r"truncated|not a readable recording|damaged"):
        load(path)


def test_an_ogg_file_that_ends_between_two_pages_is_refused(tmp_path):
    path = tmp_path / "clip.ogg"
    soundfile.write(path, noise(10 * RATE), RATE)
    os.truncate(path, path.read_bytes().rindex(b"OggS"))

    with pytest.raises(ClipError, match="truncated: the Ogg page that ends it is missing"):
        load(path)


def test_a_streamed_flac_without_a_length_says_what_to_do(tmp_path):
    path = tmp_path / "clip.flac"
    soundfile.write(path, noise(), RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of STREAMINFO that tell the number of samples
    content[22:26] = bytes(4)
    path.write_bytes(content)

    with pytest.raises(ClipError, match="does not tell how long it is; write it anew"):
        load(path)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0, 0x7FFFFFFF, 0xFFFFFFFF - 36])
def test_a_streamed_wav_without_a_size_is_read_whole(size, wav):
    whole = load(wav).waveform
    rewrite_data_size(wav, size)

    np.testing.assert_array_equal(load(wav).waveform, whole)


@pytest.mark.parametrize("n_bytes", [12, 36, 44])
def test_a_header_without_samples_is_refused(n_bytes, wav):
    os.truncate(wav, n_bytes)

    with pytest.raises(ClipError, match=r"no samples, only a header|not a readable recording"):
        load(wav)


def test_a_recording_of_no_length_is_refused(tmp_path):
    soundfile.write(tmp_path / "clip.wav", np.zeros(0), RATE)

    with pytest.raises(ClipError, match="holds no samples, only a header"):
        load(tmp_path / "clip.wav")


def test_a_chunk_after_no_samples_is_not_taken_for_samples(wav):
    content = wav.read_bytes()
    at = content.index(b"data")
    wav.write_bytes(content[:at] + b"data\0\0\0\0" + b"LIST" + struct.pack("<I", 4) + b"INFO")

    with pytest.raises(ClipError, match="holds no samples, only a header"):
        load(wav)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "clip.wav").touch()

    with pytest.raises(ClipError, match="the file is empty"):
        load(tmp_path / "clip.wav")


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


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_text_renamed_to_a_recording_is_refused(ending, tmp_path):
    path = tmp_path / f"clip.{ending}"
    path.write_text("Dear diary, today the fan was loud.\n" * 50)

    with pytest.raises(ClipError, match=r"not a readable recording: .*begins with b'Dear diary, '"):
        load(path)


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


@pytest.mark.parametrize("another", [ChangedMeanwhile, ReplacedMeanwhile])
def test_a_file_that_changes_while_it_is_read_is_refused(another, wav):
    with pytest.raises(ClipError, match="changed while it was read"):
        load(another(wav))


def test_a_file_that_is_removed_while_it_is_read_is_refused(wav):
    with pytest.raises(ClipError, match="cannot be read: No such file"):
        load(RemovedMeanwhile(wav))


def test_a_file_that_is_gone_or_a_folder_is_refused(tmp_path):
    with pytest.raises(ClipError, match="cannot be read: No such file or directory"):
        load(tmp_path / "gone.wav")
    with pytest.raises(ClipError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_a_file_that_may_not_be_read_is_refused(forbidden):
    with pytest.raises(ClipError, match="cannot be read: Permission denied"):
        load(forbidden)


def test_three_hours_in_one_file_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.zeros(1), RATE)
    n_bytes = 3 * 3600 * RATE * 2
    rewrite_data_size(path, n_bytes)
    os.truncate(path, 44 + n_bytes)  # sparse: takes no space

    with pytest.raises(ClipError, match=r"330 MiB in one file.*--window 10.*\(it is 3\.0 h long\)"):
        load(path)
    assert n_bytes > LARGEST_BYTES


def test_eleven_minutes_are_refused_and_ten_are_not(tmp_path):
    path = tmp_path / "clip.flac"
    soundfile.write(path, np.zeros(11 * 60 * 8_000, np.float32), 8_000)
    with pytest.raises(ClipError, match="11 min in one file, at most 10 min .*--window 10 --hop 5"):
        load(path)

    soundfile.write(path, np.zeros(int(LONGEST_S) * 8_000, np.float32), 8_000)
    assert len(load(path, 8_000).waveform) == LONGEST_S * 8_000


def test_a_stream_of_unknown_length_is_bounded_too(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.zeros(11 * 60 * 4_000, np.float32), 4_000, "PCM_U8")
    rewrite_data_size(path, 0xFFFFFFFF)

    with pytest.raises(ClipError, match="11 min in one file"):
        load(path)


def test_the_blocks_of_a_long_recording_join_without_a_seam(tmp_path):
    path = tmp_path / "clip.flac"
    samples = noise(2_500_000, 2)
    soundfile.write(path, samples, 48_000)

    expected, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(load(path, 48_000, channel=1).waveform, expected[:, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize": "loud"}, "normalize should be 'none', 'rms' or 'peak'; got 'loud'"),
        ({"short": "stretch"}, "short should be 'error', 'pad' or 'repeat'; got 'stretch'"),
        ({"channel": -1}, "channel should be greater than or equal to 0 or 'mean'; got -1"),
        ({"channel": "left"}, "channel should be a valid integer or 'mean'; got 'left'"),
    ],
)
def test_unknown_preprocessing_names_the_choices(options, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**options)


def test_damaged_files_of_any_kind_are_clip_errors_or_recordings(rng, tmp_path):
    """Flip bytes anywhere; whatever comes out is a finite waveform or a reason."""
    path = tmp_path / "clip.bin"
    outcomes = []
    for ending in ("wav", "flac", "ogg", "mp3"):
        whole = io.BytesIO()
        soundfile.write(whole, noise(4_000), RATE, format=ending)
        for _ in range(60):
            content = bytearray(whole.getvalue())
            for at in rng.integers(0, min(len(content), rng.integers(20, 2_000)), size=5):
                content[at] = rng.integers(256)
            path.write_bytes(content)
            try:
                outcomes.append(bool(np.isfinite(load(path).waveform).all()))
            except ClipError as error:
                outcomes.append("\n" not in str(error))
    assert all(outcomes)
