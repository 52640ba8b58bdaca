"""One machine of a model: it rates the vectors of clips, and decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING

from ground.text import one_line
from pipeline.explaining import Explanation, explain_clip
from pipeline.model import LoadedMachine, LoadedMember, Model
from pipeline.new_vectors import Rows, stacked

if TYPE_CHECKING:
    import numpy as np

    from detect.out_of_fold import OutOfFold
    from detect.thresholds import Threshold


@dataclass(frozen=True)
class Checked:
    """The verdict on one clip, or on one window of a long recording."""

    key: str
    machine_type: str
    machine_id: str
    verdict: str
    """normal, suspicious, anomalous, or unknown where there is none."""
    anomaly_score: float | None = None
    p_value: float | None = None
    """Share of the machine's normal clips that are at least as anomalous."""
    start_s: float | None = None
    end_s: float | None = None
    reason: str = ""
    """Why it is judged so, or why it is not judged."""
    remarks: tuple[str, ...] = ()
    """What is odd about the recording, whatever the verdict."""
    members: Mapping[str, float] = field(default_factory=dict)
    """The members' z-scores, where several are fused."""

    @property
    def machine(self) -> str:
        return f"{self.machine_type} {self.machine_id}".strip()


@dataclass(frozen=True)
class Rated:
    """Anomaly scores of clips, and what calibrates them."""

    scores: np.ndarray
    """(n_clips,); NaN for a clip without any vector."""
    calibration: OutOfFold | None
    members: Sequence[str] = ()
    z: np.ndarray | None = None
    """The members' z-scores `(n_members, n_clips)`, where several are fused."""

    @property
    def z_by_name(self) -> list[dict[str, float]]:
        """The z-scores of each clip by the name of the member, without members that lack one."""
        if self.z is None:
            return [{} for _ in self.scores]
        return [
            {
                name: float(value)
                for name, value in zip(self.members, column, strict=True)
                if isfinite(value)
            }
            for column in self.z.T
        ]


