"""The page of a check: one file with verdicts, reasons as pictures, and sounds to listen to.

Pictures and sounds are inside the page, so that it opens anywhere. It stays small: a few clips per
machine are shown, and the others are counted.
"""

from __future__ import annotations

import heapq
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ground.files import write_whole
from report.heard_clips import Rebuilt
from report.media import data_uri, sound_of
from report.reason_picture import draw_reason
from report.templates import render

if TYPE_CHECKING:
    from detect.profile import NormalProfile
    from detect.reasons import Reason

FINDINGS_PER_MACHINE = 10
FINDINGS_PER_PAGE = 100
LONGEST_SOUND_S = 30.0
LEAD_S = 5.0
"""A longer clip is cut so that its strongest moment comes after so many seconds."""
ROWS_LISTED = 1000
WORST_WINDOWS = 10
POINTS = 600
"""A longer timeline is drawn by the highest score of every few windows."""
WIDTH, HEIGHT = 900.0, 160.0


@dataclass(frozen=True)
class JudgedClip:
    """A line of the page: one clip or window."""

    key: str
    machine: str
    verdict: str
    score: float | None
    p_value: float | None
    start_s: float | None
    end_s: float | None
    reason: str
    remarks: Sequence[str]

    @property
    def when(self) -> str:
        """Where the window lies in its recording, "" for a whole clip."""
        if self.start_s is None or self.end_s is None:
            return ""
        return f"{clock(self.start_s)} to {clock(self.end_s)}"

    @property
    def unusualness(self) -> tuple[float, float]:
        """Orders clips, the most anomalous last."""
        p_value = 2.0 if self.p_value is None else self.p_value
        return -p_value, self.score or 0.0


def clock(seconds: float) -> str:
    """Write seconds as minutes and seconds, with hours where there are any."""
    whole, tenths = divmod(round(seconds * 10), 10)
    hours, rest = divmod(whole, 3600)
    text = f"{rest // 60:02d}:{rest % 60:02d}" + (f".{tenths}" if tenths else "")
    return f"{hours}:{text}" if hours else text


@dataclass(frozen=True)
class Finding:
    """A clip that is not normal, with its picture and its sound as data URIs."""

    clip: JudgedClip
    picture: str
    sound: str
    sound_note: str
    reconstruction: str = ""
    """A picture of what an autoencoder rebuilds of it, where one judges it by its bands."""


@dataclass
class Findings:
    """Keeps the most anomalous clips of each machine, drawn as soon as they are known."""

    _kept: dict[str, list[tuple[tuple[float, float], int, Finding]]] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def add(
        self,
        clip: JudgedClip,
        waveform: NDArray[np.float32],
        sample_rate: int,
        frames: NDArray[np.floating],
        profile: NormalProfile,
        reason: Reason,
        rebuilt: Rebuilt | None = None,
    ) -> None:
        """Draw a clip, unless its machine has enough that are more anomalous."""
        kept = self._kept.setdefault(clip.machine, [])
        is_full = len(kept) == FINDINGS_PER_MACHINE
        if is_full and clip.unusualness <= kept[0][0]:
            return
        picture = io.BytesIO()
        draw_reason(picture, frames, profile, reason)
        sound, note = _sound(waveform, sample_rate, reason)
        uri = data_uri("image/png", picture.getvalue())
        finding = Finding(clip, uri, sound, note, _reconstruction(rebuilt, reason))
        entry = (clip.unusualness, next(self._numbers), finding)
        (heapq.heapreplace if is_full else heapq.heappush)(kept, entry)

    def worst_first(self) -> list[Finding]:
        """List them, the most anomalous first; at most `FINDINGS_PER_PAGE`."""
        entries = sorted((entry for kept in self._kept.values() for entry in kept), reverse=True)
        return [finding for _, _, finding in entries[:FINDINGS_PER_PAGE]]


def _reconstruction(rebuilt: Rebuilt | None, reason: Reason) -> str:
    """Draw what an autoencoder rebuilds, as a data URI; "" where there is none."""
    if rebuilt is None:
        return ""
    from report.reconstruction_picture import draw_reconstruction

    picture = io.BytesIO()
    draw_reconstruction(
        picture,
        rebuilt.reconstruction,
        rebuilt.low_hz,
        rebuilt.high_hz,
        rebuilt.frame_seconds,
        reason.rebuilt,
    )
    return data_uri("image/png", picture.getvalue())


