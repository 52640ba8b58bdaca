"""The whole job: find clips, embed, judge, report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline.exits import CLIPS_LEFT_OUT, DONE, FAILED
from pipeline.imported import import_embeddings, imported_clips, imported_sources
from pipeline.judging import clip_table, judge
from pipeline.outcome import Outcome
from pipeline.parts import weights_for_detectors
from pipeline.plan import combinations_of, unused_flags
from pipeline.run_folder import RunFolder, write_leaderboard
from pipeline.screen import messages, relay, results_screen, say
from pipeline.settings import Settings
from pipeline.sources import embed_all, find_dataset

if TYPE_CHECKING:
    from detect.results import Result
    from embed.recordings.clips import DataSet


def whole_job(settings: Settings) -> int:
    """Embed, judge, report; return the exit code."""
    relay("embed", quiet=settings.quiet)
    relay("fetch", quiet=settings.quiet)
    imported = import_embeddings(settings) if settings.embeddings else None
    combinations, reasons = combinations_of(settings, imported)
    refused = [Outcome(combination, reason=reason) for combination, reason in reasons]
    unused = unused_flags(settings, [*combinations, *(each.combination for each in refused)])
    for reason in () if settings.quiet else unused:
        say("unused", reason, "yellow")
    if imported:
        dataset, names = imported_clips(settings, imported)
    else:
        dataset = find_dataset(settings)
    table, untrained = clip_table(dataset)
    is_grid = len(combinations) + len(refused) > 1
    weights, unusable = weights_for_detectors(settings, {c.detector for c in combinations})
    with (
        RunFolder.of_grid(settings, dataset)
        if is_grid
        else RunFolder.new(combinations[0].name, settings)
    ) as folder:
        for outcome in refused:
            say("skipped", f"{outcome.combination.name}: {outcome.reason}", "yellow")
        for skipped in dataset.skipped:
            folder.leave_out(skipped.key, skipped.reason)
        if imported:
            poolings = {c.pooling for c in combinations}
            sources = imported_sources(settings, imported, names, poolings)
        else:
            pairs = [(c.encoder, c.pooling) for c in combinations if c.detector not in unusable]
            sources, without = embed_all(settings, dataset, pairs, folder)
            unusable |= without
        outcomes = judge(settings, dataset, table, sources, combinations, weights, unusable, folder)
        entries = [outcome.entry for outcome in [*outcomes, *refused]]
        if is_grid:
            made = [outcome.combination.name for outcome in [*outcomes, *refused]]
            write_leaderboard(folder.path, dataset.name, made, entries)
        _print_outcomes(settings, dataset, outcomes, entries)
        for reason in untrained:
            say("no result", reason, "red")
        for warning in dict.fromkeys(each.warning for each in outcomes if each.warning):
            say("warning", warning, "bold red")
        if not settings.quiet:
            messages.print(f"written to {folder.path}")
        if untrained or any(outcome.reason for outcome in outcomes):
            return FAILED
        return CLIPS_LEFT_OUT if folder.left_out else DONE


def _print_outcomes(
    settings: Settings,
    dataset: DataSet,
    outcomes: Sequence[Outcome],
    entries: Sequence[Mapping[str, Any]],
) -> None:
    """Print the leaderboard of a grid, or one table per machine type."""
    import report

    if settings.json:
        runs = [
            {
                "run": outcome.combination.name,
                "results": [asdict(row) for row in outcome.results],
                "error": outcome.reason,
                "warning": outcome.warning,
            }
            for outcome in outcomes
        ]
        print(json.dumps({"data": str(dataset.root), "runs": runs}))  # noqa: T201
    elif len(entries) > 1:
        if settings.seeds > 1:
            entries = report.over_seeds(entries)
        if not settings.sweep:  # leaderboard.csv has the rates of decisions all the same
            entries = [{k: v for k, v in entry.items() if "_at_" not in k} for entry in entries]
        results_screen().print(report.leaderboard_table(entries, title=dataset.name))
    else:
        name, warning = outcomes[0].combination.name, outcomes[0].warning
        title = f"{name} ({warning})" if warning else name
        print_tables(outcomes[0].results, title, year=dataset.year)
        if outcomes[0].reason:
            say("error", outcomes[0].reason, "red")


def print_tables(
    rows: Sequence[Result], name: str, *, year: int = 2020, as_json: bool = False
) -> None:
    """Print one table per machine type."""
    from report import results_table

    if as_json:
        print(json.dumps([asdict(row) for row in rows]))  # noqa: T201
        return
    for machine_type in dict.fromkeys(row.machine_type for row in rows):
        of_type = [row for row in rows if row.machine_type == machine_type]
        table = results_table(of_type, title=f"{machine_type}, {name}", year=year)
        results_screen().print(table)
