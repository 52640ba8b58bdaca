"""One recording from disk becomes one waveform: read, decoded, checked, resampled, prepared.

The order is fixed: decode, choose the channel, resample (soxr HQ, equal to `librosa.load`), trim,
denoise, normalise, lengthen. Silence and constants are valid recordings.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from embed.recordings.dataset import ClipError, file_stats_of
from embed.recordings.decoding import opened
from embed.recordings.preprocessing import Preprocessing, Waveform, lengthen, preprocess
from embed.recordings.sound import Sound, channel_of, resampled

LONGEST_S = 600.0
LARGEST_BYTES = 2**28
LARGEST_SAMPLES = 2**27
"""Over all channels; this bounds the time that one clip takes, as LONGEST_S bounds its memory."""

ADVICE = "--window 10 --hop 5 cuts it into windows"


@dataclass(frozen=True)
class Recording:
    """A waveform `(n_samples,)` and the file it was computed from."""

    waveform: Waveform
    size: int
    mtime_ns: int
    sha256: str
    note: str = ""
    """How the clip was altered to be usable, or nothing."""


class Need(NamedTuple):
    """What an encoder takes: waveforms at a sample rate in Hz, of at least so many samples."""

    sample_rate: int
    min_samples: int


def load_recording(
    path: Path, sample_rate: int, min_samples: int, preprocessing: Preprocessing
) -> Recording:
    """Read one file as mono float32 at `sample_rate`; whatever is wrong with it is a ClipError."""
    (recording,) = load_for(path, [Need(sample_rate, min_samples)], preprocessing)
    if isinstance(recording, ClipError):
        raise recording
    return recording


def load_for(
    path: Path, needs: Sequence[Need], preprocessing: Preprocessing
) -> list[Recording | ClipError]:
    """Read one file for several encoders: each gets its recording, or the error that it has.

    The file is read and decoded once, and resampled and prepared once per sample rate. What is
    wrong with the file is everybody's error; a clip that is too short, only that of who needs more.
    """
    try:
        content, about = _read_once(path)
        with opened(io.BytesIO(content), path.name) as sound:
            _check_length(sound.n_frames or 0, sound)
            blocks = [*_bounded(channel_of(sound, preprocessing.channel), sound)]
        waveforms = {
            rate: preprocess(
                np.concatenate([*resampled(iter(blocks), sound.sample_rate, rate)]), preprocessing
            )
            for rate in {need.sample_rate for need in needs}
        }
    except ClipError as error:
        return [error] * len(needs)
    size, mtime_ns = file_stats_of(about)
    sha256 = hashlib.sha256(content).hexdigest()
    recordings: list[Recording | ClipError] = []
    for rate, min_samples in needs:
        try:
            waveform, note = lengthen(waveforms[rate], rate, min_samples, preprocessing.short)
            recordings.append(Recording(waveform, size, mtime_ns, sha256, note))
        except ClipError as error:
            recordings.append(error)
    return recordings


def seconds_of(path: Path) -> float:
    """Read from its header how long a recording is; 0 where the header does not tell."""
    try:
        with path.open("rb") as file, opened(file, path.name) as sound:
            return (sound.n_frames or 0) / sound.sample_rate
    except (OSError, ClipError):
        return 0.0


def _read_once(path: Path) -> tuple[bytes, os.stat_result]:
    """Read all bytes of a file that nobody writes to meanwhile."""
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            if about.st_size > LARGEST_BYTES:
                raise ClipError(
                    f"{about.st_size / 2**20:,.0f} MiB in one file, at most "
                    f"{LARGEST_BYTES // 2**20} MiB are read at once; {ADVICE}"
                    + _length_hint(file, path.name)
                )
            content = file.read(about.st_size + 1)
            after = os.fstat(file.fileno())
        replaced = path.stat()
    except OSError as error:
        raise ClipError(f"cannot be read: {error.strerror or error}") from error
    if is_changed(about, after, replaced) or len(content) != about.st_size:
        raise ClipError("changed while it was read; run again once it is finished")
    if not content:
        raise ClipError("the file is empty")
    return content, about


def is_changed(*moments: os.stat_result) -> bool:
    """Tell whether a file was replaced or written to between these moments."""
    return len({(s.st_ino, s.st_size, s.st_mtime_ns) for s in moments}) > 1


def _length_hint(file: BinaryIO, name: str) -> str:
    try:
        with opened(file, name) as sound:
            return f" (it is {(sound.n_frames or 0) / sound.sample_rate / 3600:.1f} h long)"
    except ClipError:
        return ""


def _check_length(n_frames: int, sound: Sound) -> None:
    if n_frames > LONGEST_S * sound.sample_rate:
        raise ClipError(
            f"{n_frames / sound.sample_rate / 60:.0f} min in one file, at most "
            f"{LONGEST_S / 60:.0f} min are read at once; {ADVICE}"
        )
    if n_frames * sound.n_channels > LARGEST_SAMPLES:
        raise ClipError(
            f"{n_frames} samples in each of {sound.n_channels} channels, at most "
            f"{LARGEST_SAMPLES} in all channels are read at once; {ADVICE}"
        )


def _bounded(blocks: Iterator[Waveform], sound: Sound) -> Iterator[Waveform]:
    """Refuse a recording that goes on for longer than its header tells."""
    n_frames = 0
    for block in blocks:
        n_frames += len(block)
        _check_length(n_frames, sound)
        yield block
