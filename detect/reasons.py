"""Why a clip is unusual: the band and the moment that deviate most from the normal clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detect.profile import STATISTICS, NormalProfile
from detect.reconstruction import WorstRebuilt, around

Array = NDArray[np.float64]
Direction = Literal["louder", "quieter", "more unsteady", "steadier"]

SMOOTHED_BANDS = 3
LEAST_WEIGHT = 0.1  # of a band that the detector does not look at, against the one it weighs most
JOINED_SECONDS = 0.15  # shorter gaps do not part two moments
MOST_OF_CLIP = 0.5  # more than this share of unusual frames is the whole clip
LOWEST_NAMED_HZ = 30.0
STANDS_OUT = 2.5  # deviations; the largest of about one normal clip in eight is beyond
LOUD, QUIET = STATISTICS.index("loud"), STATISTICS.index("quiet")


@dataclass(frozen=True)
class Reason:
    """Where a clip deviates most from the normal ones; `sentence` says it in words."""

    direction: Direction
    low_hz: float
    high_hz: float
    all_bands: bool
    start_s: float | None
    """The strongest moment, or None where it is the whole clip."""
    end_s: float | None
    n_moments: int
    """How many moments deviate, 0 where it is the whole clip."""
    strength_db: float
    """How much more or less of it than the mean normal clip has, above zero; see `explain`."""
    deviation: float
    """The same in deviations of normal clips from their mean, above zero."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Each member's share of a fused score."""
    nearest: str | None = None
    """Key of the most similar normal clip."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """What a member heard that has no frequency, such as peakedness."""
    rebuilt: WorstRebuilt | None = None
    """Where an autoencoder rebuilds the clip worse than its training clips."""
    rebuilt_by: str = ""
    """The member that it is."""

    @property
    def sentence(self) -> str:
        """Say it in one sentence, without a capital and a full stop."""
        parts = [self.finding]
        if self.rebuilt is not None:
            parts.append(f"{self.rebuilt_by} {_rebuilt(self.rebuilt)}".strip())
        named = [(share, name) for name, share in self.shares.items() if round(share, 2) > 0]
        if len(self.shares) > 1 and named:
            ranked = sorted(named, key=lambda pair: (-pair[0], pair[1]))
            found = [f"{name} {share:.0%}{self._kind_of(name)}" for share, name in ranked]
            parts.append("found by " + ", ".join(found))
        if self.nearest is not None:
            parts.append(f"the nearest normal clip is {self.nearest}")
        return "; ".join(parts)

    def _kind_of(self, name: str) -> str:
        return f" ({self.kinds[name]})" if self.kinds.get(name) else ""

    def later_by(self, seconds: float) -> Reason:
        """Count its moments from a time that is `seconds` earlier, as of a window's recording."""
        later = self
        if self.start_s is not None and self.end_s is not None:
            later = replace(self, start_s=self.start_s + seconds, end_s=self.end_s + seconds)
        worst = self.rebuilt
        if worst is not None and worst.start_s is not None and worst.end_s is not None:
            times = {"start_s": worst.start_s + seconds, "end_s": worst.end_s + seconds}
            later = replace(later, rebuilt=replace(worst, **times))
        return later

    @property
    def finding(self) -> str:
        """Say the deviation alone, without members and neighbours."""
        hardly = "" if self.deviation >= STANDS_OUT else "no band stands out; at most, "
        amount = f"by {_decibels(self.strength_db)}"
        where = "at all frequencies" if self.all_bands else hertz(self.low_hz, self.high_hz)
        return f"{hardly}{self.direction} than usual {amount} {where}, {self._when()}"

    def _when(self) -> str:
        if self.start_s is None or self.end_s is None:
            return "through the whole clip"
        when = seconds(self.start_s, self.end_s)
        others = self.n_moments - 1
        if others:
            when += f" and at {others} other moment{'s' if others > 1 else ''}"
        return when


