"""Sound as it comes out of a decoder: blocks of frames, checked, one channel, resampled.

Nothing here holds a whole recording, so that one of any length takes the same memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soxr

from embed.recordings.dataset import ClipError
from embed.recordings.preprocessing import Waveform

INT16_SCALED = 8.0  # float samples beyond this were never divided by 32768


@dataclass(frozen=True)
class Sound:
    """What a decoder gives of one recording."""

    sample_rate: int
    """In Hz, as the recording has it."""
    n_channels: int
    n_frames: int | None
    """How many frames the header tells of, or none where it does not."""
    blocks: Iterator[Waveform]
    """The samples, `(n_frames, n_channels)` each. What ends them too early is a ClipError."""
    has_float_samples: bool = False
    """Whether the samples were stored as floating-point numbers, without compression."""
    tolerance: int = 0
    """So many frames may lack at the end: lossy formats tell their length roughly."""


def channel_of(sound: Sound, channel: int | str) -> Iterator[Waveform]:
    """Yield one channel or the mean of all, `(n_frames,)` per block.

    ClipError for samples that are not finite or on the scale of integers, after the ones before
    them, and at the end for fewer samples than the header tells of.
    """
    if channel != "mean" and int(channel) >= sound.n_channels:
        raise ClipError(f"has {sound.n_channels} channel(s), counted from 0; there is no {channel}")
    n_frames = 0
    for block in sound.blocks:
        if channel == "mean":
            samples: Waveform = np.mean(block.T, axis=0)  # in the order of librosa.to_mono
        else:
            samples = np.ascontiguousarray(block[:, int(channel)])  # lets go of the other channels
        n_good, problem = _good_samples(samples, n_frames, sound)
        n_frames += n_good
        if n_good:
            yield samples[:n_good]
        if problem:
            raise ClipError(problem)
    if not n_frames:
        raise ClipError("holds no samples, only a header")
    if sound.n_frames is not None and n_frames < sound.n_frames - sound.tolerance:
        raise ClipError(
            f"truncated: its header tells of {sound.n_frames} samples, {n_frames} can be decoded"
        )


def resampled(blocks: Iterator[Waveform], own_rate: int, rate: int) -> Iterator[Waveform]:
    """Resample as `librosa.load` does (soxr HQ), to `ceil(n * rate / own_rate)` samples.

    Blocks `(n_samples,)` in, blocks out. A ClipError of the blocks is raised after the samples
    that came before it.
    """
    if own_rate == rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(own_rate, rate, 1, dtype="float32", quality="soxr_hq")
    n_in = n_out = 0
    problem: ClipError | None = None
    try:
        for block in blocks:
            n_in += len(block)
            part = stream.resample_chunk(block)
            n_out += len(part)
            yield part
    except ClipError as error:
        problem = error
    rest = stream.resample_chunk(np.empty(0, np.float32), last=True)
    n_left = max(0, math.ceil(n_in * (float(rate) / own_rate)) - n_out)
    yield np.pad(rest[:n_left], (0, max(0, n_left - len(rest))))
    if problem:
        raise problem


def _good_samples(samples: Waveform, n_before: int, sound: Sound) -> tuple[int, str]:
    """Count the samples that can be used, and say what is wrong with the next one, or ""."""
    is_finite = np.isfinite(samples)
    if not is_finite.all():
        n_good = int(np.argmin(is_finite))
        seconds = (n_before + n_good) / sound.sample_rate
        return n_good, f"samples are NaN or infinite, first at {seconds:.3f} s"
    loudest = float(np.abs(samples).max(initial=0.0))
    if sound.has_float_samples and loudest > INT16_SCALED:
        return 0, (
            f"float samples up to {loudest:g} where -1 to 1 is expected, as if 16-bit integers "
            "had been stored as floats; divide them by 32768"
        )
    return len(samples), ""
