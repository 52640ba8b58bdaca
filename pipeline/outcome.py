"""What became of one combination: its scores and figures, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.plan import Combination

if TYPE_CHECKING:
    from detect.fitting import Scores
    from detect.results import Result
    from detect.thresholds import MachineDecisions


@dataclass(frozen=True)
class Outcome:
    """One row of a leaderboard with what it stands on."""

    combination: Combination
    results: Sequence[Result] = ()
    reason: str = ""
    """Why there are no figures, or not all of them."""
    decisions: Mapping[str, float] = field(default_factory=dict)
    """Rates of decisions at a detector's own boundary, where it has one."""
    warning: str = ""
    """What a reader of the figures must know, such as random weights."""
    scores: Sequence[Scores] = ()
    """Anomaly scores of the test clips; empty where an interrupted grid had finished it."""
    decided: Sequence[MachineDecisions] = ()
    """The decisions on the test clips, machine by machine."""
    clip_notes: Mapping[str, str] = field(default_factory=dict)
    """By clip key, what is remarkable about its score."""
    folder: Path | None = None

    @property
    def entry(self) -> dict[str, Any]:
        """Its line of the leaderboard."""
        from report.leaderboard import leaderboard_entry

        entry = leaderboard_entry(self.results, **self.combination.columns)
        entry |= self.decisions
        if self.warning:
            entry["note"] = "; ".join(filter(None, [self.warning, entry["note"]]))
        return {**entry, "error": self.reason} if self.reason else entry

    @property
    def judged(self) -> dict[tuple[str, str], dict[str, tuple[float, str]]]:
        """p-value and verdict by machine and clip key."""
        return {
            (each.machine_type, each.machine_id): {
                key: (float(p_value), verdict)
                for key, p_value, verdict in zip(
                    each.keys, each.decisions.p_values, each.decisions.verdicts, strict=True
                )
            }
            for each in self.decided
            if each.decisions is not None
        }

    @property
    def clips(self) -> list[dict[str, Any]]:
        """Every test clip with its machine, anomaly score, p-value and verdict."""
        judged = self.judged
        rows = []
        for fitted in self.scores:
            unit = fitted.unit
            for key, machine_id, score in zip(
                unit.test_keys, unit.test_ids, fitted.scores.tolist(), strict=True
            ):
                machine = unit.machine_type, machine_id
                p_value, verdict = judged.get(machine, {}).get(key, (None, None))
                row = {
                    "machine_type": unit.machine_type,
                    "machine_id": machine_id,
                    "key": key,
                    "anomaly_score": score,
                    "p_value": p_value,
                    "verdict": verdict,
                }
                rows.append(
                    row | ({"note": self.clip_notes[key]} if self.clip_notes.get(key) else {})
                )
        return rows