@dataclass(frozen=True)
class Judge:
    """One machine of a model, ready to judge clips by their vectors."""

    model: Model
    loaded: LoadedMachine
    machine_type: str
    machine_id: str

    @property
    def name(self) -> str:
        return f"{self.machine_type} {self.machine_id}".strip()

    @property
    def threshold(self) -> Threshold | None:
        """What a score is compared with; None where there is no verdict."""
        return self._threshold[0]

    @property
    def false_alarms(self) -> float:
        """The promised share of false alarms."""
        return self.threshold.false_alarm_rate if self.threshold else 0.0

    @cached_property
    def _calibration(self) -> OutOfFold | None:
        """Scores of the training clips by models that have not seen them."""
        return self._rate([]).calibration

    @cached_property
    def calibration_scores(self) -> np.ndarray:
        """Out-of-fold scores of this machine ID's training clips, (n,); empty without any."""
        import numpy as np

        calibration = self._calibration
        return np.empty(0) if calibration is None else calibration.of_machine(self.machine_id)

    @cached_property
    def _threshold(self) -> tuple[Threshold | None, str]:
        """The threshold, or the reason why there is none."""
        from detect.thresholds import threshold_of

        settings = self.model.settings
        if self._calibration is None:
            return None, "the model has no out-of-fold scores, so there are no verdicts"
        if settings.get("false_alarms") == "none":
            return None, "the model was made without thresholds"
        try:
            return threshold_of(
                self.calibration_scores,
                settings.get("false_alarms", "auto"),
                settings.get("confidence"),
                settings.get("threshold", "conformal"),
                self._calibration.domains_of(self.machine_id),
            ), ""
        except ValueError as error:
            return None, one_line(error)

    def rows(self, keys: Sequence[str], vectors: Sequence[Rows]) -> list[Checked]:
        """Judge clips by their vectors, one row each, in their order.

        Clips of different lengths are rated apart, so that one that a detector cannot take costs
        its own verdict only.
        """
        rows: dict[int, Checked] = {}
        for numbers in _of_one_shape(vectors):
            judged = self._rows([keys[i] for i in numbers], [vectors[i] for i in numbers])
            rows |= zip(numbers, judged, strict=True)
        return [rows[i] for i in range(len(keys))]

    def _rows(self, keys: Sequence[str], vectors: Sequence[Rows]) -> list[Checked]:
        """Rate and decide; ValueError or OSError where these clips cannot be rated together."""
        from detect.thresholds import decide

        machine = self.machine_type, self.machine_id
        try:
            rated = self._rate(vectors)
        except (ValueError, OSError) as error:
            return [Checked(key, *machine, "unknown", reason=one_line(error)) for key in keys]
        scored = [
            Checked(key, *machine, "unknown", anomaly_score=float(score), members=members)
            if isfinite(score)
            else Checked(key, *machine, "unknown", reason="the detector gives it no finite score")
            for key, score, members in zip(keys, rated.scores, rated.z_by_name, strict=True)
        ]
        threshold, why_not = self._threshold
        if threshold is None:
            return [row if row.reason else replace(row, reason=why_not) for row in scored]
        decisions = decide(
            rated.scores,
            self.calibration_scores,
            threshold,
            rated.calibration.domains_of(self.machine_id) if rated.calibration else (),
        )
        return [
            row if row.reason else replace(row, verdict=verdict, p_value=float(p_value))
            for row, verdict, p_value in zip(
                scored, decisions.verdicts, decisions.p_values, strict=True
            )
        ]

    def z(self, vectors: Rows) -> float:
        """Rate a clip as one of this machine, in deviations of the machine's normal clips."""
        from detect.fusion import standard_of

        (score,) = self._rate([vectors]).scores
        return float(standard_of(self.calibration_scores).z(score))

    def explain(self, frames: np.ndarray, row: Checked, vectors: Rows) -> Explanation:
        """Find the bands and seconds that make a clip's score; ValueError without a profile."""
        if self.loaded.profile is None:
            raise ValueError(f"the model has no profile of {self.name}; learn it again")
        return explain_clip(self.loaded.profile, frames, self.loaded.members, vectors, row.members)

    def _rate(self, vectors: Sequence[Rows]) -> Rated:
        """Rate clips as the run rated them; a clip that lacks the vectors of all members is NaN."""
        from detect.fusion import MemberScores, fuse

        members = self.loaded.members
        if not self.loaded.is_fused:
            (member,) = members
            return Rated(self.scores_of(member, vectors), member.calibration)
        keys = tuple(str(number) for number in range(len(vectors)))
        calibrations = [m.calibration for m in members if m.calibration is not None]
        fused = fuse(
            [
                MemberScores(m.member.name, c.keys, c.scores, keys, self.scores_of(m, vectors))
                for m, c in zip(members, calibrations, strict=True)
            ],
            self.model.rule,  # type: ignore[arg-type]
        )
        id_of = {
            key: machine_id
            for calibration in calibrations
            for key, machine_id in zip(calibration.keys, calibration.machine_ids, strict=True)
        }
        domain_of = {
            key: domain
            for calibration in calibrations
            for key, domain in zip(calibration.keys, calibration.domains, strict=False)
        }
        calibration = replace(
            calibrations[0],
            keys=fused.train_keys,
            machine_ids=tuple(id_of[key] for key in fused.train_keys),
            scores=fused.out_of_fold,
            domains=tuple(domain_of[key] for key in fused.train_keys) if domain_of else (),
        )
        return Rated(fused.scores, calibration, fused.members, fused.z)

    def scores_of(self, member: LoadedMember, vectors: Sequence[Rows]) -> np.ndarray:
        """Rate clips by one member, (n_clips,); NaN for a clip that lacks its vector."""
        import numpy as np

        from detect import facts_of
        from detect.detector import anomaly_scores
        from detect.fitting import read_for

        scores = np.full(len(vectors), np.nan)
        have = [i for i, rows in enumerate(vectors) if member.number in rows]
        if not have:
            return scores
        X = read_for(
            member.member.detector,
            [f"clip {i + 1}" for i in have],
            lambda _: stacked([vectors[i][member.number] for i in have]),
        )
        ids = [self.machine_id] * len(have)
        needs_ids = facts_of(member.member.detector).needs_ids
        scores[have] = anomaly_scores(member.detector, X, ids if needs_ids else None)
        return scores


def _of_one_shape(vectors: Sequence[Rows]) -> list[list[int]]:
    """Group the numbers of clips whose vectors have the same shapes."""
    groups: dict[object, list[int]] = {}
    for i, rows in enumerate(vectors):
        shapes = tuple(sorted((number, row.shape) for number, row in rows.items()))
        groups.setdefault(shapes, []).append(i)
    return list(groups.values())
