"""The clips that a page lets people hear: which ones, and what is shown of each."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from report.machine_scores import MachineScores
from report.media import data_uri, map_uri, sound_of
from report.reason_picture import LARGEST_DIFFERENCE_DB
from report.reconstruction_picture import draw_reconstruction, largest_error

if TYPE_CHECKING:
    from detect.profile import NormalProfile
    from detect.reasons import Reason
    from detect.reconstruction import Reconstruction, WorstRebuilt

Array = NDArray[np.floating]

LONGEST_SOUND_S = 10.0
TICKS_HZ = (100, 250, 500, 1000, 2000, 4000, 8000, 16_000)
CLOSEST_TICKS = 9.0
"""Percent of an axis."""
CLIPS_ON_A_PAGE = 48
"""Over all machines: such a page stays below 10 MB, and is written in seconds."""


@dataclass(frozen=True)
class WorstClip:
    """A clip worth hearing, and why."""

    key: str
    why: str


@dataclass(frozen=True)
class Mark:
    """A number beside an axis, in percent of its length."""

    at: float
    text: str


@dataclass(frozen=True)
class Box:
    """The band and the moment that a sentence names, in percent of a picture."""

    left: float
    bottom: float
    width: float
    height: float


@dataclass(frozen=True)
class Picture:
    """A map over time and frequency: its pixels, its scale and what it says in words."""

    title: str
    uri: str
    low: str
    high: str
    says: str
    box: Box | None = None
    ramp: str = "cividis"
    """The colours of its scale."""
    hertz: Sequence[Mark] = ()
    """Beside its axis, where it is not that of the others."""


@dataclass(frozen=True)
class Player:
    """A sound with its name."""

    name: str
    key: str
    uri: str
    note: str = ""


@dataclass(frozen=True)
class HeardClip:
    """What a page shows of one clip."""

    key: str
    player: Player
    reason: str
    pictures: Sequence[Picture]
    hertz: Sequence[Mark]
    seconds: Sequence[Mark]
    nearest: Player | None = None
    curves: str = ""
    """A picture of what an autoencoder rebuilds of one vector, as a data URI."""

    @property
    def size(self) -> int:
        """Count the bytes that its sounds and pictures take on the page."""
        uris = [self.player.uri, self.curves, *(picture.uri for picture in self.pictures)]
        return sum(map(len, uris)) + (len(self.nearest.uri) if self.nearest else 0)


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """What an autoencoder rebuilds of a clip, and the bands of its numbers."""

    reconstruction: Reconstruction
    low_hz: Array
    high_hz: Array
    frame_seconds: float | None


def worst_clips(machine: MachineScores, n: int) -> list[WorstClip]:
    """Choose clips to hear: misses and false alarms in turn, the worst of each first.

    A miss is an anomalous clip with a low score, a false alarm a normal one with a high score;
    without labels these are the most anomalous clips.
    """
    decided = machine.result.decided if machine.result else None
    threshold = decided.threshold if decided else None
    by_score = list(zip(machine.keys, machine.labels, machine.scores.tolist(), strict=True))
    kinds: list[list[WorstClip]] = []
    for label, clips in (
        ("anomalous", by_score[::-1]),
        ("normal", by_score),
        ("unknown", by_score),
    ):
        own = [(key, score) for key, kind, score in clips if kind == label]
        kinds.append([WorstClip(key, _why(label, score, threshold)) for key, score in own])
    in_turn = [clip for row in zip_longest(*kinds) for clip in row if clip is not None]
    return in_turn[:n]


def _why(label: str, score: float, threshold: float | None) -> str:
    """Say in which way a clip is among the worst."""
    if label == "unknown":
        return "among the most anomalous"
    if label == "anomalous":
        missed = threshold is not None and score <= threshold
        return "a miss: anomalous, below the threshold" if missed else "anomalous, with a low score"
    raised = threshold is not None and score > threshold
    return "a false alarm: normal, above the threshold" if raised else "normal, with a high score"


def heard_clip(
    key: str,
    waveform: NDArray[np.float32],
    sample_rate: int,
    frames: Array,
    profile: NormalProfile,
    reason: Reason,
    rebuilt: Rebuilt | None = None,
) -> HeardClip:
    """Draw a clip and compress its sound; `frames` are (n_frames, n_bands) in dB."""
    levels = profile.checked(frames)
    sound = sound_of(waveform, sample_rate, LONGEST_SOUND_S, reason.start_s)
    note = f"{sound.first_s:.1f} to {sound.end_s:.1f} s of the clip" if sound.is_cut else ""
    end_s = len(levels) * profile.frame_seconds
    box = _box(profile, reason, end_s)
    pictures = [_level(levels, box), _difference(levels, profile, reason, box)]
    curves = ""
    if rebuilt is not None and rebuilt.frame_seconds is not None:
        pictures += _rebuilt(rebuilt, reason.rebuilt)
    elif rebuilt is not None:
        curves = _curves(rebuilt, reason)
    return HeardClip(
        key,
        Player(PurePosixPath(key).name, key, sound.uri, note),
        reason.sentence,
        pictures,
        _hertz(profile.centre_hz),
        _seconds(end_s),
        curves=curves,
    )


def nearest_player(key: str, waveform: NDArray[np.float32], sample_rate: int) -> Player:
    """Compress the nearest normal clip, to compare by ear."""
    sound = sound_of(waveform, sample_rate, LONGEST_SOUND_S)
    note = f"its first {sound.end_s:.0f} s" if sound.is_cut else ""
    return Player(PurePosixPath(key).name, key, sound.uri, note)


def attention_picture(attention: Array, name: str, centre_hz: Array) -> Picture:
    """Draw where a transformer looks, (n_columns, n_bands), low bands of `centre_hz` first."""
    high = float(attention.max()) or 1.0
    return Picture(
        "attention",
        map_uri(attention, (0.0, high), "gray"),
        "none",
        "most",
        f"where {name} looks, by the rollout of its attention over all layers (Abnar and Zuidema "
        "2020), from the class token to patches",
        ramp="gray",
        hertz=_hertz(centre_hz),
    )


def _level(levels: Array, box: Box | None) -> Picture:
    low, high = (float(v) for v in np.percentile(levels, (2, 99.8)))
    says = f"log-mel levels over time, from {round(low)} to {round(high)} dB"
    return Picture(
        "level", map_uri(levels, (low, high)), f"{round(low)}", f"{round(high)} dB", says, box
    )


def _difference(levels: Array, profile: NormalProfile, reason: Reason, box: Box | None) -> Picture:
    difference = levels - profile.frame_mean
    limit = min(LARGEST_DIFFERENCE_DB, max(6.0, float(np.percentile(np.abs(difference), 99.5))))
    return Picture(
        "minus normal mean",
        map_uri(difference, (-limit, limit), "PuOr_r"),
        f"-{limit:.0f}",
        f"+{limit:.0f} dB",
        f"difference from the mean normal frame: {reason.finding}",
        box,
        ramp="diverging",
    )


def _rebuilt(rebuilt: Rebuilt, worst: WorstRebuilt | None) -> list[Picture]:
    """Draw the reconstruction and its error beside the clip."""
    shown = rebuilt.reconstruction
    low, high = (float(v) for v in np.nanpercentile(shown.given, (2, 99.8)))
    ratio = shown.error / np.maximum(shown.normal_error, np.finfo(float).tiny)
    largest = largest_error(ratio)
    box = None
    if worst is not None and rebuilt.frame_seconds is not None:
        bands = np.flatnonzero(
            (rebuilt.low_hz >= worst.low_hz - 1e-6) & (rebuilt.high_hz <= worst.high_hz + 1e-6)
        )
        end_s = len(shown.given) * rebuilt.frame_seconds
        times = (worst.start_s or 0.0, end_s if worst.end_s is None else worst.end_s)
        box = _box_at(bands, len(rebuilt.low_hz), times, end_s)
    level = (f"{round(low)}", f"{round(high)} dB")
    return [
        Picture(
            "its reconstruction",
            map_uri(shown.rebuilt, (low, high)),
            *level,
            "what the autoencoder rebuilds of the clip, on the scale of the clip's levels",
        ),
        Picture(
            "squared error",
            map_uri(ratio, (0.0, largest)),
            "0",
            f"{largest:.0f} times training",
            "the error of the reconstruction, in mean errors of the training clips",
            box,
        ),
    ]


def _curves(rebuilt: Rebuilt, reason: Reason) -> str:
    """Draw the reconstruction of one vector as curves over the bands."""
    picture = io.BytesIO()
    shown = (rebuilt.reconstruction, rebuilt.low_hz, rebuilt.high_hz, None, reason.rebuilt)
    draw_reconstruction(picture, *shown)
    return data_uri("image/png", picture.getvalue())


def _box(profile: NormalProfile, reason: Reason, end_s: float) -> Box | None:
    """Place the band and moment of a reason; None where it is the whole picture."""
    if reason.all_bands and reason.start_s is None:
        return None
    bands = np.flatnonzero(
        (profile.low_hz >= reason.low_hz - 1e-6) & (profile.high_hz <= reason.high_hz + 1e-6)
    )
    times = (reason.start_s or 0.0, end_s if reason.end_s is None else reason.end_s)
    return _box_at(bands, len(profile.low_hz), times, end_s)


def _box_at(
    bands: NDArray[np.int64], n_bands: int, times: tuple[float, float], end_s: float
) -> Box:
    left, right = (100 * min(time / end_s, 1.0) for time in times)
    bottom, height = 100 * bands[0] / n_bands, 100 * len(bands) / n_bands
    return Box(round(left, 2), round(bottom, 2), round(right - left, 2), round(height, 2))


def _seconds(end_s: float) -> list[Mark]:
    """Place round times along a clip, four or so."""
    from matplotlib.ticker import MaxNLocator

    times = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(0.0, end_s)
    inside = [float(time) for time in times if 0 <= time < 0.93 * end_s]
    return [Mark(round(100 * time / end_s, 1), f"{time:g} s") for time in inside]


def _hertz(centre_hz: Array) -> list[Mark]:
    """Place round frequencies beside an axis of band numbers, not too close to each other."""
    marks: list[Mark] = []
    for hz in TICKS_HZ:
        if not centre_hz[0] <= hz <= centre_hz[-1] * 1.03:
            continue
        at = 100 * (float(np.interp(hz, centre_hz, np.arange(len(centre_hz)))) + 0.5)
        at = round(at / len(centre_hz), 1)
        if not marks or at - marks[-1].at >= CLOSEST_TICKS:
            marks.append(Mark(at, f"{hz / 1000:g}k" if hz >= 1000 else f"{hz}"))
    return marks
