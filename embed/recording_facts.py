"""What can be told of a recording without knowing the machine: wrong length, gain, microphone.

A clip is compared with the ranges of the training clips. Remarks stand beside a verdict and do not
change it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

FRAME = 1024  # samples, of the spectrum and of silent parts
CHUNK_FRAMES = 512
BANDS = 16
"""Equal bands from 0 Hz to half the sample rate, of which a clip's mean levels are kept."""
FLOOR = 1e-20  # power of full scale 1; -200 dB
SILENCE_DBFS = -90.0  # 16-bit samples of one step are at -90.3
CLIPPED_RUN = 3  # samples in a row at the largest or smallest value

LEVEL_MARGIN_DB = 10.0
CUT_DB = 15.0
LOWEST_CUT_HZ = 1000.0
LENGTH_FACTOR = 1.5
CLIPPED_SHARE = 1e-4
SILENT_SHARE = 0.05


@dataclass(frozen=True)
class RecordingFacts:
    """Plain facts of one waveform, as decoded and before any normalisation."""

    seconds: float
    sample_rate: int
    """Of the file, before it was resampled, in Hz."""
    level_dbfs: float
    """RMS without the mean; a full-scale square wave has 0 dB."""
    peak: float
    clipped_share: float
    """Share of the samples that lie in runs of at least 3 at the largest or smallest value."""
    silent_share: float
    """Share of the frames of 1024 samples that hold one constant value."""
    band_levels: tuple[float, ...]
    """Mean power of 16 equal bands up to `band_limit_hz`, in dB."""
    band_limit_hz: float


def recording_facts(
    waveform: ArrayLike, sample_rate: int, file_sample_rate: int | None = None
) -> RecordingFacts:
    """Collect the facts of a waveform (n_samples,) at `sample_rate`; no sample is a ValueError.

    `file_sample_rate` is that of the file where the waveform was resampled.
    """
    samples = np.asarray(waveform, dtype=np.float32)
    if samples.ndim != 1 or not len(samples) or not np.isfinite(samples).all():
        raise ValueError(f"Facts need finite samples (n_samples,), got shape {samples.shape}")
    silent, levels = _silence_and_levels(samples)
    return RecordingFacts(
        seconds=len(samples) / sample_rate,
        sample_rate=file_sample_rate or sample_rate,
        level_dbfs=level_dbfs(samples),
        peak=float(np.abs(samples).max()),
        clipped_share=_clipped_share(samples),
        silent_share=silent,
        band_levels=levels,
        band_limit_hz=sample_rate / 2,
    )


def level_dbfs(samples: NDArray[np.float32]) -> float:
    """Compute the RMS (n_samples,) without the mean; a full-scale square wave has 0 dB."""
    return float(10 * np.log10(np.var(samples, dtype=np.float64) + FLOOR))


def _clipped_share(samples: NDArray[np.float32]) -> float:
    """Share of samples in runs at an extreme value; constants and silence have none."""
    low, high = samples.min(), samples.max()
    if low == high:
        return 0.0
    clipped = 0
    for extreme in (low, high):
        edges = np.flatnonzero(np.diff(samples == extreme, prepend=False, append=False))
        runs = edges[1::2] - edges[::2]
        clipped += int(runs[runs >= CLIPPED_RUN].sum())
    return clipped / len(samples)


