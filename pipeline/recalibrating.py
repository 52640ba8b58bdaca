"""New thresholds for a model from new normal recordings; its detectors stay as they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground.text import one_line
from pipeline.checking import Checker, Judge
from pipeline.journal import Journal
from pipeline.learning import Learned
from pipeline.model import Calibrations, load_model, replace_calibrations
from pipeline.new_vectors import Rows, clip_vectors
from pipeline.settings import LearnSettings, given_from_python, settings_of
from pipeline.sources import find_dataset

if TYPE_CHECKING:
    from embed.recordings.dataset import Clip


def recalibrate(recordings: str | Path, model: str | Path, **flags: Any) -> Learned:
    """Take new thresholds from new normal recordings; `flags` are those of `learn`, by name."""
    given = given_from_python(**flags, data=recordings)
    return recalibrate_model(settings_of(LearnSettings, {**given, "model": Path(model)}))


def recalibrate_model(settings: LearnSettings) -> Learned:
    """Rate new normal recordings by the model, and take their scores for its thresholds.

    The model has not learned these recordings, so its promise holds exactly for recordings like
    them. Machines without new recordings keep their thresholds.
    """
    model = load_model(settings.model)
    journal = Journal()
    dataset = find_dataset(settings)
    for skipped in dataset.skipped:
        journal.leave_out(skipped.key, skipped.reason)
    normals = replace(dataset, clips=tuple(c for c in dataset.clips if c.label == "normal"))
    checker = Checker(model, device=settings.device or "cpu", offline=settings.offline)
    vectors = clip_vectors(
        checker.parts, normals, on_bad_clip=journal.leave_out, workers=settings.workers
    )
    by_machine: dict[tuple[str, str], list[Clip]] = defaultdict(list)
    failed = []
    for clip in normals.clips:
        try:
            if clip.key in vectors:
                by_machine[model.find(" ".join(clip.machine).strip())].append(clip)
        except ValueError as error:
            failed.append(f"{clip.key}: {one_line(error)}")
    if not by_machine:
        raise ValueError(
            f"{dataset.root} has no normal recording of a machine of the model {model.path}"
        )
    calibrations: Calibrations = {}
    for machine, clips in by_machine.items():
        judge = checker.judge_of(machine)
        new = [clip for clip in clips if not judge.has_learned(vectors[clip.key])]
        for clip in clips:
            if clip not in new:
                journal.leave_out(clip.key, "it was learned; a threshold needs other recordings")
        if new:
            calibrations[machine] = _calibration(judge, new, [vectors[c.key] for c in new])
    if not calibrations:
        raise ValueError(
            f"all normal recordings in {dataset.root} were learned; thresholds need other ones"
        )
    recalibrated = replace_calibrations(model, calibrations, _changes(checker, calibrations))
    return Learned(recalibrated, journal.left_out, failed)


def _calibration(
    judge: Judge, clips: Sequence[Clip], vectors: Sequence[Rows]
) -> dict[str, dict[str, Any]]:
    """Rate new normal clips of a machine by each member, as its new out-of-fold scores."""
    return {
        member.member.name: {
            "keys": [clip.key for clip in clips],
            "machine_ids": [clip.machine_id for clip in clips],
            "scores": judge.scores_of(member, vectors).tolist(),
            "n_recordings": len({clip.group or clip.key for clip in clips}),
            "n_folds": 0,
            "notes": ["scores of recordings that were not learned"],
        }
        for member in judge.loaded.members
    }


def _changes(checker: Checker, calibrations: Calibrations) -> dict[tuple[str, str], str]:
    """Say how many clips each machine's threshold came from, and comes from now."""
    changes = {}
    for machine, members in calibrations.items():
        n_now = len(next(iter(members.values()))["keys"])
        n_before = checker.judge_of(machine).n_calibration
        changes[machine] = f"threshold from {n_now} new recordings, before from {n_before}"
    return changes
