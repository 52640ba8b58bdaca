"""A model and new recordings: scores, p-values, verdicts and reasons."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ground.text import one_line
from pipeline.explaining import SAMPLE_RATE, explain_clip, frames_of
from pipeline.model import LoadedMachine, Model, load_model
from pipeline.new_vectors import Part, Rows, clip_vectors, parts_of_model, stream_vectors
from pipeline.new_vectors import window_vectors as vectors_of_windows

if TYPE_CHECKING:
    import numpy as np

    from detect.out_of_fold import OutOfFold
    from detect.reasons import Reason
    from detect.thresholds import Threshold
    from embed.recordings.streams import RawFormat

HOP_OF_WINDOW = 0.5
"""Hop of windows as a share of their length, where none is given."""


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
    """Each member's share of the score, where several are fused."""

    @property
    def machine(self) -> str:
        return f"{self.machine_type} {self.machine_id}".strip()


@dataclass(frozen=True)
class Checks:
    """The verdicts on all clips that were asked for."""

    rows: Sequence[Checked]
    false_alarms: Mapping[str, float]
    """The promised share of false alarms, by machine."""

    @property
    def expected_false_alarms(self) -> float:
        """Anomalous verdicts to expect, at most, if everything were normal."""
        return sum(
            self.false_alarms[row.machine]
            for row in self.rows
            if row.verdict != "unknown" and row.machine in self.false_alarms
        )

    def of(self, verdict: str) -> list[Checked]:
        """List the clips with a verdict."""
        return [row for row in self.rows if row.verdict == verdict]


def check(
    path: str | Path,
    model: str | Path | Model,
    *,
    machine: str = "",
    window: float | None = None,
    hop: float | None = None,
    explain: bool = False,
    device: str = "cpu",
    offline: bool = False,
    workers: int = 0,
    trust_classes: bool = False,
) -> Checks:
    """Judge recordings: a file, a folder of files, folders by machine, or a manifest.

    `machine` is the one that they are of, where neither their folders nor a manifest say so.
    `window` and `hop`, in seconds, cut long recordings. `explain` says why for every clip that is
    not normal. Raises ValueError or OSError where nothing
    can be judged; a clip that cannot be judged is a row of its own with the reason.
    """
    checker = Checker(
        model if isinstance(model, Model) else load_model(model),
        device=device,
        offline=offline,
        trust_classes=trust_classes,
        explains=explain,
    )
    if window is None:
        return checker.clips(path, machine=machine, workers=workers)
    return checker.windows(path, window, hop or window * HOP_OF_WINDOW, machine=machine)