def _silence_and_levels(samples: NDArray[np.float32]) -> tuple[float, tuple[float, ...]]:
    """Share of frames without any change, and the mean level of each band in dB."""
    padded = np.pad(samples, (0, -len(samples) % FRAME), mode="edge")
    frames = padded.reshape(-1, FRAME)
    window = np.hanning(FRAME).astype(np.float32)
    n_silent, power = 0, np.zeros(FRAME // 2)
    for start in range(0, len(frames), CHUNK_FRAMES):
        part = frames[start : start + CHUNK_FRAMES]
        n_silent += int(np.sum(part.min(axis=1) == part.max(axis=1)))
        part = part - part.mean(axis=1, keepdims=True)
        spectrum = np.fft.rfft(part * window, axis=1)[:, 1:]
        power += (np.square(spectrum.real) + np.square(spectrum.imag)).sum(axis=0)
    scale = len(frames) * FRAME * float(np.square(window).sum()) / 2
    bands = (power / scale).reshape(BANDS, -1).sum(axis=1)
    levels = 10 * np.log10(bands + FLOOR)
    return n_silent / len(frames), tuple(float(level) for level in levels)


@dataclass(frozen=True)
class FactRanges:
    """The facts of the training clips, each from the least to the largest."""

    least: RecordingFacts
    largest: RecordingFacts
    sample_rates: tuple[int, ...]

    @classmethod
    def of(cls, clips: Iterable[RecordingFacts]) -> FactRanges:
        """Collect the ranges clip by clip; none, or other `band_limit_hz`, is a ValueError."""
        ranges: FactRanges | None = None
        for facts in clips:
            ranges = cls(facts, facts, (facts.sample_rate,)) if ranges is None else ranges | facts
        if ranges is None:
            raise ValueError("Ranges of recordings need at least one clip")
        return ranges

    def __or__(self, facts: RecordingFacts) -> FactRanges:
        """Extend the ranges by one more clip."""
        if facts.band_limit_hz != self.least.band_limit_hz:
            raise ValueError(
                f"Facts up to {facts.band_limit_hz:g} Hz cannot be compared with facts up to "
                f"{self.least.band_limit_hz:g} Hz; collect them at one sample rate"
            )
        rates = tuple(sorted({*self.sample_rates, facts.sample_rate}))
        return FactRanges(_each(min, self.least, facts), _each(max, self.largest, facts), rates)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> FactRanges:
        """Build the ranges from what `to_dict` gave."""

        def facts(side: str) -> RecordingFacts:
            values = dict(content[side])
            values["band_levels"] = tuple(values["band_levels"])
            return RecordingFacts(**values)

        return cls(facts("least"), facts("largest"), tuple(content["sample_rates"]))


def _each(choose: Any, one: RecordingFacts, other: RecordingFacts) -> RecordingFacts:
    """Choose (min or max) between two clips, fact by fact and band by band."""
    first, second = asdict(one), asdict(other)
    chosen = {name: choose(first[name], second[name]) for name in first if name != "band_levels"}
    levels = tuple(map(choose, one.band_levels, other.band_levels))
    return RecordingFacts(**chosen, band_levels=levels)


def recording_remarks(ranges: FactRanges, clip: RecordingFacts) -> list[str]:
    """Say what sets a recording apart from the training clips, whatever the machine does.

    - silence: below -90 dBFS; or more than 5 % of constant frames beyond the training clips';
    - clipping: more than 1e-4 of the samples, and twice the share of any training clip;
    - level: more than 10 dB outside the range of the training clips;
    - bandwidth: all 500 Hz bands (at 16 kHz) above some frequency are more than 15 dB below, or
      all above it, any training clip's; the frequency is at least 1 kHz;
    - length: more than 1.5 times longer or shorter; sample rate: one that no training clip has.
    """
    if clip.level_dbfs < SILENCE_DBFS:
        return ["the recording is silent: is the microphone connected?"]
    remarks = [
        _silent_parts(ranges, clip),
        _clipping(ranges, clip),
        _level(ranges, clip),
        _bandwidth(ranges, clip),
        _length(ranges, clip),
        _sample_rate(ranges, clip),
    ]
    return [remark for remark in remarks if remark]


def _silent_parts(ranges: FactRanges, clip: RecordingFacts) -> str:
    if clip.silent_share <= ranges.largest.silent_share + SILENT_SHARE:
        return ""
    return f"{clip.silent_share:.0%} of the recording is silent: were samples lost?"


def _clipping(ranges: FactRanges, clip: RecordingFacts) -> str:
    if clip.clipped_share <= max(CLIPPED_SHARE, 2 * ranges.largest.clipped_share):
        return ""
    return f"{clip.clipped_share:.2%} of the samples are clipped: lower the gain"


def _level(ranges: FactRanges, clip: RecordingFacts) -> str:
    too_low, too_high = _beyond(ranges, clip)
    if max(too_low, too_high) <= LEVEL_MARGIN_DB:
        return ""
    word = "louder" if too_high else "quieter"
    return (
        f"the recording is {max(too_low, too_high):.0f} dB {word} than any normal one "
        f"({clip.level_dbfs:.0f} dBFS): another gain, distance or microphone?"
    )


def _beyond(ranges: FactRanges, clip: RecordingFacts) -> tuple[float, float]:
    """By how many dB the clip is below the training clips' levels, and by how many above."""
    too_low = ranges.least.level_dbfs - clip.level_dbfs
    too_high = clip.level_dbfs - ranges.largest.level_dbfs
    return max(0.0, too_low), max(0.0, too_high)


def _bandwidth(ranges: FactRanges, clip: RecordingFacts) -> str:
    """Say where the sound ends earlier or later than in the normal clips; empty otherwise."""
    if clip.band_limit_hz != ranges.least.band_limit_hz:
        raise ValueError(
            f"The clip's facts reach to {clip.band_limit_hz:g} Hz, those of the training clips to "
            f"{ranges.least.band_limit_hz:g} Hz; resample it first"
        )
    levels = np.array(clip.band_levels)
    too_low, too_high = _beyond(ranges, clip)  # a gain alone is no change of bandwidth
    lacks = _cut(levels + too_low < np.array(ranges.least.band_levels) - CUT_DB)
    adds = _cut(levels - too_high > np.array(ranges.largest.band_levels) + CUT_DB)
    width = clip.band_limit_hz / BANDS
    if LOWEST_CUT_HZ <= lacks * width < clip.band_limit_hz:
        return (
            f"hardly any sound above {lacks * width / 1000:.1f} kHz, where the normal clips have "
            "some: another microphone, a telephone, a lossy format?"
        )
    if LOWEST_CUT_HZ <= adds * width < clip.band_limit_hz:
        return (
            f"sound above {adds * width / 1000:.1f} kHz, where the normal clips have hardly any: "
            "another microphone?"
        )
    return ""


def _cut(differs: NDArray[np.bool_]) -> int:
    """Count the bands below the uninterrupted ones that differ at the upper end."""
    same = np.flatnonzero(~differs)
    return int(same[-1]) + 1 if len(same) else 0


def _length(ranges: FactRanges, clip: RecordingFacts) -> str:
    least, largest = ranges.least.seconds, ranges.largest.seconds
    if least / LENGTH_FACTOR <= clip.seconds <= largest * LENGTH_FACTOR:
        return ""
    usual = f"{least:.3g} s" if least == largest else f"{least:.3g} to {largest:.3g} s"
    return f"{clip.seconds:.3g} s long, the normal clips {usual}"


def _sample_rate(ranges: FactRanges, clip: RecordingFacts) -> str:
    if clip.sample_rate in ranges.sample_rates:
        return ""
    usual = ", ".join(map(str, ranges.sample_rates))
    return f"recorded at {clip.sample_rate} Hz, the normal clips at {usual} Hz"
