"""What a machine's normal clips have in each frequency band: what a reason compares a clip with.

Frames are levels in dB, `(n_frames, n_bands)`, from the lowest band to the highest. A profile is
learned from the frames of normal clips alone, so that it stands beside any detector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

STATISTICS = ("level", "loud", "quiet", "unsteadiness")
"""Of a band of one clip, in dB: the mean over time, the mean of the loudest 1/32 and of the
quietest quarter of the frames, and the deviation over time."""
LOUD_SHARE, QUIET_SHARE = 1 / 32, 1 / 4
RARE = 0.01
"""Share of the normal frames above `frame_high`, and of those below `frame_low`."""

LEAST_SPREAD_DB = 0.25
PRIOR_CLIPS = 5
"""Weight of the other bands in the spread of a band, in clips."""
BIN_DB, LOWEST_DB, HIGHEST_DB = 0.5, -130.0, 90.0  # of the histograms that quantiles come from


def clip_statistics(frames: ArrayLike) -> Array:
    """Compute the `STATISTICS` of a clip's frames: (4, n_bands) in dB."""
    frames = np.asarray(frames, dtype=np.float32)
    n = len(frames)
    n_loud, n_quiet = max(1, round(n * LOUD_SHARE)), max(1, round(n * QUIET_SHARE))
    ordered = np.sort(np.ascontiguousarray(frames.T), axis=1)
    return np.stack(
        [
            ordered.mean(axis=1, dtype=np.float64),
            ordered[:, -n_loud:].mean(axis=1, dtype=np.float64),
            ordered[:, :n_quiet].mean(axis=1, dtype=np.float64),
            ordered.std(axis=1, dtype=np.float64),
        ]
    )