def explain(
    frames: ArrayLike,
    profile: NormalProfile,
    *,
    weights: ArrayLike | None = None,
    shares: Mapping[str, float] | None = None,
    nearest: str | None = None,
) -> Reason:
    """Find the band and the moment of a clip that deviate most from the profile.

    `frames` are the clip's levels in dB, (n_frames, n_bands). Each band is compared by four
    statistics (`detect.profile.STATISTICS`), each in deviations of the normal clips. `weights`
    (n_bands,) say how much of the score comes from each band: contributions spread over the bands,
    or an autoencoder's error. A band counts by its deviation times the root of its weight, so that
    it has to be unusual both for the detector and to the ear; negative weights count as 0. The
    strength is the difference from the normal mean of the statistic that deviates most: of the
    level (of the loudest moments, or of the quiet ones), or of its deviation over time.
    `shares` and `nearest` are passed on to the sentence.
    """
    frames = profile.checked(frames)
    deviations = profile.deviations(frames)
    statistic, bands, deviation = _most_deviating(deviations, weights)
    sign = 1.0 if deviation >= 0 else -1.0
    difference = deviations[statistic] * profile.spread[statistic]
    moments = _moments(frames, profile, bands, STATISTICS[statistic], sign)
    start, end = moments[0] if moments else (None, None)
    return Reason(
        direction=_direction(STATISTICS[statistic], sign),
        low_hz=float(profile.low_hz[bands.start]),
        high_hz=float(profile.high_hz[bands.stop - 1]),
        all_bands=bands.stop - bands.start == len(difference),
        start_s=None if start is None else start * profile.frame_seconds,
        end_s=None if end is None else end * profile.frame_seconds,
        n_moments=len(moments),
        strength_db=float(abs(difference[bands].mean())),
        deviation=abs(deviation),
        shares=dict(shares or {}),
        nearest=nearest,
    )


def _most_deviating(deviations: Array, weights: ArrayLike | None) -> tuple[int, slice, float]:
    """Choose the statistic and the bands that deviate most: its number, the bands, how far.

    `deviations` are (n_statistics, n_bands). A band stands out only as far as it does both from
    the normal clips and from the other bands of its own clip, whose median is the deviation of
    all frequencies together. All bands are chosen where that median itself stands out, and is
    larger than what any band has beyond it.
    """
    smooth = _smoothed(deviations)
    together = np.median(smooth, axis=1)
    beyond = smooth - together[:, None]
    agrees = np.sign(beyond) == np.sign(smooth)
    apart = np.where(agrees, np.sign(smooth) * np.minimum(np.abs(smooth), np.abs(beyond)), 0.0)
    evidence = np.abs(apart) * np.sqrt(_relative(weights, smooth.shape[1]))
    if np.abs(together).max() > max(evidence.max(), STANDS_OUT):
        statistic = _in_plain_words(int(np.abs(together).argmax()), together)
        return statistic, slice(0, smooth.shape[1]), float(together[statistic])
    row, peak = np.unravel_index(int(evidence.argmax()), evidence.shape)
    statistic = _in_plain_words(int(row), apart[:, peak])
    bands = around(np.sign(apart[statistic, peak]) * apart[statistic], int(peak))
    return statistic, bands, float(smooth[statistic, peak])


def _in_plain_words(statistic: int, deviations: Array) -> int:
    """Replace more unsteadiness by its cause where one stands out: loud moments, or quiet ones.

    `deviations` (n_statistics,) are those of one band.
    """
    if STATISTICS[statistic] != "unsteadiness" or deviations[statistic] < 0:
        return statistic
    signed = {"loud": deviations[LOUD], "quiet": -deviations[QUIET]}
    cause = max(signed, key=lambda name: signed[name])
    return STATISTICS.index(cause) if signed[cause] >= STANDS_OUT else statistic


