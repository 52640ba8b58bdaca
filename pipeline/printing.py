"""What the commands print on standard output: tables for a person, or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ground.text import json_text, visible
from pipeline.screen import messages, results_screen, say

if TYPE_CHECKING:
    from detect.results import Result
    from pipeline.comparing import RunsCompared
    from pipeline.evaluating import Evaluation
    from pipeline.job import Job
    from pipeline.learning import Learned
    from pipeline.settings import LearnSettings, Settings

COMPARED_BY = (
    "AUC by DeLong, pAUC by a paired bootstrap; p over all machines of {n} comparison{s} (Holm)"
)


def print_job(job: Job, settings: Settings) -> None:
    """Print the leaderboard of a grid, or one table per machine type."""
    if settings.json:
        print_json(job_facts(job, with_scores=settings.scores))
    elif len(job.entries) > 1:
        _print_leaderboard(job, settings)
    else:
        outcome = job.outcomes[0]
        name = outcome.combination.name
        title = f"{name} ({outcome.warning})" if outcome.warning else name
        print_tables(outcome.results, title, year=job.year)
        if outcome.reason:
            say("error", outcome.reason, "red")
    for reason in job.without_training:
        say("no result", reason, "red")
    for warning in dict.fromkeys(each.warning for each in job.outcomes if each.warning):
        say("warning", warning, "bold red")


def _print_leaderboard(job: Job, settings: Settings) -> None:
    from report.leaderboard import over_seeds
    from report.tables import leaderboard_table

    entries: Sequence[Mapping[str, Any]] = job.entries
    if settings.seeds > 1:
        entries = over_seeds(entries)
    if (
        not settings.sweep
    ):  # leaderboard.csv has the rates at a detector's own boundary all the same
        entries = [{k: v for k, v in entry.items() if "_at_" not in k} for entry in entries]
    results_screen().print(leaderboard_table(entries, title=job.data))


def job_facts(job: Job, *, with_scores: bool) -> dict[str, Any]:
    """Return a job as JSON-able values; refused and failed combinations have their reason."""
    return {
        "data": job.data,
        "folder": str(job.folder),
        "runs": [
            {
                "run": outcome.combination.name,
                "results": [asdict(row) for row in outcome.results],
                "error": outcome.reason,
                "warning": outcome.warning,
                **({"scores": outcome.clips} if with_scores else {}),
            }
            for outcome in [*job.outcomes, *job.refused]
        ],
        "left_out": [{"key": key, "reason": reason} for key, reason in job.left_out],
        "without_training": list(job.without_training),
    }


def print_json(facts: Any) -> None:
    """Print values as JSON on one line; a NaN becomes null."""
    print(json_text(facts))  # noqa: T201


def print_tables(
    rows: Sequence[Result], name: str, *, year: int = 2020, as_json: bool = False
) -> None:
    """Print one table per machine type."""
    from report.tables import results_table

    if as_json:
        print(json.dumps([asdict(row) for row in rows]))  # noqa: T201
        return
    for machine_type in dict.fromkeys(row.machine_type for row in rows):
        of_type = [row for row in rows if row.machine_type == machine_type]
        table = results_table(of_type, title=f"{machine_type}, {name}", year=year)
        results_screen().print(table)


def print_evaluation(evaluation: Evaluation, folder: str, *, as_json: bool) -> None:
    """Print one table per machine type, or the leaderboard of a grid."""
    from report.leaderboard import over_seeds
    from report.tables import leaderboard_table

    if not evaluation.is_grid:
        (run,) = evaluation.runs
        print_tables(run.rows, folder, year=run.year, as_json=as_json)
    elif as_json:
        print_json(
            {
                "runs": [
                    {**run.columns, "folder": str(run.folder), "results": [*map(asdict, run.rows)]}
                    for run in evaluation.runs
                ],
                "unfinished": [
                    {"name": name, "reason": reason} for name, reason in evaluation.unfinished
                ],
            }
        )
    else:
        results_screen().print(leaderboard_table(over_seeds(evaluation.entries), title=folder))


def print_comparison(result: RunsCompared, *, as_json: bool) -> None:
    """Print what the data tell in sentences, then a table per method."""
    from pipeline.comparing import comparison_facts
    from report.tables import comparison_table

    if as_json:
        print_json(comparison_facts(result))
        return
    compared = result.compared
    screen = results_screen()
    for name in compared.names[1:]:
        rows = compared.of(name)
        title = visible(f"{name} against {compared.names[0]}")
        screen.print(comparison_table(rows, title=title))
    n = len(compared.names) - 1
    screen.print(Text(COMPARED_BY.format(n=n, s="s" * (n > 1)), "dim"))
    for remark in compared.remarks:
        screen.print(Text(visible(remark)), soft_wrap=True)
    for sentence in compared.sentences:
        screen.print(Text(visible(sentence), "bold"), soft_wrap=True)
    for name, reason in result.unfinished:
        say("left out", f"{visible(name)}: {visible(reason)}", "yellow")


def print_registries(registries: Mapping[str, Mapping[str, Any]], *, as_json: bool) -> None:
    """Print every name that a flag takes, with a line on each."""
    if as_json:
        print_json(
            {
                kind: [{"name": name, "about": row.about} for name, row in registry.items()]
                for kind, registry in registries.items()
            }
        )
        return
    from rich.table import Table

    for kind, registry in registries.items():
        table = Table(box=None, show_header=False, pad_edge=False, title=kind, title_justify="left")
        table.add_column(no_wrap=True)
        table.add_column()
        for name, row in registry.items():
            table.add_row(f"  {name}", row.about)
        results_screen().print(table)


def print_learned(learned: Learned, settings: LearnSettings) -> None:
    """Print a line per machine: what it was learned from, what it promises, what to listen to."""
    model = learned.model
    if settings.json:
        print_json(
            {
                "model": str(model.path),
                "machines": [asdict(machine) for machine in model.machines],
                "left_out": [{"key": key, "reason": reason} for key, reason in learned.left_out],
                "failed": list(learned.failed),
            }
        )
        return
    screen = results_screen()
    for machine in model.machines:
        facts = machine.facts
        name = visible(f"{machine.machine_type} {machine.machine_id}".strip())
        counts = f"{facts['recordings']} recordings, {facts['minutes']:.1f} minutes"
        screen.print(Text(f"{name}: {counts}; {facts['promise']}"), soft_wrap=True)
        if listed := facts["worth_a_listen"]:
            shown = ", ".join(map(visible, listed[:3])) + (", ..." if len(listed) > 3 else "")
            screen.print(Text(f"  {len(listed)} unlike the rest, worth a listen: {shown}"))
        for note in facts["notes"]:
            screen.print(Text(f"  {note}"), soft_wrap=True)
        for change in facts.get("changed", []):
            screen.print(Text(f"  {change}"), soft_wrap=True)
    for reason in learned.failed:
        say("failed", reason, "red")
    if not settings.quiet:
        messages.print(f"written to {model.path}; check new recordings with")
        messages.print(f"    python run_pipeline.py check RECORDINGS --model {model.path}")
