"""What an autoencoder rebuilds of a clip, and at which band and moment it is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detect.detector import facts_of_class, last_step

Array = NDArray[np.float64]

EDGE = 0.5  # the named band and moment end where the excess has fallen to this share of its peak
SMOOTHED = 3  # bands, and frames
MOST_OF_CLIP = 0.5  # a moment longer than this share of the clip is the whole clip


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A clip beside what a detector rebuilds of it; (n_frames, dim) each, one frame for a vector.

    NaN where the network does not look.
    """

    given: Array
    """As the encoder gave it."""
    rebuilt: Array
    """In the same units."""
    error: Array
    """Squared, in the units of the score: its mean is the score, but for Mahalanobis modes."""
    normal_error: Array
    """Mean squared error of the training clips in each number, (dim,)."""

    @property
    def excess(self) -> Array:
        """Error above that of the training clips, (dim,); their mean is what the score rose by."""
        mean: Array = np.nanmean(self.error, axis=0)
        return mean - self.normal_error


@dataclass(frozen=True)
class WorstRebuilt:
    """Where the error exceeds that of the training clips most."""

    ratio: float
    """Error there over that of the training clips in these bands."""
    low_hz: float
    high_hz: float
    start_s: float | None
    """None where it is the whole clip, or where there is no time."""
    end_s: float | None


def reconstruct(detector: Any, clip: ArrayLike) -> Reconstruction | None:
    """Rebuild one clip, (dim,) or (n_frames, dim); None for a detector that rebuilds nothing.

    `detector` is fitted, behind its scaler or alone. One that was fitted before errors of
    training clips were kept gives None too.
    """
    inner, scaler = last_step(detector), getattr(detector, "scaler", None)
    normal_error = getattr(inner, "normal_error_", None)
    if not facts_of_class(type(inner)).reconstructs or normal_error is None:
        return None
    given = np.asarray(clip)[None]
    seen = given if scaler is None else scaler.transform(given)
    rebuilt = np.asarray(inner.reconstruct(seen), dtype=np.float64)
    if scaler is not None:
        rebuilt = rebuilt * scaler.scale_ + scaler.mean_
    dim = given.shape[-1]
    return Reconstruction(
        given.astype(np.float64).reshape(-1, dim),
        rebuilt.reshape(-1, dim),
        np.asarray(inner.squared_errors(seen), dtype=np.float64).reshape(-1, dim),
        np.asarray(normal_error, dtype=np.float64),
    )


def worst_rebuilt(
    reconstruction: Reconstruction,
    low_hz: ArrayLike,
    high_hz: ArrayLike,
    frame_seconds: float | None = None,
) -> WorstRebuilt | None:
    """Find the band and the moment with the largest error above that of the training clips.

    `low_hz` and `high_hz` (dim,) are the edges of each number's band, NaN where it has none.
    `frame_seconds` is None for a vector, which has no time. The excess of a band is averaged over
    time, and over three neighbours; the band reaches as far as half of the largest, and so does
    the moment in that band. None where no band is rebuilt worse than in the training clips.
    """
    low, high = np.asarray(low_hz, np.float64), np.asarray(high_hz, np.float64)
    excess = np.where(np.isfinite(low), reconstruction.excess, -np.inf)
    bands = neighbouring_bands(low)
    curve = _smooth(excess[bands])
    if not len(curve) or not curve.max() > 0:
        return None
    chosen = bands[around(curve, int(curve.argmax()))]
    seen = ~np.isnan(reconstruction.error).any(axis=1)
    over_time = reconstruction.error[seen][:, chosen].mean(axis=1)
    normal = float(reconstruction.normal_error[chosen].mean())
    start = end = None
    if frame_seconds is not None and len(over_time) > 1:
        above = _smooth(over_time - normal)
        moment = around(above, int(above.argmax()))
        if moment.stop - moment.start <= MOST_OF_CLIP * len(above):
            frames = np.flatnonzero(seen)
            start = max(0.0, float(frames[moment.start]) - 0.5) * frame_seconds
            end = (float(frames[moment.stop - 1]) + 0.5) * frame_seconds
            over_time = over_time[moment]
    ratio = float(over_time.mean()) / max(normal, np.finfo(float).tiny)
    return WorstRebuilt(ratio, float(low[chosen[0]]), float(high[chosen[-1]]), start, end)


def neighbouring_bands(low_hz: ArrayLike) -> NDArray[np.int64]:
    """Choose the first features that are bands one above the other, by their lower edges (dim,)."""
    low = np.asarray(low_hz, dtype=np.float64)
    rising = np.diff(low) > 0  # False at NaN, and where a second kind of number begins
    n = len(low) if rising.all() else int(np.argmin(rising)) + 1
    return np.arange(n if len(low) and np.isfinite(low[0]) else 0)


def _smooth(curve: Array) -> Array:
    """Average three neighbours, fewer at the ends."""
    kernel = np.ones(SMOOTHED)
    weight = np.convolve(np.ones_like(curve), kernel, mode="same")
    return np.convolve(curve, kernel, mode="same")[: len(curve)] / weight[: len(curve)]


def around(curve: Array, peak: int) -> slice:
    """Find the places around the peak where a curve stays above `EDGE` of its height."""
    low = np.flatnonzero(curve < EDGE * curve[peak])
    start = low[low < peak].max(initial=-1) + 1
    stop = low[low > peak].min(initial=len(curve))
    return slice(int(start), int(stop))
