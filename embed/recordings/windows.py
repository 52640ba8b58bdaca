"""Windows of long recordings and of streams: cut one after the other, in constant memory.

Window `i` begins at sample `round(i * hop)`. What is left at the end is used when it is at least
half a window: the last window is then moved back so that it ends where the recording ends. It is
never padded with zeros. Each window is prepared like a clip of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from embed.recordings.audio import is_changed
from embed.recordings.dataset import ClipError
from embed.recordings.decoding import opened
from embed.recordings.preprocessing import Preprocessing, Waveform, preprocess
from embed.recordings.sound import Sound, channel_of, resampled
from embed.recordings.streams import RawFormat, raw_stream, wav_stream


@dataclass(frozen=True)
class Window:
    """A piece `(n_samples,)` of a recording, and where it begins and ends in it."""

    waveform: Waveform
    start_s: float
    end_s: float


def windows_of(
    path: str | Path,
    sample_rate: int,
    window_s: float,
    hop_s: float,
    preprocessing: Preprocessing,
) -> Iterator[Window]:
    """Yield the windows of a recording of any length, at `sample_rate`.

    ClipError for what is wrong with the recording, after the windows before it; one shorter than
    a window among them. ValueError for lengths that cannot be used.
    """
    _check(sample_rate, window_s, hop_s, preprocessing)
    return _windows_of_file(Path(path), sample_rate, window_s, hop_s, preprocessing)


def windows_of_stream(
    file: BinaryIO,
    raw: RawFormat | None,
    sample_rate: int,
    window_s: float,
    hop_s: float,
    preprocessing: Preprocessing,
) -> Iterator[Window]:
    """Yield the windows of a wav stream, or of one of raw samples, as soon as they have come.

    The stream need not be able to seek. A stream that ends in the middle of a frame, or before the
    end that its header tells of, is a ClipError after all windows that are whole.
    """
    sound = raw_stream(file, raw) if raw else wav_stream(file)
    return windows_of_sound(sound, sample_rate, window_s, hop_s, preprocessing)


def windows_of_sound(
    sound: Sound, sample_rate: int, window_s: float, hop_s: float, preprocessing: Preprocessing
) -> Iterator[Window]:
    """Yield the windows of sound that comes in blocks, each as soon as it is whole."""
    _check(sample_rate, window_s, hop_s, preprocessing)
    return _windows_of_sound(sound, sample_rate, window_s, hop_s, preprocessing)


def _check(sample_rate: int, window_s: float, hop_s: float, preprocessing: Preprocessing) -> None:
    for name, seconds in (("window", window_s), ("hop", hop_s)):
        if not 1 <= seconds * sample_rate < 2**31:
            raise ValueError(f"a {name} of {seconds:g} s is not usable at {sample_rate} Hz")
    if preprocessing.trim:
        raise ValueError("trim would make windows unequal; leave it out")


def _windows_of_file(
    path: Path, sample_rate: int, window_s: float, hop_s: float, preprocessing: Preprocessing
) -> Iterator[Window]:
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            if not about.st_size:
                raise ClipError("the file is empty")
            with opened(file, path.name) as sound:
                yield from _windows_of_sound(sound, sample_rate, window_s, hop_s, preprocessing)
            after = os.fstat(file.fileno())
        if is_changed(about, after, path.stat()):
            raise ClipError("changed while it was read; run again once it is finished")
    except OSError as error:
        raise ClipError(f"cannot be read: {error.strerror or error}") from error


def _windows_of_sound(
    sound: Sound, sample_rate: int, window_s: float, hop_s: float, preprocessing: Preprocessing
) -> Iterator[Window]:
    blocks = channel_of(sound, preprocessing.channel)
    samples = resampled(blocks, sound.sample_rate, sample_rate)
    n_window = round(window_s * sample_rate)
    for start, waveform in _cut(samples, n_window, hop_s * sample_rate, sample_rate):
        prepared = preprocess(waveform, preprocessing)
        yield Window(prepared, start / sample_rate, (start + n_window) / sample_rate)


def _cut(
    blocks: Iterator[Waveform], n_window: int, hop: float, rate: int
) -> Iterator[tuple[int, Waveform]]:
    """Yield the first sample of each window, counted from the beginning, and its waveform."""
    kept: Waveform | None = None  # the samples from `first` on
    first = n_samples = n_windows = 0
    problem: ClipError | None = None
    try:
        for block in blocks:
            kept = block if kept is None else np.concatenate([kept, block])
            n_samples += len(block)
            while (start := round(n_windows * hop)) + n_window <= n_samples:
                yield start, kept[start - first : start - first + n_window].copy()
                n_windows += 1
            needed = max(first, min(start, n_samples - n_window))
            kept, first = kept[needed - first :].copy(), needed
    except ClipError as error:
        problem = error
    last_end = round((n_windows - 1) * hop) + n_window
    is_half = 2 * (n_samples - round(n_windows * hop)) >= n_window
    if kept is not None and n_windows and n_samples > last_end and is_half:
        yield n_samples - n_window, kept[-n_window:].copy()
    if problem:
        raise problem
    if not n_windows:
        raise ClipError(
            f"{n_samples / rate:.3f} s long, a window is {n_window / rate:.3f} s; "
            "choose a shorter window"
        )