def _sound(waveform: NDArray[np.float32], sample_rate: int, reason: Reason) -> tuple[str, str]:
    """Compress a clip, 30 s around its strongest moment at most; and say what was cut."""
    sound = sound_of(waveform, sample_rate, LONGEST_SOUND_S, reason.start_s, LEAD_S)
    if not sound.is_cut:
        return sound.uri, ""
    return sound.uri, f"from {clock(sound.first_s)} to {clock(sound.end_s)} of the clip"


@dataclass(frozen=True)
class Tick:
    """A mark on the time axis of a timeline."""

    x: float
    text: str


@dataclass(frozen=True)
class Timeline:
    """The scores of one long recording over time, in the units of its drawing."""

    key: str
    machine: str
    n_windows: int
    n_anomalous: int
    path: str
    marks: Sequence[float]
    """Where anomalous windows are, from left to right."""
    threshold_y: float | None
    ticks: Sequence[Tick]
    worst: Sequence[JudgedClip]


def timelines(clips: Sequence[JudgedClip], thresholds: Mapping[str, float]) -> list[Timeline]:
    """Draw the scores of each recording that was cut into windows."""
    by_recording: dict[tuple[str, str], list[JudgedClip]] = {}
    for clip in clips:
        if clip.start_s is not None and clip.score is not None:
            by_recording.setdefault((clip.key, clip.machine), []).append(clip)
    return [_timeline(own, thresholds.get(own[0].machine)) for own in by_recording.values()]


def _timeline(windows: Sequence[JudgedClip], threshold: float | None) -> Timeline:
    """Lay out the scores of a long recording over time, as points of an SVG."""
    scores = np.array([window.score for window in windows], dtype=np.float64)
    times = np.array([((w.start_s or 0.0) + (w.end_s or 0.0)) / 2 for w in windows])
    end = max(window.end_s or 0.0 for window in windows)
    low, high = float(scores.min()), float(scores.max())
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    margin = 0.06 * (high - low) or 1.0
    low, high = low - margin, high + margin

    def y(score: float) -> float:
        return round(HEIGHT * (high - score) / (high - low), 1)

    def x(seconds: float) -> float:
        return round(WIDTH * seconds / end, 1)

    step = -(-len(windows) // POINTS)
    parts = [slice(start, start + step) for start in range(0, len(windows), step)]
    points = [(x(float(times[part].mean())), y(float(scores[part].max()))) for part in parts]
    anomalous = [x(time) for time, w in zip(times, windows, strict=True) if w.verdict == ANOMALOUS]
    return Timeline(
        key=windows[0].key,
        machine=windows[0].machine,
        n_windows=len(windows),
        n_anomalous=len(anomalous),
        path="M" + " L".join(f"{a} {b}" for a, b in points),
        marks=sorted(set(anomalous)),
        threshold_y=None if threshold is None else y(threshold),
        ticks=[Tick(x(end * i / 4), clock(round(end * i / 4))) for i in range(5)],
        worst=sorted(windows, key=lambda w: w.unusualness, reverse=True)[:WORST_WINDOWS],
    )


ANOMALOUS = "anomalous"
VERDICTS = (ANOMALOUS, "suspicious", "normal", "unknown")


def write_check_page(
    path: Path,
    title: str,
    clips: Sequence[JudgedClip],
    findings: Findings,
    thresholds: Mapping[str, float],
    notes: Sequence[str] = (),
) -> None:
    """Write the page; `thresholds` are the scores above which clips are anomalous, by machine."""
    counts = {verdict: sum(clip.verdict == verdict for clip in clips) for verdict in VERDICTS}
    order = {verdict: number for number, verdict in enumerate(VERDICTS)}
    listed = sorted(clips, key=lambda c: (order[c.verdict], *(-v for v in c.unusualness)))
    shown = findings.worst_first()
    text = render(
        "check.html.j2",
        title=title,
        counts=counts,
        notes=notes,
        findings=shown,
        n_not_shown=counts[ANOMALOUS] + counts["suspicious"] - len(shown),
        timelines=timelines(clips, thresholds),
        width=WIDTH,
        height=HEIGHT,
        clips=listed[:ROWS_LISTED],
        n_not_listed=max(0, len(listed) - ROWS_LISTED),
        has_times=any(clip.start_s is not None for clip in clips),
        has_remarks=any(clip.reason or clip.remarks for clip in clips),
    )
    write_whole(path, text)
