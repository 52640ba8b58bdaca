"""Sound as it comes out of a decoder: blocks of frames, checked, of one channel, resampled.

Nothing here holds a whole recording, so that one of any length takes the same memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soxr

from embed.recordings.dataset import ClipError
from embed.recordings.preprocessing import Channel, Waveform

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


def channel_of(sound: Sound, channel: Channel) -> Iterator[Waveform]:
    """Yield one channel or a mean of several, `(n_frames,)` per block.

    For `w1` the blocks are the near and the far channel, `(n_frames, 2)`: what is subtracted
    depends on the whole recording or window. ClipError for a channel that is not there, for
    samples that are not finite or on the scale of integers, after the ones before them, and at
    the end for fewer samples than the header tells of.
    """
    if channel in ("mix", "w1") and sound.n_channels < 2:
        raise ClipError(
            f"is mono, and --channel {channel} needs a near and a far microphone; --channel near "
            "takes mono too"
        )
    if isinstance(channel, int) and channel >= sound.n_channels:
        raise ClipError(f"has {sound.n_channels} channel(s), counted from 0; there is no {channel}")
    n_frames = 0
    for block in sound.blocks:
        samples = _chosen(block, channel)
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

    Blocks `(n_samples,)` or `(n_samples, n_channels)` in, such blocks out. A ClipError of the
    blocks is raised after the samples that came before it.
    """
    if own_rate == rate:
        yield from blocks
        return
    stream: soxr.ResampleStream | None = None
    n_in = n_out = 0
    problem: ClipError | None = None
    nothing: Waveform = np.empty(0, np.float32)
    try:
        for block in blocks:
            if stream is None:
                nothing = block[:0]
                stream = soxr.ResampleStream(
                    own_rate, rate, math.prod(block.shape[1:]), dtype="float32", quality="soxr_hq"
                )
            n_in += len(block)
            part = stream.resample_chunk(block)
            n_out += len(part)
            yield part
    except ClipError as error:
        problem = error
    rest = nothing if stream is None else stream.resample_chunk(nothing, last=True)
    n_left = max(0, math.ceil(n_in * (float(rate) / own_rate)) - n_out)
    lacking = [(0, max(0, n_left - len(rest)))] + [(0, 0)] * (rest.ndim - 1)
    yield np.pad(rest[:n_left], lacking)
    if problem:
        raise problem


def _chosen(block: Waveform, channel: Channel) -> Waveform:
    """Take the samples of a channel, or of several, from a block `(n_frames, n_channels)`."""
    if isinstance(channel, int):
        return np.ascontiguousarray(block[:, channel])  # lets go of the other channels
    if channel == "w1":
        return np.ascontiguousarray(block[:, :2])
    pair = block[:, :2] if channel == "mix" else block
    mean: Waveform = np.mean(pair.T, axis=0)  # in the order of librosa.to_mono
    return mean


def _good_samples(samples: Waveform, n_before: int, sound: Sound) -> tuple[int, str]:
    """Count the samples that can be used, and say what is wrong with the next one, or ""."""
    is_finite = np.isfinite(samples).reshape(len(samples), -1).all(axis=1)
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
