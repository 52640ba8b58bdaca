"""The scores of each machine over the last hour, day and week, at a resolution for a drawing."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from datetime import datetime

from pipeline.watching.machine_records import last_window_id, windows_after

SPANS_S = {"hour": 3600, "day": 86_400, "week": 604_800}
POINTS = 240
"""A span is cut into so many parts; a part shows its highest score."""
LOOKED_BACK = 200_000
"""Windows that are read at the start; older ones are not shown."""
SEVERITY = {"anomalous": 2, "suspicious": 1}


@dataclass(frozen=True)
class Point:
    """The windows of one part of a span: their highest score and their worst verdict."""

    part: int
    """Number of the part, counted from 1970."""
    score: float
    severity: int


@dataclass
class ScoreHistory:
    """Grows by the windows that are new at each reading; its size is bounded."""

    _last_id: int | None = None
    _points: dict[tuple[str, str], dict[int, Point]] = field(default_factory=dict)
    """By machine and span, by part."""

    def read(self, connection: sqlite3.Connection) -> None:
        """Take in the windows that were judged since the last reading."""
        if self._last_id is None:
            self._last_id = max(0, last_window_id(connection) - LOOKED_BACK)
        for window in windows_after(connection, self._last_id):
            self._last_id = window.id
            if window.score is not None:
                severity = SEVERITY.get(window.verdict, 0)
                self._add(window.machine, window.at, window.score, severity)

    def points(self, machine: str, span: str, now: datetime) -> list[Point]:
        """Return the points of a machine within a span that ends now, oldest first."""
        first = first_part(span, now)
        kept = self._points.get((machine, span), {})
        return sorted((p for p in kept.values() if p.part >= first), key=lambda p: p.part)

    def _add(self, machine: str, at: str, score: float, severity: int) -> None:
        """Take in one window, and forget the oldest points beyond what a drawing shows."""
        seconds = datetime.fromisoformat(at).timestamp()
        for span in SPANS_S:
            points = self._points.setdefault((machine, span), {})
            part = int(seconds // part_s(span))
            earlier = points.get(part, Point(part, score, severity))
            points[part] = Point(part, max(earlier.score, score), max(earlier.severity, severity))
            if len(points) > 2 * POINTS:
                for oldest in sorted(points)[:POINTS]:
                    del points[oldest]


def part_s(span: str) -> float:
    """Return the seconds of one part of a span."""
    return SPANS_S[span] / POINTS


def first_part(span: str, now: datetime) -> int:
    """Return the number of the first part of a span that ends now."""
    return int(now.timestamp() // part_s(span)) - POINTS + 1
