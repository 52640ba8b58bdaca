"""From fitted members to results: fuse, decide, compare with the labels, write the files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from ground.text import one_line
from pipeline.clips import only
from pipeline.fusing import Fused, fuse_members
from pipeline.judging import Judged, MemberFits, Unusable, why_unusable
from pipeline.outcome import Outcome
from pipeline.plan import Combination
from pipeline.run_files import write_run
from pipeline.run_folder import RunFolder

if TYPE_CHECKING:
    from detect.fitting import ClipTable
    from detect.thresholds import MachineDecisions
    from embed.recordings.dataset import DataSet


def conclude(
    combination: Combination,
    judged: Judged,
    unusable: Unusable,
    dataset: DataSet,
    table: ClipTable,
    folder: RunFolder,
    left_out: Sequence[tuple[str, str]],
) -> Outcome:
    """Fuse a combination's members, decide, compare with the labels and write the files.

    What fails is the outcome's reason, beside the figures that there are, so that other
    combinations go on. Members that are `unusable` are missing in `judged`.
    """
    if isinstance(judged, str):
        return Outcome(combination, reason=judged)
    machines = fuse_members(judged, combination.rule)
    table = only(table, frozenset(key for fit in judged for key in fit.table.key))
    reasons = _reasons(combination, judged, unusable)
    reasons += [machine.reason for machine in machines if machine.reason]
    scored = [machine for machine in machines if machine.scores is not None]
    with suppress(OSError):
        for reason in reasons:
            folder.log("failed", reason=reason)
    if not scored:
        return Outcome(combination, reason="; ".join(reasons) or "no test clip is left to judge")
    outcome = Outcome(combination, reason="; ".join(reasons))
    try:
        outcome = _outcome(combination, judged, scored, dataset, table, reasons)
        write_run(outcome, judged, scored, dataset, table, folder, left_out)
        return replace(outcome, folder=folder.path)
    except Exception as error:  # whatever it is, hours of other fits are worth more
        reasons.append(f"the results of {combination.name} are not complete: {one_line(error)}")
        with suppress(OSError):
            folder.log("failed", reason=reasons[-1])
        return replace(outcome, reason="; ".join(reasons))


def _reasons(combination: Combination, fits: Sequence[MemberFits], unusable: Unusable) -> list[str]:
    """Say which members cannot be had, and which machines lost their training clips."""
    missing = [
        f"{member.name} is left out: {reason}"
        for member in combination.members
        if (reason := why_unusable(member, unusable))
    ]
    return list(dict.fromkeys([*missing, *(r for fit in fits for r in fit.without_training)]))


def _outcome(
    combination: Combination,
    fits: Sequence[MemberFits],
    machines: Sequence[Fused],
    dataset: DataSet,
    table: ClipTable,
    reasons: Sequence[str],
) -> Outcome:
    """Decide by thresholds from training clips alone, and compare with the labels."""
    from detect.results import results
    from detect.thresholds import rates_at_boundary

    scores = [machine.scores for machine in machines if machine.scores is not None]
    decided = [each for machine in machines for each in _decided(combination, machine)]
    rows = results(table, scores, combination.fit_per, dataset.year, decided)  # type: ignore[arg-type]
    return Outcome(
        combination,
        rows,
        "; ".join(reasons),
        rates_at_boundary(table, scores),
        "; ".join(_warnings(fits, machines)),
        scores,
        decided,
        {key: note for machine in machines for key, note in machine.clip_notes.items()},
    )


def _decided(combination: Combination, machine: Fused) -> Sequence[MachineDecisions]:
    """Decide on a machine's test clips as the settings of the combination promise it."""
    from detect.thresholds import decide_machines

    settings = combination.settings
    if settings.false_alarms == "none" or machine.scores is None:
        return ()
    return decide_machines(
        machine.scores,
        machine.calibration,
        settings.false_alarms,
        settings.confidence,
        settings.threshold,
    )


def _warnings(fits: Sequence[MemberFits], machines: Sequence[Fused]) -> list[str]:
    """Collect, each once, what a reader of the figures must know."""
    from detect.detector import warning_of

    found = [fit.source.warning for fit in fits]
    for machine in machines:
        for _, fitted in machine.members:
            if fitted.scores is not None and fitted.scores.detector is not None:
                found.append(warning_of(fitted.scores.detector))
    notes = dict.fromkeys(note for machine in machines for note in machine.notes)
    return list(dict.fromkeys(filter(None, [*found, *notes])))
