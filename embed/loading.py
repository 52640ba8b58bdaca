"""One read and one decode of a clip, however many encoders want it, at whatever sample rates."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from embed.recordings import audio
from embed.recordings.audio import ClipError, Preprocessing, Recording, Waveform


class Need(NamedTuple):
    """What an encoder takes: waveforms at a sample rate in Hz, of at least so many samples."""

    sample_rate: int
    min_samples: int


@dataclass(frozen=True)
class _Decoded:
    """One channel of a file at its own sample rate, and what identifies the file."""

    samples: Waveform
    sample_rate: int
    size: int
    mtime_ns: int
    sha256: str


def load_for(
    path: Path, needs: Sequence[Need], preprocessing: Preprocessing
) -> list[Recording | ClipError]:
    """Read one file for several encoders: each gets what `load_recording` gives, or its error.

    The file is read and decoded once, and resampled and prepared once per sample rate. What is
    wrong with the file is everybody's error; a clip that is too short, only that of who needs more.
    """
    try:
        decoded = _decode(path, preprocessing)
    except ClipError as error:
        return [error] * len(needs)
    prepared: dict[int, Waveform] = {}
    recordings: list[Recording | ClipError] = []
    for rate, min_samples in needs:
        try:
            if rate not in prepared:
                prepared[rate] = _prepare(decoded, rate, preprocessing)
            waveform, note = audio._lengthened(
                prepared[rate], rate, min_samples, preprocessing.short
            )
        except ClipError as error:
            recordings.append(error)
            continue
        waveform = np.ascontiguousarray(waveform, dtype=np.float32)
        recordings.append(Recording(waveform, decoded.size, decoded.mtime_ns, decoded.sha256, note))
    return recordings


def _decode(path: Path, preprocessing: Preprocessing) -> _Decoded:
    content, stats = audio._read_once(path)
    samples, rate = audio._decode(content, preprocessing.channel)
    sha256 = hashlib.sha256(content).hexdigest()
    return _Decoded(samples, rate, stats.st_size, stats.st_mtime_ns, sha256)


def _prepare(decoded: _Decoded, rate: int, preprocessing: Preprocessing) -> Waveform:
    """Resample, trim, denoise and normalise, as `load_recording` does."""
    waveform = audio._resample(decoded.samples, decoded.sample_rate, rate)
    if preprocessing.trim:
        waveform = audio._trimmed(waveform)
    if preprocessing.denoise:
        waveform = audio._denoised(waveform)
    return audio._normalised(waveform, preprocessing.normalize)
