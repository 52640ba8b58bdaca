"""Every format is decoded whole, or refused with a reason."""

import os
import sys
from collections import Counter
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from peak_memory import measured
from sounds import ENCODED, RATE, load, noise, write_by_pyav

from embed.recordings.dataset import ClipError
from embed.recordings.preprocessing import Preprocessing
from embed.recordings.windows import windows_of


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_every_format_is_read_as_librosa_reads_it(ending, tmp_path):
    path = tmp_path / f"clip.{ending}"
    soundfile.write(path, noise(48_000), 48_000)

    np.testing.assert_array_equal(load(path).waveform, librosa.load(path, sr=RATE)[0])


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


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_text_renamed_to_a_recording_is_refused(ending, tmp_path):
    path = tmp_path / f"clip.{ending}"
    path.write_text("Dear diary, today the fan was loud.\n" * 50)

    with pytest.raises(ClipError, match=r"not a readable recording: .*begins with b'Dear diary, '"):
        load(path)


def test_the_blocks_of_a_long_recording_join_without_a_seam(tmp_path):
    path = tmp_path / "clip.flac"
    samples = noise(2_500_000, 2)
    soundfile.write(path, samples, 48_000)

    expected, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(load(path, 48_000, channel=1).waveform, expected[:, 1])


@pytest.fixture
def tones() -> np.ndarray:
    """Give 3 s at 48 kHz: 440 Hz in the left channel, 1000 Hz in the right one."""
    t = np.arange(3 * 48_000) / 48_000
    return np.stack([0.5 * np.sin(2 * np.pi * hz * t) for hz in (440, 1_000)], axis=1)


@pytest.mark.parametrize("ending", ENCODED)
def test_a_format_of_pyav_gives_what_was_encoded(ending, tones, tmp_path):
    path = tmp_path / f"clip.{ending.upper()}"
    write_by_pyav(path.with_suffix(f".{ending}"), tones, 48_000)
    path.with_suffix(f".{ending}").rename(path)

    for channel, hz in ((0, 440), (1, 1_000)):
        waveform = load(path, channel=channel).waveform
        assert len(waveform) == pytest.approx(3 * RATE, abs=0.05 * RATE)
        spectrum = np.abs(np.fft.rfft(waveform))
        assert np.argmax(spectrum) * RATE / len(waveform) == pytest.approx(hz, abs=2)
        assert waveform[RATE : 2 * RATE].max() == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("ending", ["aiff", "au", "caf", "w64", "mov"])
def test_a_format_of_pyav_without_loss_gives_the_samples(ending, tmp_path):
    samples = np.round(noise(20_000, 2) * 2**15) / 2**15
    write_by_pyav(tmp_path / f"clip.{ending}", samples, RATE)

    waveform = load(tmp_path / f"clip.{ending}", channel=1).waveform
    np.testing.assert_array_equal(waveform, samples[:, 1])


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize(
    "ending", ["m4a", "mp4", "mov", "wma", "webm", "mka", "opus", "aiff", "au", "wv"]
)
def test_a_truncated_file_of_pyavs_is_refused(ending, share, tones, tmp_path):
    path = tmp_path / f"clip.{ending}"
    write_by_pyav(path, tones, 48_000)
    os.truncate(path, int(path.stat().st_size * share))

    with pytest.raises(ClipError, match=r"^truncated|^not a readable recording|^damaged"):
        load(path)


def test_a_truncated_m4a_whose_index_comes_first_is_refused(tones, tmp_path):
    path = tmp_path / "clip.m4a"
    write_by_pyav(path, tones, 48_000, movflags="faststart")
    os.truncate(path, path.stat().st_size // 2)

    with pytest.raises(ClipError, match=r"^truncated: its header tells of 14\d+ samples|^damaged"):
        load(path)


def test_samples_of_pyavs_are_checked_too(tmp_path):
    samples = noise(RATE, 1)[:, None]
    samples[4_000] = np.inf
    write_by_pyav(tmp_path / "clip.mov", samples, RATE)
    with pytest.raises(ClipError, match=r"NaN or infinite, first at 0\.250 s"):
        load(tmp_path / "clip.mov")

    write_by_pyav(tmp_path / "loud.mov", noise(RATE, 1)[:, None] * 32768, RATE)
    with pytest.raises(ClipError, match="divide them by 32768"):
        load(tmp_path / "loud.mov")


def test_eleven_minutes_of_a_format_of_pyavs_are_refused(tmp_path):
    write_by_pyav(tmp_path / "clip.aiff", np.zeros((11 * 60 * 4_000, 1)), 4_000)

    with pytest.raises(ClipError, match=r"11 min in one file.*--window 10 --hop 5"):
        load(tmp_path / "clip.aiff")


def test_windows_of_a_format_of_pyavs_are_those_of_the_whole(tones, tmp_path):
    write_by_pyav(tmp_path / "clip.m4a", tones, 48_000)
    whole = load(tmp_path / "clip.m4a").waveform

    windows = [*windows_of(tmp_path / "clip.m4a", RATE, 1.0, 0.3, Preprocessing())]
    assert len(windows) >= 7
    for window in windows:
        start = round(window.start_s * RATE)
        np.testing.assert_array_equal(window.waveform, whole[start : start + RATE])


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXTINF:5,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>",
        b"Dear diary, today the fan was loud.\n" * 50,
    ],
)
def test_playlists_that_name_other_files_are_not_opened(content, tmp_path):
    (tmp_path / "clip.m4a").write_bytes(content)

    with pytest.raises(ClipError, match=r"^not a readable recording: Invalid"):
        load(tmp_path / "clip.m4a")


