"""Durations, sizes and times of day as a person writes them: `10m`, `1GB`, `22:00-06:00`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time

from pipeline.exits import UsageError

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)")


def seconds_of(text: str, what: str) -> float:
    """Read a duration such as `90s`, `10m`, `2h`, `1d` or `0`; UsageError for anything else.

    `what` names the setting in the message.
    """
    number, unit = _parts(text)
    unit = unit.lower()
    if number is None or (unit not in SECONDS and number):
        raise UsageError(f"{what} {text}: expected a duration such as 90s, 10m, 2h, or 0 for never")
    return number * SECONDS.get(unit, 1.0)


def bytes_of(text: str, what: str) -> int:
    """Read a size such as `500MB` or `1GB`, of 10^6 and 10^9 bytes; UsageError for others."""
    number, unit = _parts(text)
    if number is None or (unit.upper() not in BYTES and number):
        raise UsageError(f"{what} {text}: expected a size such as 500MB, 1GB, or 0 for none")
    return round(number * BYTES.get(unit.upper(), 1))


def _parts(text: str) -> tuple[float | None, str]:
    match = _AMOUNT.fullmatch(text.strip())
    return (float(match[1]), match[2]) if match else (None, "")


@dataclass(frozen=True)
class QuietHours:
    """A part of every day, in local time; it may go over midnight."""

    start: time
    end: time

    @classmethod
    def parse(cls, text: str) -> QuietHours:
        """Read `22:00-06:00`; UsageError for anything else."""
        start, _, end = text.partition("-")
        try:
            hours = cls(time.fromisoformat(start.strip()), time.fromisoformat(end.strip()))
        except ValueError:
            hours = None
        if hours is None or hours.start == hours.end:
            raise UsageError(f"--quiet-hours {text}: expected two times such as 22:00-06:00")
        return hours

    def covers(self, now: time) -> bool:
        """Tell whether a time of day is in them; the end is not."""
        if self.start < self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end
