"""A model and new recordings: scores, p-values, verdicts and reasons."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ground.text import one_line
from pipeline.model import LoadedMachine, Model, load_model
from pipeline.new_vectors import Part, Rows, clip_vectors, parts_of_model, stream_vectors
from pipeline.new_vectors import window_vectors as vectors_of_windows

if TYPE_CHECKING:
    import numpy as np

    from detect.out_of_fold import OutOfFold
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
    device: str = "cpu",
    offline: bool = False,
    workers: int = 0,
    trust_classes: bool = False,
) -> Checks:
    """Judge recordings: a file, a folder of files, folders by machine, or a manifest.

    `machine` is the one that they are of, where neither their folders nor a manifest say so.
    `window` and `hop`, in seconds, cut long recordings. Raises ValueError or OSError where nothing
    can be judged; a clip that cannot be judged is a row of its own with the reason.
    """
    checker = Checker(
        model if isinstance(model, Model) else load_model(model),
        device=device,
        offline=offline,
        trust_classes=trust_classes,
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
            rows += judge.rows(usable, [vectors[key] for key in usable])
            rows += [
                Checked(key, *own, "unknown", reason=problems.get(key, "no vector"))
                for key in keys
                if key not in vectors
            ]
        order = {clip.key: number for number, clip in enumerate(dataset.clips)}
        rows.sort(key=lambda row: order.get(row.key, len(order)))
        return Checks(rows, {j.name: j.false_alarms for j in self._machines.values() if j.decides})

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
        return self.rate([], [])[1]

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
            scores, _, z = self.rate(keys, vectors)
        except (ValueError, OSError) as error:
            reason = one_line(error)
            return [Checked(key, *machine, "unknown", reason=reason) for key in keys]
        threshold, why_not = self._threshold
        shares = [self._shares(column) for column in z.T] if z is not None else [{}] * len(keys)
        if threshold is None or self._calibration is None:
            return [
                Checked(key, *machine, "unknown", float(s), reason=why_not, members=own)
                for key, s, own in zip(keys, scores, shares, strict=True)
            ]
        decisions = decide(scores, self._calibration.of_machine(self.machine_id), threshold)
        return [
            Checked(key, *machine, verdict, float(s), float(p), members=own)
            for key, s, p, verdict, own in zip(
                keys, scores, decisions.p_values, decisions.verdicts, shares, strict=True
            )
        ]

    def _shares(self, z: np.ndarray) -> dict[str, float]:
        names = [each.member.name for each in self.loaded.members]
        return {name: float(value) for name, value in zip(names, z, strict=False)}

    def rate(
        self, keys: Sequence[str], vectors: Sequence[Rows]
    ) -> tuple[np.ndarray, OutOfFold | None, np.ndarray | None]:
        """Return anomaly scores (n_clips,), what calibrates them, and the members' z-scores.

        Scores are those that the run would give to the same clips.
        """
        import numpy as np

        from detect.fusion import MemberScores, fuse

        unique = [str(number) for number in range(len(keys))]  # windows of one file share a key
        rated = [(each, self._scores_of(each, vectors)) for each in self.loaded.members]
        if len(rated) == 1:
            ((member, scores),) = rated
            return scores, member.calibration, None
        members = [
            MemberScores(
                member.member.name,
                member.calibration.keys,
                member.calibration.scores,
                tuple(unique),
                scores,
            )
            for member, scores in rated
            if member.calibration is not None
        ]
        fused = fuse(members, self.model.rule)  # type: ignore[arg-type]
        first = rated[0][0].calibration
        ids = dict(zip(self.loaded.train_keys, self.loaded.train_ids, strict=True))
        calibration = first and replace(
            first,
            keys=fused.train_keys,
            machine_ids=tuple(ids[key] for key in fused.train_keys),
            scores=fused.out_of_fold,
        )
        return np.asarray(fused.scores), calibration, fused.z

    def _scores_of(self, member: Any, vectors: Sequence[Rows]) -> np.ndarray:
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
