"""Fit and score every combination on every machine, in parallel, failures isolated."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from detect import DETECTORS, trains_on_device
from pipeline.exits import version_here
from pipeline.names import set_options, slug
from pipeline.outcome import Outcome
from pipeline.parts import devices_of
from pipeline.plan import Combination
from pipeline.run_folder import RunFolder, read_outcome
from pipeline.screen import messages, progress
from pipeline.settings import Settings
from pipeline.sources import Source

if TYPE_CHECKING:
    from detect.fitting import ClipTable, DetectorChoice, FitPer, FitUnit, Scores
    from detect.training_clips import TrainingOutlier
    from embed.recordings.clips import DataSet


def conclude(
    settings: Settings,
    dataset: DataSet,
    work: Work,
    fitted: Sequence[Scores | str],
    folder: RunFolder,
    unlike: Sequence[TrainingOutlier],
    left_out: Sequence[tuple[str, str]],
) -> Outcome:
    """Compare a combination's scores with the labels and write its files.

    Files that cannot be made are its reason, beside the figures, so that the others go on.
    """
    from detect.detector import last_step
    from detect.results import results
    from detect.thresholds import rates_at_boundary

    combination, table = work.combination, work.table
    reasons = [*work.untrained, *(each for each in fitted if isinstance(each, str))]
    scores = [each for each in fitted if not isinstance(each, str)]
    with suppress(OSError):
        for reason in reasons:
            folder.log("failed", reason=reason)
    if not scores:
        return Outcome(combination, reason="; ".join(reasons) or "no test clip is left to judge")
    outcome = Outcome(combination)
    try:
        fit_per = fit_per_of(settings, combination.detector)
        rows = results(table, scores, fit_per, dataset.year)
        rated_by = (getattr(last_step(each.detector), "warning", "") for each in scores)
        outcome = Outcome(
            combination,
            rows,
            "; ".join(reasons),
            rates_at_boundary(table, scores),
            "; ".join(dict.fromkeys(filter(None, [work.source.warning, *rated_by]))),
        )
        errors = [*left_out, *(("fit", reason) for reason in reasons)]
        _write(dataset, work, scores, outcome, folder, unlike, errors)
    except Exception as error:  # whatever it is, hours of other fits are worth more
        why = " ".join(str(error).split()) or type(error).__name__
        reasons.append(f"the results of {combination.name} are not complete: {why}")
        with suppress(OSError):
            folder.log("failed", reason=reasons[-1])
        return replace(outcome, reason="; ".join(reasons))
    return outcome


def _write(
    dataset: DataSet,
    work: Work,
    scores: Sequence[Scores],
    outcome: Outcome,
    folder: RunFolder,
    unlike: Sequence[TrainingOutlier],
    errors: Sequence[tuple[str, str]],
) -> None:
    """Write the files of a combination; results.json comes last, and says that all are there."""
    from detect.saving import save_detector
    from report import figures, page
    from report import tables as report

    table, rows = work.table, outcome.results
    for each in scores:
        folder.log("fitted", unit=each.unit.name, seconds=each.seconds, warnings=each.warnings)
        for epoch in each.history:
            folder.log("epoch", unit=each.unit.name, **asdict(epoch))
    path = folder.make()
    report.write_scores(path, table, scores, dataset.year)
    report.write_ranking(path, table, scores)
    for each in scores:
        if each.detector is not None:
            name = slug(each.unit.name.replace(" ", "_"))
            save_detector(each.detector, path / "detectors" / name)
    if not folder.is_part:  # the page has the same figures, and a grid would draw for minutes
        machines = figures.machine_scores(table, scores, rows)
        figures.draw_scores(path / "scores.png", machines)
        figures.draw_roc(path / "roc.png", machines)
    told = page.Run(
        title=f"{dataset.name}: {outcome.combination.name}",
        table=table,
        scores=scores,
        results=rows,
        settings=folder.flags,
        facts={
            "version": version_here(),
            "date": time.strftime("%Y-%m-%d %H:%M"),
            "vectors": work.source.path,
        },
        unlike=unlike,
        warnings=list(filter(None, [outcome.warning])),
        errors=errors,
        data_root=dataset.root,
    )
    page.write_report(path, told)
    more = {
        "decisions": outcome.decisions,
        "failed": outcome.reason,
        "warning": outcome.warning,
    }
    report.write_results(path, rows, year=dataset.year, more=more)


SECONDS_ALONE = 3.0


STACKED_AT_ONCE = 16


T = TypeVar("T")


def clip_table(dataset: DataSet) -> tuple[ClipTable, list[str]]:
    """Turn clips into columns, without the machines that nothing can be fitted to."""
    from detect.fitting import ClipTable

    columns = ("key", "machine_type", "machine_id", "split", "label", "domain", "group")
    every = ClipTable(**{name: tuple(getattr(c, name) for c in dataset.clips) for name in columns})
    table, untrained = _trained(every)
    if "test" not in table.split:
        why = [*untrained, *(f"{s.key!r} is left out: {s.reason}" for s in dataset.skipped)]
        first = f"; {why[0]}" if why else ""
        raise ValueError(f"{dataset.root} has no test clip to judge{first}")
    return table, untrained


def _trained(table: ClipTable) -> tuple[ClipTable, list[str]]:
    """Leave out the machines that nothing can be fitted to, and say so of each."""
    rows = list(zip(table.machine_type, table.machine_id, table.split, table.label, strict=True))
    trained = {row[:2] for row in rows if row[2:] == ("train", "normal")}
    untrained = sorted({row[:2] for row in rows if row[2] == "test"} - trained)
    keys = frozenset(
        key for key, row in zip(table.key, rows, strict=True) if row[:2] not in untrained
    )
    reason = "it has test clips but no normal training clips; add some, or leave it out with --ids"
    return _only(table, keys), [f"{' '.join(machine)}: {reason}" for machine in untrained]


@dataclass(frozen=True)
class Work:
    """One combination to be fitted: its vectors, its clips and what shares a model."""

    combination: Combination
    source: Source
    table: ClipTable
    units: Sequence[FitUnit]
    untrained: Sequence[str]
    """Machines that lost all their training clips, each with the reason."""


def judge(
    settings: Settings,
    dataset: DataSet,
    table: ClipTable,
    sources: Mapping[tuple[str, str], Source],
    combinations: Sequence[Combination],
    weights: Mapping[str, str],
    unusable: Mapping[str, str],
    folder: RunFolder,
) -> list[Outcome]:
    """Fit and score every combination on every machine.

    `weights` are those of the detectors that hold a network, `unusable` says why a detector or an
    encoder cannot be had.
    """
    from detect.fitting import DetectorChoice, units

    is_grid = bool(folder.identity)
    outcomes: dict[Combination, Outcome] = {}
    work: list[Work] = []
    for combination in combinations:
        finished = folder.path / combination.name / "results.json"
        if reason := unusable.get(combination.detector) or unusable.get(combination.encoder):
            outcomes[combination] = Outcome(combination, reason=reason)
        elif is_grid and finished.exists():
            outcomes[combination] = read_outcome(combination, finished)
        else:
            source = sources[combination.encoder, combination.pooling]
            own, untrained = _trained(_only(table, source.keys))
            many = units(own, fit_per_of(settings, combination.detector))
            work.append(Work(combination, source, own, many, untrained))
    unlike = _unlike_the_rest(settings, work, folder)
    trains = any(trains_on_device(each.combination.detector) for each in work)
    device = devices_of(settings)[0] if trains else ""
    # processes would each set up the same GPU anew
    workers = 1 if device.startswith("cuda") else settings.workers or os.cpu_count() or 1

    def options_of(made: Combination) -> dict[str, Any]:
        handed = {"weights": weights[made.detector]} if made.detector in weights else {}
        return {
            **handed,
            **set_options(settings.set, "detector", made.detector),
            **dict(made.options),
        }

    tasks = [
        partial(
            _attempt,
            some,
            each.source.read,
            DetectorChoice(
                each.combination.detector,
                options_of(each.combination),
                settings.scaler,
                device,
            ),
            settings.seed if each.combination.seed is None else each.combination.seed,
        )
        for each in work
        for some in _together(each)
    ]
    n_units = sum(len(each.units) for each in work)
    with progress("fit and score", n_units, "fits", quiet=settings.quiet) as advance:
        attempts = _in_order(tasks, workers, advance.tell)
        for each in work:
            fitted: list[Scores | str] = []
            for some in itertools.islice(attempts, len(_together(each))):
                fitted += some
                for _ in some:
                    advance()
            own_folder = (
                folder.inside(each.combination.name, each.combination.alone(settings))
                if is_grid
                else folder
            )
            odd = unlike[each.source.encoder, each.source.pooling]
            outcomes[each.combination] = conclude(
                settings, dataset, each, fitted, own_folder, odd, folder.left_out
            )
    return [outcomes[combination] for combination in combinations]


def fit_per_of(settings: Settings, detector: str) -> FitPer:
    """Say which clips share a model; a detector that tells IDs apart needs a type's."""
    return "type" if DETECTORS[detector].needs_ids else settings.fit_per