@dataclass(frozen=True)
class Checker:
    """A model that is ready to judge: its encoders are built once, its machines when needed."""

    model: Model
    device: str = "cpu"
    offline: bool = False
    trust_classes: bool = False
    explains: bool = False
    """Whether the rows of clips that are not normal say why."""
    _machines: dict[str, Judge] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def parts(self) -> list[Part]:
        """The model's encoders, built from what it holds."""
        return parts_of_model(
            self.model.members,
            device=self.device,
            offline=self.offline,
            trust_classes=self.trust_classes,
        )

    def judge_of(self, machine: tuple[str, str]) -> Judge:
        """Return what judges a machine; ValueError where the model does not know it."""
        name = " ".join(machine).strip()
        if name not in self._machines:
            found = self.model.find(name)
            loaded = self.model.load(self.model.names[found], trust_classes=self.trust_classes)
            self._machines[name] = Judge(self.model, loaded, *found)
        return self._machines[name]

    def clips(self, path: str | Path, *, machine: str = "", workers: int = 0) -> Checks:
        """Judge whole clips."""
        from embed.recordings.new_clips import find_new_clips

        dataset = find_new_clips(path, list(self.model.names))
        machine_of, rows = self._machines_of(dataset, machine)
        rows += [
            Checked(skipped.key, "", "", "unknown", reason=skipped.reason)
            for skipped in dataset.skipped
        ]
        known = replace(dataset, clips=tuple(c for c in dataset.clips if c.key in machine_of))
        problems: dict[str, str] = {}
        vectors = clip_vectors(self.parts, known, on_bad_clip=problems.__setitem__, workers=workers)
        by_machine: dict[tuple[str, str], list[str]] = defaultdict(list)
        for key, own in machine_of.items():
            by_machine[own].append(key)
        for own, keys in by_machine.items():
            judge = self.judge_of(own)
            usable = [key for key in keys if key in vectors]
            for row in judge.rows(usable, [vectors[key] for key in usable]):
                rows.append(self._described(judge, row, dataset.path(row.key), vectors[row.key]))
            rows += [
                Checked(key, *own, "unknown", reason=problems.get(key, "no vector"))
                for key in keys
                if key not in vectors
            ]
        order = {clip.key: number for number, clip in enumerate(dataset.clips)}
        rows.sort(key=lambda row: order.get(row.key, len(order)))
        return Checks(rows, {j.name: j.false_alarms for j in self._machines.values() if j.decides})

    def _described(self, judge: Judge, row: Checked, path: Path, vectors: Rows) -> Checked:
        """Add what is odd about the recording and, for one that is not normal, the reason."""
        profile = judge.loaded.profile
        if profile is None:
            return row
        from embed.recording_facts import recording_facts, recording_remarks
        from embed.recordings.audio import Need, load_for
        from embed.recordings.dataset import ClipError
        from embed.recordings.preprocessing import Preprocessing

        (recording,) = load_for(path, [Need(SAMPLE_RATE, 1)], Preprocessing())
        if isinstance(recording, ClipError):
            return row
        waveform = recording.waveform
        remarks = recording_remarks(profile.ranges, recording_facts(waveform, SAMPLE_RATE))
        row = replace(row, remarks=tuple(remarks))
        return self.explained(judge, row, waveform, vectors)

    def explained(self, judge: Judge, row: Checked, waveform: np.ndarray, vectors: Rows) -> Checked:
        """Say why a clip is not normal, if this is asked for and the model knows its normals."""
        profile = judge.loaded.profile
        if not self.explains or profile is None or row.verdict not in ("suspicious", "anomalous"):
            return row
        reason = judge.reason(frames_of(waveform), row, vectors)
        nearest = f"; nearest normal clip {reason.nearest}" if reason.nearest else ""
        return replace(row, reason=reason.finding + nearest)

    def windows(
        self, path: str | Path, window_s: float, hop_s: float, *, machine: str = ""
    ) -> Checks:
        """Judge the windows of long recordings, in constant memory but for their verdicts."""
        from embed.recordings.new_clips import find_new_clips

        dataset = find_new_clips(path, list(self.model.names))
        machine_of, rows = self._machines_of(dataset, machine)
        for clip in dataset.clips:
            if clip.key not in machine_of:
                continue
            judge = self.judge_of(machine_of[clip.key])
            stream = vectors_of_windows(self.parts, dataset.path(clip.key), window_s, hop_s)
            rows += self._judged(judge, clip.key, stream)
        return Checks(rows, {j.name: j.false_alarms for j in self._machines.values() if j.decides})

    def stream(
        self,
        file: BinaryIO,
        raw: RawFormat | None,
        window_s: float,
        hop_s: float,
        *,
        machine: str = "",
    ) -> Iterator[Checked]:
        """Judge each window of a stream as soon as it has come."""
        judge = self.judge_of(self._only_machine(machine))
        yield from self._judged(judge, "-", stream_vectors(self.parts, file, raw, window_s, hop_s))

    def _judged(
        self, judge: Judge, key: str, stream: Iterator[tuple[Any, Rows]]
    ) -> Iterator[Checked]:
        """Judge windows one by one; what is wrong with the recording is the last row."""
        try:
            for window, vectors in stream:
                (row,) = judge.rows([key], [vectors])
                row = self.explained(judge, row, window.waveform, vectors)
                yield replace(row, start_s=window.start_s, end_s=window.end_s)
        except (OSError, ValueError) as error:
            yield Checked(
                key, judge.machine_type, judge.machine_id, "unknown", reason=one_line(error)
            )

    def _machines_of(
        self, dataset: Any, machine: str
    ) -> tuple[dict[str, tuple[str, str]], list[Checked]]:
        """Tell which machine each clip is of; a clip of an unknown one is a row with the reason."""
        given = self.model.find(machine) if machine else None
        machine_of: dict[str, tuple[str, str]] = {}
        rows = []
        for clip in dataset.clips:
            try:
                if given:
                    machine_of[clip.key] = given
                elif clip.machine == ("", ""):
                    machine_of[clip.key] = self._only_machine("")
                else:
                    machine_of[clip.key] = self.model.find(" ".join(clip.machine).strip())
            except ValueError as error:
                machine_type, machine_id = clip.machine
                reason = one_line(error)
                rows.append(Checked(clip.key, machine_type, machine_id, "unknown", reason=reason))
        if rows and not machine_of:
            raise ValueError(rows[0].reason)
        return machine_of, rows

    def _only_machine(self, machine: str) -> tuple[str, str]:
        if machine:
            return self.model.find(machine)
        if len(self.model.names) > 1:
            shown = ", ".join(" ".join(name).strip() for name in list(self.model.names)[:5])
            raise ValueError(
                f"the model knows {len(self.model.names)} machines; say which one with "
                f"--machine: {shown}"
            )
        return next(iter(self.model.names))


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
    """One machine of a model: rates vectors and decides."""

    model: Model
    loaded: LoadedMachine
    machine_type: str
    machine_id: str

    @property
    def name(self) -> str:
        return f"{self.machine_type} {self.machine_id}".strip()

    @property
    def decides(self) -> bool:
        """Whether there is a threshold."""
        return self._threshold[0] is not None

    @property
    def false_alarms(self) -> float:
        """The promised share of false alarms."""
        threshold = self._threshold[0]
        return threshold.false_alarm_rate if threshold else 0.0

    @cached_property
    def _calibration(self) -> OutOfFold | None:
        """Scores of the training clips by models that have not seen them."""
        return self.rate([]).calibration

    @property
    def n_calibration(self) -> int:
        """Out-of-fold scores that the threshold comes from."""
        calibration = self._calibration
        return 0 if calibration is None else len(calibration.of_machine(self.machine_id))

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
                self._calibration.of_machine(self.machine_id),
                settings.get("false_alarms", "auto"),
                settings.get("confidence"),
                settings.get("threshold", "conformal"),
            ), ""
        except ValueError as error:
            return None, one_line(error)

    def rows(self, keys: Sequence[str], vectors: Sequence[Rows]) -> list[Checked]:
        """Judge clips by their vectors, one row each."""
        if not keys:
            return []
        from detect.thresholds import decide

        machine = self.machine_type, self.machine_id
        try:
            rated = self.rate(vectors)
        except (ValueError, OSError) as error:
            return [Checked(key, *machine, "unknown", reason=one_line(error)) for key in keys]
        threshold, why_not = self._threshold
        if threshold is None or self._calibration is None:
            return [
                Checked(key, *machine, "unknown", float(score), reason=why_not, members=members)
                for key, score, members in zip(keys, rated.scores, rated.z_by_name, strict=True)
            ]
        normal = self._calibration.of_machine(self.machine_id)
        decisions = decide(rated.scores, normal, threshold)
        return [
            Checked(key, *machine, verdict, float(score), float(p_value), members=members)
            for key, score, p_value, verdict, members in zip(
                keys,
                rated.scores,
                decisions.p_values,
                decisions.verdicts,
                rated.z_by_name,
                strict=True,
            )
        ]

    def has_learned(self, vectors: Rows) -> bool:
        """Tell whether a clip with exactly these vectors was among the training clips."""
        profile = self.loaded.profile
        if profile is None or profile.vectors is None or 0 not in vectors:
            return False
        return bool((profile.vectors == vectors[0]).all(axis=1).any())

    def reason(self, frames: np.ndarray, row: Checked, vectors: Rows) -> Reason:
        """Find the bands and seconds that make a clip's score; ValueError without a profile."""
        if self.loaded.profile is None:
            raise ValueError(f"the model has no profile of {self.name}; learn it again")
        numbers = {member.name: number for number, member in enumerate(self.model.members)}
        return explain_clip(
            self.loaded.profile, frames, self.loaded.members, vectors, row.members, numbers
        )

    def rate(self, vectors: Sequence[Rows]) -> Rated:
        """Rate clips as the run rated them; a clip that lacks a vector of a member is NaN there."""
        import numpy as np

        from detect.fusion import MemberScores, fuse

        rated = [(each, self.scores_of(each, vectors)) for each in self.loaded.members]
        if len(rated) == 1:
            ((member, scores),) = rated
            return Rated(scores, member.calibration)
        keys = tuple(str(number) for number in range(len(vectors)))
        fused = fuse(
            [
                MemberScores(
                    member.member.name,
                    member.calibration.keys,
                    member.calibration.scores,
                    keys,
                    scores,
                )
                for member, scores in rated
                if member.calibration is not None
            ],
            self.model.rule,  # type: ignore[arg-type]
        )
        first = rated[0][0].calibration
        ids = {} if first is None else dict(zip(first.keys, first.machine_ids, strict=True))
        calibration = first and replace(
            first,
            keys=fused.train_keys,
            machine_ids=tuple(ids[key] for key in fused.train_keys),
            scores=fused.out_of_fold,
        )
        return Rated(np.asarray(fused.scores), calibration, fused.members, fused.z)

    def scores_of(self, member: Any, vectors: Sequence[Rows]) -> np.ndarray:
        """Rate clips by one member; NaN for a clip that lacks its vector."""
        import numpy as np

        from detect import facts_of
        from detect.detector import anomaly_scores
        from detect.fitting import read_for

        number = list(self.model.members).index(member.member)
        scores = np.full(len(vectors), np.nan)
        have = [i for i, rows in enumerate(vectors) if number in rows]
        if have:
            X = read_for(
                member.member.detector,
                [str(i) for i in have],
                lambda keys: np.stack([vectors[int(key)][number] for key in keys]),
            )
            ids = [self.machine_id] * len(have)
            needs_ids = facts_of(member.member.detector).needs_ids
            scores[have] = anomaly_scores(member.detector, X, ids if needs_ids else None)
        return scores
