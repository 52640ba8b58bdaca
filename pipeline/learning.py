"""Normal recordings become a model: thresholds and verdicts without any label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ground.text import one_line
from pipeline.exits import UsageError
from pipeline.explaining import CLIPS_PER_PROFILE, MachineProfile, learn_profile
from pipeline.fusing import Fused, fuse_members
from pipeline.journal import Journal
from pipeline.judging import MemberFits, judge
from pipeline.many_machines import LOCAL
from pipeline.model import Model, read_model
from pipeline.model_writing import MachineNotes, Unit, save_model
from pipeline.parts import weights_for_detectors
from pipeline.plan import Combination, combinations_of
from pipeline.screen import progress, relay_rooms
from pipeline.settings import LearnSettings, given_from_python, refuse_classes, settings_of
from pipeline.spool import Spool
from pipeline.training_recordings import TrainingRecordings, find_training_recordings

LISTED = 20
"""Clips worth a listen that are named per machine."""


@dataclass(frozen=True)
class Learned:
    """A model and what learning it showed."""

    model: Model
    left_out: Sequence[tuple[str, str]]
    failed: Sequence[str]
    """Machines that could not be learned, each with the reason."""


def learn(recordings: str | Path, model: str | Path = "model", **flags: Any) -> Learned:
    """Learn normal recordings; `flags` are those of the command `learn`, by name.

    Raises ValueError and OSError with one-line messages, as the command prints them.
    """
    given = given_from_python(**flags, data=recordings)
    return learn_model(settings_of(LearnSettings, {**given, "model": Path(model)}))


def learn_model(settings: LearnSettings) -> Learned:
    """Embed the normal recordings, fit, hold out, save."""
    if settings.window is not None and settings.engine != LOCAL:
        raise UsageError("windows are computed on this machine: leave out --engine or --window")
    relay_rooms(quiet=settings.quiet)
    roots = [_absolute(settings.data)]
    earlier = read_model(settings.model) if settings.add else None
    if earlier is not None:
        roots = list(dict.fromkeys([*earlier.facts["data"], *roots]))
        settings = _settings_of(earlier, settings)
    combination = _one_combination(settings)
    journal = Journal()
    pairs = [member.source for member in combination.members]
    recordings = find_training_recordings(settings, roots, pairs, journal)
    weights, unusable = weights_for_detectors(
        settings, [member.detector for member in combination.members]
    )
    if unusable:
        raise ValueError("; ".join(unusable.values()))
    with Spool(settings.model.parent) as spool:
        ((_, fits),) = judge(
            settings,
            recordings.table,
            recordings.sources,
            [combination],
            weights,
            unusable,
            journal,
            spool=spool,
            tested_only=False,
        )
        if isinstance(fits, str):
            raise ValueError(fits)
        machines = fuse_members(fits, combination.rule)
        failed = [machine.reason for machine in machines if machine.reason]
        if all(machine.scores is None for machine in machines):
            raise ValueError("; ".join(failed) or "there is no machine to learn")
        notes = _notes(combination, recordings, fits, machines, earlier)
        model = save_model(settings.model, combination, fits, machines, notes=notes, data=roots)
    return Learned(model, journal.left_out, failed)


def _absolute(data: str) -> str:
    """Return an absolute path for one that is there; other names of data stay as they are."""
    return str(Path(data).absolute()) if Path(data).exists() else data


def _settings_of(model: Model, settings: LearnSettings) -> LearnSettings:
    """Take over how a model was learned, with the folders and the output flags of now.

    Classes that the model names are refused unless the command line trusts them.
    """
    own = {"data", "model", "add", "recalibrate", "out", "quiet", "json", "scores", "trust_classes"}
    own |= {"workers", "device", "batch_size", "cache_dir", "offline", "engine"}
    now = {f.name: getattr(settings, f.name) for f in fields(settings)}
    if not settings.trust_classes:
        refuse_classes(model.settings, str(model.path))
    earlier = {
        name: value for name, value in model.settings.items() if name in now and name not in own
    }
    return settings_of(LearnSettings, {**now, **earlier})


def _one_combination(settings: LearnSettings) -> Combination:
    """Return what the flags name; UsageError for a grid."""
    combinations, refused = combinations_of(settings)
    if len(combinations) + len(refused) > 1:
        raise UsageError(
            f"learn makes one model, and these flags name {len(combinations) + len(refused)}; "
            "name one encoder, pooling and detector, or one --system"
        )
    return combinations[0]


def _notes(
    combination: Combination,
    recordings: TrainingRecordings,
    fits: Sequence[MemberFits],
    machines: Sequence[Fused],
    earlier: Model | None,
) -> dict[Unit, MachineNotes]:
    """Collect, machine by machine, what a person and a later check want to know."""
    found = {}
    quiet = recordings.settings.quiet
    with progress("listen to", len(machines), "machines", quiet=quiet) as advance:
        for machine in machines:
            advance()
            if machine.scores is None:
                continue
            keys = list(dict.fromkeys(map(recordings.recording_of, machine.unit.train_keys)))
            facts = {
                "recordings": len(keys),
                "minutes": recordings.minutes(keys),
                "worth_a_listen": _outliers(fits, machine),
                "promise": promise_of(combination.settings, machine.calibration),
                "notes": _caveats(recordings, machine, len(keys)),
                "changed": _changes(machine, len(keys), earlier),
            }
            found[machine.unit.machine_type, machine.unit.machine_id] = MachineNotes(
                facts, recordings.hashes(keys), _profile(recordings, fits[0], machine)
            )
    return found


def _outliers(fits: Sequence[MemberFits], machine: Fused) -> list[str]:
    """Name the training clips that some member finds unlike the rest, the farthest first."""
    farthest: dict[str, float] = {}
    for fit in fits:
        for outlier in fit.outliers:
            if outlier.machine == machine.unit.name:
                farthest[outlier.key] = max(farthest.get(outlier.key, 0.0), outlier.distance)
    return sorted(farthest, key=lambda key: -farthest[key])[:LISTED]


def _caveats(recordings: TrainingRecordings, machine: Fused, n_recordings: int) -> list[str]:
    """Say what weakens the promise of a machine."""
    notes = [*machine.notes]
    if not isinstance(machine.calibration, str):
        notes += machine.calibration.notes
    if recordings.settings.window is not None and n_recordings == 1:
        notes.append(
            "there is one recording only, and parts of it were held out: expect more false alarms "
            "than promised on other days"
        )
    return notes


def _changes(machine: Fused, n_recordings: int, earlier: Model | None) -> list[str]:
    """Say what `learn --add` changed for a machine."""
    if earlier is None:
        return []
    unit = machine.unit.machine_type, machine.unit.machine_id
    before = [m for m in earlier.machines if (m.machine_type, m.machine_id) == unit]
    if not before:
        return ["new in this model"]
    facts = before[0].facts
    return [f"{n_recordings} recordings, before {facts['recordings']}; before: {facts['promise']}"]


def promise_of(settings: LearnSettings | Any, calibration: Any) -> str:
    """Say in a sentence what a threshold from out-of-fold scores promises, and what more would.

    `calibration` is an `OutOfFold`, or the reason why there is none.
    """
    from detect.thresholds import clips_needed, least_rate, threshold_of

    if isinstance(calibration, str):
        return f"no verdicts: {calibration}"
    n_clips = len(calibration.scores)
    try:
        threshold = threshold_of(
            calibration.scores,
            settings.false_alarms,
            settings.confidence,
            settings.threshold,
            calibration.domains,
        )
    except ValueError as error:
        return f"no verdicts: {one_line(error)}"
    rate = threshold.false_alarm_rate
    if threshold.rule == "gamma":
        return f"{100 * rate:.3g} % false alarms by a {threshold.rule} fit, which promises nothing"
    sure = f" with confidence {settings.confidence:g}" if settings.confidence else ""
    text = f"at most {100 * rate:.3g} % false alarms{sure} from {n_clips} clips"
    if threshold.rule == "domains":
        return f"{text}, in each domain"
    further = next(each for each in (0.05, 0.01, 0.001, 0.0) if each < rate)
    if not further or least_rate(n_clips, settings.confidence) <= further:
        return text
    return f"{text}; {100 * further:g} % needs {clips_needed(further, settings.confidence)} clips"


def _profile(
    recordings: TrainingRecordings, fit: MemberFits, machine: Fused
) -> MachineProfile | None:
    """Learn what a machine's recordings sound like, from some of them where they are many.

    The nearest clips are told by the vectors of the first member.
    """
    keys = [key for key in machine.unit.train_keys if key in fit.source.keys]
    some = keys[:: -(-len(keys) // CLIPS_PER_PROFILE) or 1]
    vectors = fit.source.read(some) if some else None
    is_matrix = vectors is not None and vectors.ndim == 2
    return learn_profile(recordings.sounds(some), some, vectors if is_matrix else None)
