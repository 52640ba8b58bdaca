"""A model and new recordings: scores, p-values, verdicts and reasons."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ground.files import sha256_of
from ground.text import one_line
from pipeline.explaining import (
    SAMPLE_RATE,
    ErrorMap,
    MachineProfile,
    Sound,
    file_rate_of,
    frames_of,
    listen_to,
)
from pipeline.model import Model, read_model
from pipeline.new_vectors import (
    EncodedWindow,
    Part,
    Rows,
    clip_vectors,
    parts_of_model,
    stream_vectors,
    window_vectors,
)
from pipeline.rating import Checked, Judge
from pipeline.screen import progress
from pipeline.windowing import Windows

if TYPE_CHECKING:
    import numpy as np

    from detect.reasons import Reason
    from embed.recordings.dataset import DataSet
    from embed.recordings.streams import RawFormat

CLIPS_AT_ONCE = 128
WINDOWS_AT_ONCE = 8
STREAM_WINDOW_S = 10.0
MOST_MACHINES_COMPARED = 50
"""Of a model with more machines, no clip is compared with other machines than its own."""


@dataclass(frozen=True)
class Checks:
    """The verdicts on all clips that were asked for."""

    rows: Sequence[Checked]
    false_alarms: Mapping[str, float]
    """The promised share of false alarms, by machine."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """The score above which a clip is anomalous, by machine."""

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


@dataclass(frozen=True)
class Evidence:
    """What a verdict that is not normal rests on, for pictures and for listening."""

    row: Checked
    waveform: np.ndarray
    """At 16 kHz, as recorded."""
    frames: np.ndarray
    profile: MachineProfile
    reason: Reason
    errors: ErrorMap | None = None
    """What an autoencoder rebuilds of it, where one judges it by its bands."""


def check(path: str | Path, model: str | Path | Checker, **options: object) -> Checks:
    """Judge recordings by a model; `options` are those of `load_model` and `Checker.check`.

    A model that is open already has those of `load_model`; naming one of them is a TypeError.
    """
    of_check = {name: options.pop(name) for name in OPTIONS_OF_CHECK & options.keys()}
    if isinstance(model, Checker):
        if options:
            raise TypeError(f"{', '.join(options)}: give this to load_model, which opens the model")
        return model.check(path, **of_check)  # type: ignore[arg-type]
    return load_model(model, **options).check(path, **of_check)  # type: ignore[arg-type]


OPTIONS_OF_CHECK = frozenset({"machine", "window", "hop"})


def load_model(
    path: str | Path,
    *,
    explain: bool = False,
    device: str = "cpu",
    offline: bool = False,
    workers: int = 0,
    trust_classes: bool = False,
) -> Checker:
    """Open a model, so that it can judge: `load_model("press_hall").check("new.wav")`.

    `explain` says why for every clip that is not normal. Raises FileNotFoundError where there is
    no model, and ValueError for one that cannot be used.
    """
    return Checker(
        read_model(path),
        device=device,
        offline=offline,
        workers=workers,
        trust_classes=trust_classes,
        explains=explain,
    )


@dataclass(frozen=True)
class Checker:
    """A model that is ready to judge: its encoders are built once, its machines when needed."""

    model: Model
    device: str = "cpu"
    offline: bool = False
    workers: int = 0
    trust_classes: bool = False
    explains: bool = False
    """Whether the rows of clips that are not normal say why."""
    quiet: bool = True
    """Whether no progress is shown."""
    on_evidence: Callable[[Evidence], None] | None = None
    """Hears of each clip that is explained."""
    _machines: dict[tuple[str, str], Judge] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def parts(self) -> list[Part]:
        """The model's encoders, built from what it holds."""
        return parts_of_model(
            self.model.members,
            device=self.device,
            offline=self.offline,
            trust_classes=self.trust_classes,
        )

    def check(
        self,
        path: str | Path,
        *,
        machine: str = "",
        window: float | None = None,
        hop: float | None = None,
    ) -> Checks:
        """Judge recordings: a file, a folder of files, folders by machine, or a manifest.

        `machine` is the one that they are of, where neither their folders nor a manifest say so.
        `window` and `hop`, in seconds, cut long recordings, as the model's own do where it was
        learned from windows. Raises ValueError or OSError where nothing can be judged; a clip that
        cannot be judged is a row of its own with the reason.
        """
        from embed.recordings.new_clips import find_new_clips

        dataset = find_new_clips(path, list(self.model.names))
        machine_of, rows = self._machines_of(dataset, machine)
        for own in dict.fromkeys(machine_of.values()):
            self.judge_of(own)
        windows = self.windows_by(window, hop)
        if windows is None:
            rows += self._clips(dataset, machine_of)
        else:
            rows += self._long_recordings(dataset, machine_of, windows)
        rows += [Checked(s.key, "", "", "unknown", reason=s.reason) for s in dataset.skipped]
        order = {clip.key: number for number, clip in enumerate(dataset.clips)}
        rows.sort(key=lambda row: order.get(row.key, len(order)))
        thresholds = {j.name: j.threshold for j in self._machines.values()}
        return Checks(
            rows,
            {name: each.false_alarm_rate for name, each in thresholds.items() if each},
            {name: each.value for name, each in thresholds.items() if each},
        )

    def windows_by(self, window: float | None, hop: float | None) -> Windows | None:
        """Choose how recordings are cut: as asked for, or else as the model's were."""
        if window is None:
            window = self.model.settings.get("window")
            hop = hop or self.model.settings.get("hop")
        return Windows.of(window, hop)

    def judge_of(self, machine: tuple[str, str]) -> Judge:
        """Return what judges a machine of the model."""
        if machine not in self._machines:
            loaded = self.model.load(
                self.model.names[machine], trust_classes=self.trust_classes, offline=self.offline
            )
            self._machines[machine] = Judge(self.model, loaded, *machine)
        return self._machines[machine]

    def _clips(
        self, dataset: DataSet, machine_of: Mapping[str, tuple[str, str]]
    ) -> Iterator[Checked]:
        """Judge whole clips, some at a time."""
        keys = iter(machine_of)
        with progress("check", len(machine_of), "clips", quiet=self.quiet) as advance:
            while part := list(islice(keys, CLIPS_AT_ONCE)):
                files = {key: dataset.path(key) for key in part}
                by_machine: dict[tuple[str, str], list[str]] = defaultdict(list)
                for key in part:
                    by_machine[machine_of[key]].append(key)
                for row in self._judged_clips(files, by_machine):
                    advance()
                    yield row

    def _judged_clips(
        self, files: Mapping[str, Path], by_machine: Mapping[tuple[str, str], Sequence[str]]
    ) -> Iterator[Checked]:
        """Judge some clips, files by key, machine by machine; one that cannot be says why."""
        problems: dict[str, str] = {}
        vectors = clip_vectors(
            self.parts, files, on_bad_clip=problems.__setitem__, workers=self.workers
        )
        channel = self.parts[0].preprocessing.channel
        for machine, keys in by_machine.items():
            judge = self.judge_of(machine)
            usable = [key for key in keys if key in vectors]
            for row in judge.rows(usable, [vectors[key] for key in usable]):
                key = row.key
                sound = listen_to(files[key], channel) if judge.loaded.profile else None
                remarks = [f"not all members rate it: {problems[key]}"] if key in problems else []
                if sha256_of(files[key]) in judge.loaded.learned:
                    remarks.append("it was learned, so its score is lower than that of a new clip")
                yield self.described(judge, row, sound, vectors[key], remarks)
            for key in keys:
                if key not in vectors:
                    reason = problems.get(key, "no encoder gives a vector of it")
                    yield Checked(key, *machine, "unknown", reason=reason)

    def _long_recordings(
        self, dataset: DataSet, machine_of: Mapping[str, tuple[str, str]], windows: Windows
    ) -> Iterator[Checked]:
        """Judge the windows of recordings, in constant memory but for their verdicts."""
        from embed.recordings.audio import seconds_of
        from embed.recordings.dataset import ClipError

        for key, machine in machine_of.items():
            path = dataset.path(key)
            total = max(1, round((seconds_of(path) - windows.length_s) / windows.hop_s) + 1)
            stream = window_vectors(self.parts, path, windows.length_s, windows.hop_s)
            try:
                rate = file_rate_of(path)
            except (OSError, ClipError):
                rate = 0
            with progress(f"check {key}", total, "windows", quiet=self.quiet) as advance:
                for row in self._judged(self.judge_of(machine), key, stream, rate, WINDOWS_AT_ONCE):
                    advance()
                    yield row

    def stream(
        self,
        file: BinaryIO,
        raw: RawFormat | None = None,
        *,
        machine: str = "",
        window: float | None = None,
        hop: float | None = None,
    ) -> Iterator[Checked]:
        """Judge each window of a stream as soon as it has come; windows of 10 s by default.

        What is wrong with the stream is the last row.
        """
        judge = self.judge_of(self._only_machine(machine))
        windows = self.windows_by(window, hop) or Windows.of(STREAM_WINDOW_S, hop)
        if windows is None:
            raise TypeError("a stream is cut into windows")
        stream = stream_vectors(self.parts, file, raw, windows.length_s, windows.hop_s)
        yield from self._judged(judge, "-", stream, raw.sample_rate if raw else 0, 1)

    def _judged(
        self,
        judge: Judge,
        key: str,
        stream: Iterator[EncodedWindow],
        file_rate: int,
        at_once: int,
    ) -> Iterator[Checked]:
        """Judge windows, some at a time; what is wrong with the recording is the last row."""
        is_over, problem = False, ""
        while not is_over:
            windows: list[EncodedWindow] = []
            try:
                for window in islice(stream, at_once):
                    windows.append(window)
                is_over = len(windows) < at_once
            except (OSError, ValueError) as error:
                is_over, problem = True, one_line(error)
            rows = judge.rows([key] * len(windows), [window.rows for window in windows])
            for window, row in zip(windows, rows, strict=True):
                timed = replace(row, start_s=window.start_s, end_s=window.end_s)
                yield self.described(judge, timed, sound_of(window, file_rate), window.rows)
        if problem:
            yield Checked(key, judge.machine_type, judge.machine_id, "unknown", reason=problem)

    def described(
        self,
        judge: Judge,
        row: Checked,
        sound: Sound | None,
        vectors: Rows,
        remarks: Sequence[str] = (),
    ) -> Checked:
        """Add what is odd about the recording and, for one that is not normal, the reason."""
        profile = judge.loaded.profile
        if row.verdict == "anomalous":
            remarks = [*remarks, *self._better_machine(judge, vectors)]
        if profile is None or sound is None:
            return replace(row, remarks=tuple(remarks))
        from embed.recording_facts import recording_facts, recording_remarks

        file_rate = sound.file_rate or profile.ranges.sample_rates[0]
        facts = recording_facts(sound.waveform, SAMPLE_RATE, file_rate)
        row = replace(row, remarks=(*remarks, *recording_remarks(profile.ranges, facts)))
        if not self.explains or row.verdict not in ("suspicious", "anomalous"):
            return row
        frames = frames_of(sound.waveform)
        explanation = judge.explain(frames, row, vectors)
        reason = explanation.reason
        row = replace(row, reason=reason.later_by(row.start_s or 0.0).sentence)
        if self.on_evidence is not None:
            evidence = (row, sound.waveform, frames, profile, reason, explanation.errors)
            self.on_evidence(Evidence(*evidence))
        return row

    def _better_machine(self, judge: Judge, vectors: Rows) -> list[str]:
        """Remark that a clip fits another machine of the model clearly better than its own."""
        from detect.wrong_machine import better_machine

        if not 2 <= len(self.model.names) <= MOST_MACHINES_COMPARED:
            return []
        judges = [self.judge_of(machine) for machine in self.model.names]
        z = {each.name: each.z(vectors) for each in judges if len(each.calibration_scores)}
        better = better_machine(z, judge.name) if judge.name in z else None
        return [f"it sounds like {better}: is it of another machine?"] if better else []

    def _machines_of(
        self, dataset: DataSet, machine: str
    ) -> tuple[dict[str, tuple[str, str]], list[Checked]]:
        """Tell which machine each clip is of; a clip of an unknown one is a row with the reason."""
        given = self.model.find(machine) if machine else None
        machine_of: dict[str, tuple[str, str]] = {}
        rows = []
        for clip in dataset.clips:
            try:
                machine_of[clip.key] = given or self.machine_called(clip.machine)
            except ValueError as error:
                rows.append(Checked(clip.key, *clip.machine, "unknown", reason=one_line(error)))
        if rows and not machine_of:
            raise ValueError(rows[0].reason)
        return machine_of, rows

    def machine_called(self, named: tuple[str, str]) -> tuple[str, str]:
        """Find the machine of the model that a folder names; ("", "") is the only one it has.

        ValueError where there is none, or more than one.
        """
        if named in self.model.names:
            return named
        return self._only_machine(" ".join(named).strip())

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


def sound_of(window: EncodedWindow, file_rate: int) -> Sound:
    """Return a window at the sample rate of the profiles."""
    import numpy as np

    from embed.recordings.sound import resampled

    blocks = resampled(iter([window.waveform]), window.sample_rate, SAMPLE_RATE)
    return Sound(np.concatenate([*blocks]), file_rate)