def _unlike_the_rest(
    settings: Settings, work: Sequence[Work], folder: RunFolder
) -> dict[tuple[str, str], list[TrainingOutlier]]:
    """Compare training clips with each other, since a fault among them spoils everything."""
    from detect.training_clips import training_outliers

    found: dict[tuple[str, str], list[TrainingOutlier]] = {}
    for each in work:
        source = each.source
        if (source.encoder, source.pooling) in found:
            continue
        try:
            clips = [clip for unit in each.units for clip in training_outliers(unit, source.read)]
        except Exception as error:  # this remark is worth less than the fits
            folder.log("training clips not compared", reason=str(error))
            clips = []
        found[source.encoder, source.pooling] = clips
        for clip in clips:
            folder.log("training clip unlike the rest", **asdict(clip))
        if clips and not settings.quiet:
            messages.print(
                f"{len(clips)} training clips are unlike the rest by {source.encoder} "
                f"{source.pooling}, worth a listen: first {clips[0].key!r}, "
                f"{clips[0].distance:.1f} times the median distance to its nearest others"
            )
    return found


def _in_order(
    tasks: Sequence[Callable[..., T]], workers: int, tell: Callable[[str], None]
) -> Iterator[T]:
    """Run tasks and yield what they return, in their order; in parallel once that pays.

    Worker processes take seconds to start, so short grids never start them. Tasks of this
    process tell how they are getting on.
    """
    from joblib import Parallel, delayed

    started = time.monotonic()
    for n_done, task in enumerate(tasks):
        if workers > 1 and time.monotonic() - started > SECONDS_ALONE:
            rest = [delayed(task)() for task in tasks[n_done:]]
            yield from Parallel(n_jobs=min(workers, len(rest)), return_as="generator")(rest)
            return
        yield task(tell=tell)


