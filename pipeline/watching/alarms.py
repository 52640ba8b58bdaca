"""When the windows of a machine become an alarm, and when it is over: a pure state machine.

An alarm begins when `needed` of the last `of` windows are anomalous, the newest among them. It is
over when none of the last `of` is. The next one begins after the cooldown at the earliest. A
machine that is switched off is no anomaly, and its windows count for nothing. All times are seconds
since 1970.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import comb
from typing import Any, Literal, cast

from pipeline.exits import UsageError

State = Literal["waiting", "normal", "alarm", "off", "no audio"]
Change = Literal["alarm", "alarm_over", "no_audio", "audio_back"]

DAY_S = 86_400.0
SILENT_DBFS = -90.0
"""Below this no microphone is heard at all: the samples are zeros, or of one step of 16 bits."""
MOST_WINDOWS = 100


@dataclass(frozen=True)
class Observation:
    """One window of a machine, as the rules see it."""

    at: float
    """When it ended."""
    verdict: str
    """normal, suspicious, anomalous or unknown."""
    level_dbfs: float
    off_below_dbfs: float | None = None
    """The machine is off where the level is below; None: it is never taken to be off."""


@dataclass(frozen=True)
class AlarmRules:
    """How many windows make an alarm, and how often it may be told."""

    needed: int = 3
    of: int = 5
    cooldown_s: float = 600.0

    @classmethod
    def parse(cls, confirm: str, cooldown_s: float) -> AlarmRules:
        """Read `3/5`; UsageError for anything else."""
        match = re.fullmatch(r"(\d+)/(\d+)", confirm.strip())
        if not match or not 1 <= int(match[1]) <= int(match[2]) <= MOST_WINDOWS:
            raise UsageError(
                f"--confirm {confirm}: expected such as 3/5, at least 3 anomalous windows of the "
                f"last 5, at most {MOST_WINDOWS}"
            )
        return cls(int(match[1]), int(match[2]), cooldown_s)

    def most_false_alarms_per_day(self, false_alarm_rate: float, hop_s: float) -> float:
        """Alarms to expect per day, at most, from a machine that is well.

        One of its windows, which begin every `hop_s` seconds, is called anomalous at the promised
        rate, each on its own. An alarm begins with an anomalous window that has `needed - 1` others
        among the `of - 1` before it. Windows that depend on each other can exceed this.
        """
        p, before = false_alarm_rate, self.of - 1
        others = sum(
            comb(before, k) * p**k * (1 - p) ** (before - k)
            for k in range(self.needed - 1, before + 1)
        )
        by_rate = DAY_S / hop_s * p * others
        return min(by_rate, DAY_S / (self.of * hop_s + self.cooldown_s))

    def stricter(self, false_alarm_rate: float, hop_s: float, per_day: float) -> AlarmRules | None:
        """Find the fewest windows of as many that keep below a number of false alarms per day."""
        for needed in range(self.needed, self.of + 1):
            rules = replace(self, needed=needed)
            if rules.most_false_alarms_per_day(false_alarm_rate, hop_s) <= per_day:
                return rules
        return None


@dataclass(frozen=True)
class MachineState:
    """What is known of one machine."""

    state: State = "waiting"
    since: float = 0.0
    recent: tuple[bool, ...] = ()
    """Whether the last windows were anomalous, at most as many as the rules look at."""
    alarm_id: str = ""
    """The alarm that is on."""
    alarm_since: float = 0.0
    over_at: float | None = None
    """When the last alarm was over."""
    last_audio_at: float | None = None
    """When it was last heard, by the clock of the watch."""
    level_dbfs: float | None = None
    is_missing: bool = False
    """Whether nothing has been heard for too long."""

    def after(
        self, seen: Observation, rules: AlarmRules, now: float, alarm_id: str
    ) -> tuple[MachineState, list[Change]]:
        """Return the state after one more window, and what is to be told, in this order.

        `alarm_id` becomes the id of an alarm that begins with this window.
        """
        state = replace(self, level_dbfs=seen.level_dbfs)
        if seen.level_dbfs < SILENT_DBFS:
            return state, []
        changes: list[Change] = ["audio_back"] if self.is_missing else []
        state = replace(state, last_audio_at=now, is_missing=False)
        if seen.off_below_dbfs is not None and seen.level_dbfs < seen.off_below_dbfs:
            if self.alarm_id:
                changes.append("alarm_over")
                state = state._over(seen.at)
            return replace(state, recent=())._named("off", seen.at), changes
        if seen.verdict == "unknown":
            return state._named(state._usual, seen.at), changes
        is_anomalous = seen.verdict == "anomalous"
        recent = (*self.recent, is_anomalous)[-rules.of :]
        state = replace(state, recent=recent)
        if self.alarm_id:
            if len(recent) == rules.of and not any(recent):
                changes.append("alarm_over")
                state = state._over(seen.at)
        elif is_anomalous and sum(recent) >= rules.needed and state._is_cool(seen.at, rules):
            changes.append("alarm")
            state = replace(state, alarm_id=alarm_id, alarm_since=seen.at)
        return state._named(state._usual, seen.at), changes

    def checked_for_audio(
        self, no_audio_s: float, now: float, since: float
    ) -> tuple[MachineState, list[Change]]:
        """Tell "no audio" where the machine has not been heard for `no_audio_s`, 0: never.

        Time before `since`, when the watch began, does not count.
        """
        if not no_audio_s or self.is_missing or self.last_audio_at is None:
            return self, []
        if now - max(self.last_audio_at, since) < no_audio_s:
            return self, []
        return replace(self, is_missing=True)._named("no audio", now), ["no_audio"]

    def _is_cool(self, at: float, rules: AlarmRules) -> bool:
        return self.over_at is None or at - self.over_at >= rules.cooldown_s

    def _over(self, at: float) -> MachineState:
        return replace(self, alarm_id="", over_at=at)

    @property
    def _usual(self) -> State:
        return "alarm" if self.alarm_id else "normal" if self.recent else "waiting"

    def _named(self, state: State, at: float) -> MachineState:
        return self if state == self.state else replace(self, state=state, since=at)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MachineState:
        """Build the state from what `to_dict` gave."""
        return cls(**{**values, "recent": tuple(cast("list[bool]", values["recent"]))})
