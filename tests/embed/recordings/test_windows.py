"""Windows of long recordings: what cutting the whole waveform would give, in constant memory."""

import io
import os
import struct
import sys

import numpy as np
import pytest
import soundfile
from peak_memory import measured
from sounds import RATE, load, noise, rewrite_data_size

from embed.recordings.dataset import ClipError
from embed.recordings.preprocessing import Preprocessing
from embed.recordings.streams import RawFormat
from embed.recordings.windows import windows_of, windows_of_stream

PLAIN = Preprocessing()


def starts_of(n_samples: int, n_window: int, hop: float) -> list[int]:
    """Say where windows begin by the documented rule, in another way than the code does."""
    starts = [round(i * hop) for i in range(n_samples) if round(i * hop) + n_window <= n_samples]
    rest = n_samples - round(len(starts) * hop)
    if starts and starts[-1] + n_window < n_samples and rest >= n_window / 2:
        starts.append(n_samples - n_window)
    return starts


@pytest.mark.parametrize("rate", [16_000, 22_050, 32_000])
@pytest.mark.parametrize("own_rate", [16_000, 44_100, 11_025])
@pytest.mark.parametrize(
    ("window_s", "hop_s"),
    [(1.0, 0.5), (1.0, 1.0), (0.7, 0.33), (0.5, 1.7), (0.0313, 0.01), (7.01, 1.0), (3.0, 3.0)],
)
def test_windows_equal_those_of_the_whole_waveform(window_s, hop_s, own_rate, rate, tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(int(7.4321 * own_rate), 2), own_rate)
    whole = load(path, rate, channel=1).waveform
    n_window = round(window_s * rate)

    windows = [*windows_of(path, rate, window_s, hop_s, Preprocessing(channel=1))]

    starts = starts_of(len(whole), n_window, hop_s * rate)
    assert [round(w.start_s * rate) for w in windows] == starts
    assert all(w.end_s - w.start_s == pytest.approx(n_window / rate) for w in windows)
    for window, start in zip(windows, starts, strict=True):
        np.testing.assert_array_equal(window.waveform, whole[start : start + n_window])


@pytest.mark.parametrize(
    ("seconds", "last_start"), [(10.0, 5.0), (12.4, 5.0), (12.6, 7.6), (14.9, 9.9), (15.0, 10.0)]
)
def test_a_rest_of_half_a_window_is_moved_back_to_the_end(seconds, last_start, tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(int(seconds * 1_000)), 1_000)

    windows = [*windows_of(path, 1_000, 5.0, 5.0, PLAIN)]
    assert windows[-1].start_s == last_start
    assert all(len(window.waveform) == 5_000 for window in windows)


@pytest.mark.parametrize("ending", ["flac", "ogg", "mp3"])
def test_every_format_is_cut(ending, tmp_path):
    path = tmp_path / f"clip.{ending}"
    soundfile.write(path, noise(3 * 48_000), 48_000)
    whole = load(path).waveform

    for window in windows_of(path, RATE, 1.0, 1.0, PLAIN):
        start = round(window.start_s * RATE)
        np.testing.assert_array_equal(window.waveform, whole[start : start + RATE])


def test_each_window_is_prepared_like_a_clip_of_its_own(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.concatenate([noise(RATE) * 0.1, noise(RATE)]), RATE, "FLOAT")

    levels = [
        float(np.sqrt(np.mean(window.waveform**2)))
        for window in windows_of(path, RATE, 1.0, 1.0, Preprocessing(normalize="rms"))
    ]
    assert levels == pytest.approx([0.05, 0.05], rel=1e-4)


def test_a_recording_shorter_than_a_window_is_refused_with_both_lengths(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(RATE), RATE)

    with pytest.raises(ClipError, match=r"1\.000 s long, a window is 10\.000 s"):
        [*windows_of(path, RATE, 10.0, 5.0, PLAIN)]


@pytest.mark.parametrize(("window_s", "hop_s"), [(0, 1), (1, 0), (-1, 1), (1, 1e-9), (1e9, 1)])
def test_lengths_that_cannot_be_used_are_refused_before_anything_is_read(window_s, hop_s):
    with pytest.raises(ValueError, match="is not usable at 16000 Hz"):
        windows_of("absent.wav", RATE, window_s, hop_s, PLAIN)


def test_trimming_is_refused():
    with pytest.raises(ValueError, match="trim would make windows unequal"):
        windows_of("absent.wav", RATE, 1.0, 1.0, Preprocessing(trim=True))