def _together(work: Work) -> list[Sequence[FitUnit]]:
    """Group the machines that may be fitted in one go; the others are on their own."""
    from detect.fitting import STACKED

    size = STACKED_AT_ONCE if work.combination.detector in STACKED else 1
    return [work.units[i : i + size] for i in range(0, len(work.units), size)]


def _attempt(
    units: Sequence[FitUnit],
    read: Callable[[Sequence[str]], Any],
    choice: DetectorChoice,
    seed: int,
    tell: Callable[[str], None] | None = None,
) -> list[Scores | str]:
    """Fit and score machines; a failure is the reason, so that the others go on."""
    from detect.fitting import fit_and_score_together

    try:
        return list(fit_and_score_together(units, read, choice, seed, tell))
    except Exception as error:  # whatever a detector raises is this machine's row, with its reason
        if len(units) > 1:
            return [each for unit in units for each in _attempt([unit], read, choice, seed, tell)]
        reason = " ".join(str(error).split()) or type(error).__name__
        which = f"{choice.name} on {units[0].name}"
        return [reason if reason.startswith(which) else f"{which}: {reason}"]


def _only(table: ClipTable, keys: frozenset[str]) -> ClipTable:
    """Leave out the clips that have no vector."""
    kept = [i for i, key in enumerate(table.key) if key in keys]
    columns = {f.name: getattr(table, f.name) for f in fields(table)}
    return replace(table, **{name: tuple(c[i] for i in kept) for name, c in columns.items()})
