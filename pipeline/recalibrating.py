"""New thresholds for a model from new normal recordings; its detectors stay as they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground.files import sha256_of
from ground.text import one_line
from pipeline.checking import Checker
from pipeline.journal import Journal
from pipeline.learning import Learned, promise_of
from pipeline.model import read_model
from pipeline.model_writing import NewCalibration, replace_calibrations
from pipeline.new_vectors import Rows, clip_vectors, window_vectors
from pipeline.rating import Judge
from pipeline.settings import LearnSettings, given_from_python, settings_of
from pipeline.sources import find_dataset
from pipeline.windowing import window_key

if TYPE_CHECKING:
    from embed.recordings.dataset import Clip


@dataclass(frozen=True)
class _Recording:
    """A new normal recording."""

    key: str
    path: Path
    group: str
    """Recordings of one group are counted as one."""
    domain: str = ""


@dataclass(frozen=True)
class _Rated:
    """A new clip, or a window of one, to take a threshold from."""

    key: str
    recording: str
    domain: str
    vectors: Rows


def recalibrate(recordings: str | Path, model: str | Path = "model", **flags: Any) -> Learned:
    """Take new thresholds from new normal recordings; `flags` are those of `learn`, by name."""
    given = given_from_python(**flags, data=recordings)
    return recalibrate_model(settings_of(LearnSettings, {**given, "model": Path(model)}))


def recalibrate_model(settings: LearnSettings) -> Learned:
    """Rate new normal recordings by the model, and take their scores for its thresholds.

    The model has not learned these recordings, so its promise holds exactly for recordings like
    them. Machines without new recordings keep their thresholds.
    """
    model = read_model(settings.model)
    journal = Journal()
    dataset = find_dataset(settings)
    for skipped in dataset.skipped:
        journal.leave_out(skipped.key, skipped.reason)
    checker = Checker(
        model,
        device=settings.device or "cpu",
        offline=settings.offline,
        trust_classes=settings.trust_classes,
        quiet=settings.quiet,
    )
    by_machine: dict[tuple[str, str], list[Clip]] = defaultdict(list)
    failed = []
    for clip in (clip for clip in dataset.clips if clip.label == "normal"):
        try:
            known = clip.machine in model.names
            machine = clip.machine if known else model.find(" ".join(clip.machine).strip())
            by_machine[machine].append(clip)
        except ValueError as error:
            failed.append(f"{clip.key}: {one_line(error)}")
    if not by_machine:
        raise ValueError(
            f"{dataset.root} has no normal recording of a machine of the model {model.path}"
        )
    calibrations = {}
    for machine, clips in by_machine.items():
        judge = checker.judge_of(machine)
        recordings = [
            _Recording(clip.key, dataset.path(clip.key), clip.group or clip.key, clip.domain)
            for clip in clips
        ]
        if settings.with_feedback:
            recordings += _feedback(settings.with_feedback, judge.name)
        rated = list(_vectors(checker, _not_learned(judge, recordings, journal), journal))
        if rated:
            calibrations[machine] = _calibration(settings, judge, rated)
    if not calibrations:
        raise ValueError(
            f"no normal recording in {dataset.root} is new and usable; thresholds need recordings "
            "that were not learned"
        )
    return Learned(replace_calibrations(model, calibrations), journal.left_out, failed)


def _feedback(folder: Path, machine: str) -> list[_Recording]:
    """List the windows of alarms of a watch that a person called normal."""
    from pipeline.watching.feedback import normal_windows

    return [
        _Recording(f"{path.parent.name}/{path.name}", path, alarm_id)
        for alarm_id, path in normal_windows(folder, machine)
    ]


def _not_learned(
    judge: Judge, recordings: Sequence[_Recording], journal: Journal
) -> list[_Recording]:
    """Leave out the recordings that the model has learned, whatever their names are."""
    new = []
    for recording in recordings:
        if sha256_of(recording.path) in judge.loaded.learned:
            journal.leave_out(recording.key, "it was learned; a threshold needs other recordings")
        else:
            new.append(recording)
    return new


def _vectors(
    checker: Checker, recordings: Sequence[_Recording], journal: Journal
) -> Iterator[_Rated]:
    """Compute the vectors of clips, or of their windows where the model was learned from such."""
    windows = checker.windows_by(None, None)
    origin_of = {each.key: (each.group, each.domain) for each in recordings}
    files = {each.key: each.path for each in recordings}
    if windows is None:
        rows = clip_vectors(checker.parts, files, on_bad_clip=journal.leave_out)
        for key, vectors in rows.items():
            yield _Rated(key, *origin_of[key], vectors)
        return
    for key, path in files.items():
        try:
            for window in window_vectors(checker.parts, path, windows.length_s, windows.hop_s):
                yield _Rated(window_key(key, window.start_s), *origin_of[key], window.rows)
        except (OSError, ValueError) as error:
            journal.leave_out(key, one_line(error))


def _calibration(settings: LearnSettings, judge: Judge, rated: Sequence[_Rated]) -> NewCalibration:
    """Rate new normal clips of a machine by each member, as its new out-of-fold scores."""
    import numpy as np

    from detect.out_of_fold import OutOfFold

    members = {}
    for member in judge.loaded.members:
        scores = judge.scores_of(member, [each.vectors for each in rated])
        usable = np.flatnonzero(np.isfinite(scores)).tolist()
        if not usable:
            raise ValueError(f"{member.member.name} rates no new recording of {judge.name}")
        members[member.member.name] = OutOfFold(
            keys=tuple(rated[i].key for i in usable),
            machine_ids=(judge.machine_id,) * len(usable),
            scores=scores[usable],
            n_recordings=len({rated[i].recording for i in usable}),
            n_folds=0,
            notes=("scores of recordings that were not learned",),
            domains=tuple(rated[i].domain for i in usable),
        )
    first = next(iter(members.values()))
    before = judge.threshold
    promised = f", before from {before.n}" if before else ", before there was none"
    return NewCalibration(
        members,
        f"threshold from {len(first.keys)} new clips{promised}",
        promise_of(_promise_settings(settings, judge), first),
    )


def _promise_settings(settings: LearnSettings, judge: Judge) -> LearnSettings:
    """Take over what the model's thresholds promise."""
    own = judge.model.settings
    return replace(
        settings,
        false_alarms=own.get("false_alarms", "auto"),
        confidence=own.get("confidence"),
        threshold=own.get("threshold", "conformal"),
    )