@dataclass(frozen=True, eq=False)
class NormalProfile:
    """Per band: statistics of normal clips (mean and spread from clip to clip) and of frames."""

    low_hz: Array
    """Edges of the bands, (n_bands,) each."""
    high_hz: Array
    frame_seconds: float
    """From one frame to the next."""
    n_clips: int
    mean: Array
    """(4, n_bands) in dB, in the order of `STATISTICS`."""
    spread: Array
    """Deviation from clip to clip, (4, n_bands) in dB, above zero; see `_steadied`."""
    frame_low: Array
    """1 % of the normal frames are below, (n_bands,) in dB."""
    frame_high: Array
    """1 % of the normal frames are above, (n_bands,) in dB."""

    @classmethod
    def of(
        cls, clips: Iterable[ArrayLike], low_hz: ArrayLike, high_hz: ArrayLike, frame_seconds: float
    ) -> NormalProfile:
        """Learn from the frames of normal clips, one clip at a time; no clip is a ValueError."""
        learner = ProfileLearner(np.asarray(low_hz), np.asarray(high_hz), frame_seconds)
        for frames in clips:
            learner.update(frames)
        return learner.profile()

    @property
    def centre_hz(self) -> Array:
        return (self.low_hz + self.high_hz) / 2

    @property
    def frame_mean(self) -> Array:
        """Mean of the normal frames, each clip counting alike: (n_bands,) in dB."""
        level: Array = self.mean[STATISTICS.index("level")]
        return level

    def deviations(self, frames: ArrayLike) -> Array:
        """Compare a clip with the normal ones: (4, n_bands), in spreads from their mean."""
        frames = self.checked(frames)
        deviations: Array = (clip_statistics(frames) - self.mean) / self.spread
        return deviations

    def checked(self, frames: ArrayLike) -> NDArray[np.float32]:
        """Return frames as float32; another number of bands, no frame or NaN is a ValueError."""
        return _checked(frames, len(self.low_hz))

    def to_dict(self) -> dict[str, Any]:
        """Return numbers and arrays by name, for JSON and safetensors."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> NormalProfile:
        """Build a profile from what `to_dict` gave; lists may stand for arrays."""
        wanted = {f.name for f in fields(cls)}
        if missing := wanted - content.keys():
            raise ValueError(f"The profile of normal clips lacks {', '.join(sorted(missing))}")
        arrays: dict[str, Any] = {
            name: np.asarray(content[name], dtype=np.float64)
            for name in wanted - {"frame_seconds", "n_clips"}
        }
        n_bands = len(arrays["low_hz"])
        for name, array in arrays.items():
            shape = (len(STATISTICS), n_bands) if name in ("mean", "spread") else (n_bands,)
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(
                    f"{name} of the profile of normal clips is {array.shape}, expected {shape} "
                    "finite numbers"
                )
        frame_seconds, n_clips = float(content["frame_seconds"]), int(content["n_clips"])
        return cls(frame_seconds=frame_seconds, n_clips=n_clips, **arrays)


@dataclass
class ProfileLearner:
    """Learns a profile clip by clip in constant memory, whatever the order of the clips."""

    low_hz: NDArray[np.floating]
    high_hz: NDArray[np.floating]
    frame_seconds: float
    n_clips: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        shape = (len(STATISTICS), len(self.low_hz))
        self._first, self._sum, self._squares = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        n_bins = round((HIGHEST_DB - LOWEST_DB) / BIN_DB)
        self._counts = np.zeros((len(self.low_hz), n_bins), dtype=np.int64)

    def update(self, frames: ArrayLike) -> None:
        """Take the frames of one more normal clip, (n_frames, n_bands) in dB."""
        frames = _checked(frames, len(self.low_hz))
        statistics = clip_statistics(frames)
        if self.n_clips == 0:
            self._first = statistics  # sums of differences from it keep their digits
        self._sum += statistics - self._first
        self._squares += np.square(statistics - self._first)
        self.n_clips += 1
        n_bands, n_bins = self._counts.shape
        bins = ((frames - LOWEST_DB) / BIN_DB).astype(np.int64).clip(0, n_bins - 1)
        flat = np.bincount((bins + np.arange(n_bands) * n_bins).ravel(), minlength=n_bands * n_bins)
        self._counts += flat.reshape(n_bands, n_bins)

    def profile(self) -> NormalProfile:
        """Conclude; at least one clip is needed."""
        if self.n_clips == 0:
            raise ValueError("A profile of normal clips needs at least one clip")
        shift = self._sum / self.n_clips
        variance = np.maximum(self._squares / self.n_clips - np.square(shift), 0.0)
        return NormalProfile(
            low_hz=np.asarray(self.low_hz, dtype=np.float64),
            high_hz=np.asarray(self.high_hz, dtype=np.float64),
            frame_seconds=float(self.frame_seconds),
            n_clips=self.n_clips,
            mean=self._first + shift,
            spread=_steadied(variance, self.n_clips),
            frame_low=self._quantile(RARE),
            frame_high=self._quantile(1 - RARE),
        )

    def _quantile(self, share: float) -> Array:
        """Return the middle of the bin that holds this quantile of the frames, (n_bands,)."""
        below = np.cumsum(self._counts, axis=1)
        bins = np.argmax(below >= share * below[:, -1:], axis=1)
        return LOWEST_DB + BIN_DB * (bins + 0.5)  # type: ignore[no-any-return]


def _steadied(variance: Array, n_clips: int) -> Array:
    """Turn the variance over clips, (4, n_bands), into a deviation that few clips can carry.

    The variance of a band is averaged with that of all bands, which has the weight of
    `PRIOR_CLIPS` clips; its root is at least `LEAST_SPREAD_DB`.
    """
    own = max(n_clips - 1, 0)
    common = variance.mean(axis=1, keepdims=True)
    mixed = (own * variance + PRIOR_CLIPS * common) / (own + PRIOR_CLIPS)
    return np.sqrt(np.maximum(mixed, LEAST_SPREAD_DB**2))  # type: ignore[no-any-return]


def _checked(frames: ArrayLike, n_bands: int) -> NDArray[np.float32]:
    checked = np.asarray(frames, dtype=np.float32)
    if checked.ndim != 2 or checked.shape[1] != n_bands or not len(checked):
        raise ValueError(f"Frames are (n_frames, {n_bands}) in dB, got {checked.shape}")
    if not np.isfinite(checked).all():
        raise ValueError("Frames hold NaN or infinite values; cut them at the end of their clip")
    return checked
