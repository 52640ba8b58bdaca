"""One machine that is watched: its alarms and its drift, as they are kept between two starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from detect.martingale import DriftMartingale
from pipeline.watching.alarms import AlarmRules, Change, MachineState, Observation
from pipeline.watching.state import MachineRow


@dataclass
class Engine:
    """The state of one machine, and the evidence that its sound drifts."""

    source: str
    state: MachineState = field(default_factory=MachineState)
    drift: DriftMartingale | None = None
    """None where the model has no scores to compare with."""
    model: str = ""
    """Which version of the model the drift is measured against."""
    suspected_since: float | None = None
    """Since when something speaks for drift."""
    is_drift_told: bool = False
    measured_until: tuple[str, float] = ("", 0.0)
    """Recording, and the second in it up to which windows were taken in: no overlap counts."""

    def copy(self) -> Engine:
        """Copy what changes, so that a window can be taken back."""
        drift = self.drift and replace(
            self.drift, scores=[*self.drift.scores], shares=[*self.drift.shares]
        )
        return replace(self, drift=drift)

    def step(
        self, seen: Observation, rules: AlarmRules, now: float, alarm_id: str
    ) -> Sequence[Change]:
        """Take in a window; return what is to be told."""
        self.state, changes = self.state.after(seen, rules, now, alarm_id)
        return changes

    def measure(self, recording: str, start_s: float, end_s: float, score: float) -> bool:
        """Take the score of a window into the drift; tell whether it is one to compare with.

        A window that overlaps the one before it is left out.
        """
        before, until = self.measured_until
        if self.drift is None or (recording == before and start_s < until - 1e-6):
            return False
        self.measured_until = recording, end_s
        return self.drift.update(score)

    def drifts(self, at: float) -> bool:
        """Tell once that the machine drifts; `at` is the time of the newest window."""
        if self.drift is None or self.is_drift_told:
            return False
        if self.drift.is_faint:
            self.suspected_since = None
        elif self.suspected_since is None:
            self.suspected_since = at
        self.is_drift_told = self.drift.is_drift
        return self.is_drift_told

    def row(self) -> MachineRow:
        """Return what is kept."""
        state = self.state
        values = {
            "alarms": state.to_dict(),
            "drift": self.drift and self.drift.to_dict(),
            "model": self.model,
            "suspected_since": self.suspected_since,
            "is_drift_told": self.is_drift_told,
        }
        return MachineRow(
            self.source,
            state.state,
            state.since,
            state.level_dbfs,
            state.last_audio_at,
            values,
        )

    @classmethod
    def from_row(
        cls, row: MachineRow, model: str, calibration: Sequence[float], kept: Sequence[float]
    ) -> Engine:
        """Build the engine from what was kept.

        The drift begins anew where it was measured against another version of the model.
        `calibration` are the scores of training normals, `kept` those that came later.
        """
        values = row.engine
        engine = cls.new(row.source, model, calibration)
        engine.state = MachineState.from_dict(values["alarms"])
        drift: Mapping[str, Any] | None = values["drift"]
        if values["model"] == model and drift and engine.drift is not None:
            engine.drift = DriftMartingale.from_dict(drift, [*calibration, *kept])
            engine.suspected_since = values["suspected_since"]
            engine.is_drift_told = values["is_drift_told"]
        return engine

    @classmethod
    def new(cls, source: str, model: str, calibration: Sequence[float]) -> Engine:
        """Begin with a machine of which nothing is known."""
        drift = DriftMartingale.over(calibration) if len(calibration) else None
        return cls(source, drift=drift, model=model)