def _smoothed(deviations: Array) -> Array:
    """Average neighbouring bands; (n_statistics, n_bands)."""
    half = SMOOTHED_BANDS // 2
    padded = np.pad(deviations, ((0, 0), (half, half)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, SMOOTHED_BANDS, axis=1)
    return windows.mean(axis=2)  # type: ignore[no-any-return]


def _relative(weights: ArrayLike | None, n_bands: int) -> Array:
    """Bring weights to `LEAST_WEIGHT` .. 1; all 1 where there are none above zero."""
    if weights is None:
        return np.ones(n_bands)
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (n_bands,):
        raise ValueError(f"weights are (n_bands,) = ({n_bands},), got {weights.shape}")
    smooth = _smoothed(weights[None])[0]
    largest = smooth.max()
    if not largest > 0:
        return np.ones(n_bands)
    return np.clip(smooth / largest, LEAST_WEIGHT, 1.0)  # type: ignore[no-any-return]


def _direction(statistic: str, sign: float) -> Direction:
    if statistic == "unsteadiness":
        return "more unsteady" if sign > 0 else "steadier"
    return "louder" if sign > 0 else "quieter"


def _moments(
    frames: NDArray[np.float32],
    profile: NormalProfile,
    bands: slice,
    statistic: str,
    sign: float,
) -> list[tuple[float, float]]:
    """Find the moments beyond nearly all normal frames, in frames, strongest first.

    Frame i stands for the time from i - 1/2 to i + 1/2. Nothing is returned where most frames are
    unusual, or where no frame alone is unusual (a steadier clip has none): then it is the
    whole clip.
    """
    if statistic == "unsteadiness" and sign < 0:
        return []
    above = (frames[:, bands] - profile.frame_high[bands]).mean(axis=1)
    below = (profile.frame_low[bands] - frames[:, bands]).mean(axis=1)
    if statistic == "unsteadiness":
        excess = max(above, below, key=lambda curve: float(np.maximum(curve, 0).sum()))
    else:
        excess = above if sign > 0 else below
    unusual = excess > 0
    if not unusual.any() or unusual.mean() > MOST_OF_CLIP:
        return []
    unusual = _joined(unusual, JOINED_SECONDS / profile.frame_seconds)
    edges = np.flatnonzero(np.diff(unusual, prepend=False, append=False))
    runs = list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
    runs.sort(key=lambda run: -np.maximum(excess[run[0] : run[1]], 0).sum())
    return [(max(0.0, start - 0.5), min(stop - 0.5, len(frames) - 1.0)) for start, stop in runs]


def _joined(unusual: NDArray[np.bool_], longest_gap: float) -> NDArray[np.bool_]:
    """Fill gaps of at most so many frames between unusual ones."""
    at = np.flatnonzero(unusual)
    joined = unusual.copy()
    for before, after in pairwise(at.tolist()):
        if after - before - 1 <= longest_gap:
            joined[before:after] = True
    return joined


def _rebuilt(worst: WorstRebuilt) -> str:
    """Say where a clip is rebuilt worse than the training clips, with the verb first."""
    when = ""
    if worst.start_s is not None and worst.end_s is not None:
        when = f", {seconds(worst.start_s, worst.end_s)}"
    ratio = f"{worst.ratio:.0f}" if worst.ratio >= 9.95 else f"{worst.ratio:.1f}"
    where = hertz(worst.low_hz, worst.high_hz)
    return f"rebuilds it with {ratio} times the error of the training clips {where}{when}"


def hertz(low: float, high: float) -> str:
    """Name a band with two digits or so: `at 2.1 to 2.6 kHz`, `near 90 Hz`, `below 120 Hz`."""
    if high < 1000:
        unit, lower, upper = "Hz", f"{10 * round(low / 10)}", f"{10 * round(high / 10)}"
    else:
        unit, lower, upper = "kHz", f"{low / 1000:.1f}", f"{high / 1000:.1f}"
    if low < LOWEST_NAMED_HZ:
        return f"below {upper} {unit}"
    return f"near {upper} {unit}" if lower == upper else f"at {lower} to {upper} {unit}"


def seconds(start: float, end: float) -> str:
    """Name a time to 0.1 s: `from 3.2 to 4.0 s`, or `at 3.2 s`."""
    first, last = f"{start:.1f}", f"{end:.1f}"
    return f"at {first} s" if first == last else f"from {first} to {last} s"


def _decibels(amount: float) -> str:
    return f"{amount:.0f} dB" if amount >= 1.95 else f"{max(amount, 0.1):.1f} dB"