@pytest.mark.parametrize("content", [b"", b"RIFF\0\0\0\0WAVE", b"Dear diary"])
def test_what_is_no_recording_is_refused(content, tmp_path):
    (tmp_path / "clip.wav").write_bytes(content)

    with pytest.raises(ClipError):
        [*windows_of(tmp_path / "clip.wav", RATE, 1.0, 1.0, PLAIN)]
    with pytest.raises(ClipError, match="cannot be read: No such file"):
        [*windows_of(tmp_path / "absent.wav", RATE, 1.0, 1.0, PLAIN)]


def until_error(windows) -> tuple[list[float], str]:
    starts = []
    try:
        for window in windows:
            starts.append(window.start_s)
    except ClipError as error:
        return starts, str(error)
    return starts, ""


@pytest.mark.parametrize("is_stream", [False, True])
def test_windows_before_damaged_samples_are_given_before_the_error(is_stream, tmp_path):
    path = tmp_path / "clip.wav"
    samples = noise(10 * RATE)
    samples[5 * RATE] = np.nan
    soundfile.write(path, samples, RATE, "FLOAT")
    stream = io.BytesIO(path.read_bytes())

    starts, reason = until_error(
        windows_of_stream(stream, None, RATE, 1.0, 1.0, PLAIN)
        if is_stream
        else windows_of(path, RATE, 1.0, 1.0, PLAIN)
    )
    assert starts == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert reason == "samples are NaN or infinite, first at 5.000 s"


def test_windows_before_the_end_of_a_truncated_stream_are_given_before_the_error():
    raw = RawFormat.parse("8000:s16le:1")
    content = bytes(2 * 8_000 * 3 + 1)

    starts, reason = until_error(windows_of_stream(io.BytesIO(content), raw, RATE, 1.0, 1.0, PLAIN))
    assert starts == [0.0, 1.0, 2.0]
    assert reason == "the stream ends in the middle of a frame: 1 of 2 bytes"


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(3 * RATE), RATE)
    os.truncate(path, 50_000)

    with pytest.raises(ClipError, match="truncated: its header tells of 96000 bytes"):
        [*windows_of(path, RATE, 1.0, 1.0, PLAIN)]


def test_a_stream_gives_each_window_as_soon_as_its_samples_have_come():
    read_end, write_end = os.pipe()
    second = np.zeros(RATE, "<i2").tobytes()
    with os.fdopen(read_end, "rb") as reading, os.fdopen(write_end, "wb", 0) as writing:
        raw = RawFormat.parse("16000:s16le:1")
        windows = windows_of_stream(reading, raw, RATE, 1.0, 0.5, PLAIN)
        writing.write(second)
        first = next(windows)
        writing.write(second[: len(second) // 2])
        next_one = next(windows)  # would wait for ever if it needed more

    assert (first.start_s, next_one.start_s) == (0.0, 0.5)


def test_a_wav_stream_and_its_file_give_the_same_windows(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(5 * 44_100), 44_100)
    file_windows = [*windows_of(path, RATE, 1.0, 0.4, PLAIN)]
    with path.open("rb") as stream:
        stream_windows = [*windows_of_stream(stream, None, RATE, 1.0, 0.4, PLAIN)]

    assert len(file_windows) == len(stream_windows)
    for one, other in zip(file_windows, stream_windows, strict=True):
        assert one.start_s == other.start_s
        np.testing.assert_array_equal(one.waveform, other.waveform)


def test_a_streamed_file_without_a_size_is_cut_to_its_end(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(3 * RATE), RATE)
    expected = [window.start_s for window in windows_of(path, RATE, 1.0, 1.0, PLAIN)]
    rewrite_data_size(path, 0)

    assert [window.start_s for window in windows_of(path, RATE, 1.0, 1.0, PLAIN)] == expected


@pytest.mark.parametrize(
    ("hours", "rate"), [(1, 16_000), pytest.param(24, 16_000, marks=pytest.mark.slow)]
)
def test_a_recording_of_hours_takes_the_memory_of_a_few_windows(hours, rate, tmp_path):
    """The figures promised: under 500 MB, more than 100 times as fast as the sound."""
    path = tmp_path / "long.wav"
    n_bytes = hours * 3600 * 16_000
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", n_bytes + 36, b"WAVE", b"fmt ", 16, 1, 1, 16_000, 16_000, 1, 8),
        *(b"data", n_bytes),
    )
    path.write_bytes(header)
    os.truncate(path, 44 + n_bytes)  # sparse: takes no space

    figures = measured(
        "from embed.recordings.windows import windows_of, Preprocessing",
        f"result = sum(1 for _ in windows_of({str(path)!r}, {rate}, 10, 5, Preprocessing()))",
    )

    sys.stderr.write(f"{hours} h: {figures}\n")
    assert figures["result"] == hours * 720 - 1
    assert figures["peak_mb"] < 500
    assert figures["added_mb"] < 100
    assert figures["seconds"] < hours * 36