def eight_silent_channels(path: Path, seconds: int) -> None:
    """Write a FLAC at 192 kHz, which takes little space and much memory."""
    silence = np.zeros((192_000, 8), np.int16)
    with soundfile.SoundFile(path, "w", 192_000, 8, "PCM_16") as file:
        for _ in range(seconds):
            file.write(silence)


LOADING = """
from pathlib import Path
from embed.recordings.dataset import ClipError
from embed.recordings.preprocessing import Preprocessing
from embed.recordings.audio import load_recording
"""


def test_a_small_file_of_many_samples_is_refused_in_little_memory(tmp_path):
    path = tmp_path / "clip.flac"
    eight_silent_channels(path, 120)
    assert path.stat().st_size < 2**20

    figures = measured(
        LOADING,
        "try:\n"
        f"    load_recording(Path({str(path)!r}), 16_000, 1, Preprocessing())\n"
        "except ClipError as error:\n"
        "    result = str(error)",
    )
    assert figures["result"].startswith("23040000 samples in each of 8 channels, at most 134217728")
    assert figures["added_mb"] < 50


def test_one_channel_of_many_takes_its_own_memory_only(tmp_path):
    path = tmp_path / "clip.flac"
    eight_silent_channels(path, 80)  # 491 MB as float32 of all channels

    figures = measured(
        LOADING,
        f"result = len(load_recording(Path({str(path)!r}), 16_000, 1, Preprocessing()).waveform)",
    )
    assert figures["result"] == 80 * RATE
    assert figures["added_mb"] < 100


ENDINGS = ("wav", "flac", "ogg", "mp3", "m4a", "webm", "aiff", "wma")


def mutants(n: int, tmp_path: Path, rng: np.random.Generator) -> Counter[tuple[str, str]]:
    """Damage files in `n` ways and count what becomes of them, by ending."""
    outcomes: Counter[tuple[str, str]] = Counter()
    samples = noise(8_000)[:, None]
    for number in range(n):
        path = tmp_path / f"clip.{ENDINGS[number % len(ENDINGS)]}"
        if number < len(ENDINGS):
            write = soundfile.write if number < 4 else write_by_pyav
            write(path, samples, RATE)
            path.rename(path.with_name(f"whole{path.suffix}"))
        content = bytearray(path.with_name(f"whole{path.suffix}").read_bytes())
        kind = rng.integers(4)
        begin, end = sorted(rng.integers(0, len(content), 2))
        if kind == 0:
            del content[begin:end]
        elif kind == 1:
            content[begin:begin] = content[begin:end]
        else:  # bytes, more often in the header
            reach = len(content) if kind == 2 else min(200, len(content))
            for at in rng.integers(0, reach, rng.integers(1, 20)):
                content[at] = rng.integers(256)
        path.write_bytes(content)
        try:
            outcome = "decoded" if np.isfinite(load(path).waveform).all() else "not finite"
        except ClipError as error:
            outcome = "refused" if "\n" not in str(error) else "several lines"
        outcomes[path.suffix[1:], outcome] += 1
    return outcomes


@pytest.mark.parametrize("n", [64, pytest.param(1_000, marks=pytest.mark.faults)])
def test_a_damaged_file_becomes_finite_samples_or_a_reason(n, tmp_path, rng):
    outcomes = mutants(n, tmp_path, rng)

    counts = ", ".join(f"{count} {' '.join(what)}" for what, count in sorted(outcomes.items()))
    sys.stdout.write(f"\n{n} damaged recordings: {counts}\n")
    assert {outcome for _, outcome in outcomes} <= {"decoded", "refused"}
    assert sum(outcomes.values()) == n
