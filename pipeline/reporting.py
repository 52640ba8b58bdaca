"""`report`: the page and the figures of a finished run, made again from its folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.finished_run import FinishedRun, columns_of, find_runs, stem_of

if TYPE_CHECKING:
    from detect.fitting import Scores
    from report.page import Run


def rebuild_report(folder: Path, data: Path | None = None) -> list[Path]:
    """Write the pages and figures of a run folder or of a grid again; return the pages.

    `data` is where the recordings are now, if they were moved. Neither vectors nor detectors are
    needed. Raises ValueError for a folder that is no run.
    """
    from report import figures, page
    from report.leaderboard_page import write_leaderboard
    from report.machine_scores import machine_scores

    found = find_runs(folder)
    pages = []
    for run in found.runs:
        shown = shown_run(run, data)
        pages.append(page.write_report(run.folder, shown))
        if not found.is_grid:
            machines = machine_scores(shown.table, shown.scores, shown.results)
            figures.draw_scores(run.folder / "scores.png", machines)
            figures.draw_roc(run.folder / "roc.png", machines)
    if found.is_grid:
        entries = [
            {**entry, "folder": run.folder.name}
            for entry, run in zip(_entries(found.runs), found.runs, strict=True)
        ]
        entries += _without_figures(folder / "leaderboard.csv") or [
            {"run": name, "error": reason} for name, reason in found.unfinished
        ]
        name = _data_name(found.runs[0])
        pages.append(write_leaderboard(folder, entries, f"{name}: leaderboard"))
    return pages


def shown_run(run: FinishedRun, data: Path | None = None) -> Run:
    """Gather what the page of a run shows."""
    from detect.training_clips import TrainingOutlier
    from report.page import Run
    from report.ranking import as_scores

    table, scores = as_scores(run.clips)
    events = list(_lines(run.folder / "log.jsonl"))
    around = list(_lines(run.folder.parent / "log.jsonl"))  # of the grid, if it is part of one
    unlike = [
        _of_kind(TrainingOutlier, event)
        for event in [*events, *around]
        if event.get("event") == "training clip unlike the rest"
    ]
    errors = [
        (str(line["key"]), str(line["reason"]))
        for name in (run.folder, run.folder.parent)
        for line in _lines(name / "errors.jsonl")
        if {"key", "reason"} <= line.keys()
    ]
    failed = [("fit", run.remarks.failed)] if run.remarks.failed else []
    return Run(
        title=f"{_data_name(run)}: {stem_of(run.folder)}",
        table=table,
        scores=[_with_history(each, events) for each in scores],
        results=run.results,
        decided=run.decided(),
        settings=run.settings,
        facts={
            name: run.provenance[name] for name in ("version", "date") if name in run.provenance
        },
        unlike=unlike,
        warnings=[run.remarks.warning] if run.remarks.warning else [],
        errors=[*errors, *failed],
    )


def _data_of(run: FinishedRun) -> str:
    data = str(run.settings.get("data") or "dev_data")
    return "demo_data" if data == "demo" else data


def _data_name(run: FinishedRun) -> str:
    data = Path(_data_of(run))
    return data.stem if data.suffix in (".csv", ".tsv") else data.name


def _entries(runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    """Make the leaderboard of the combinations of a grid, from their results."""
    from report.leaderboard import leaderboard_entry

    entries = []
    for run, columns in zip(runs, columns_of(runs), strict=True):
        entry = leaderboard_entry(run.results, note=run.remarks.warning, **columns)
        entry |= run.remarks.decisions
        entries.append({**entry, "error": run.remarks.failed} if run.remarks.failed else entry)
    return entries


def _without_figures(leaderboard: Path) -> list[dict[str, str]]:
    """List the combinations that were refused or failed, which have no results of their own."""
    from report.csv_files import read_csv

    if not leaderboard.is_file():
        return []
    return [
        {name: text for name, text in row.items() if text}
        for row in read_csv(leaderboard)
        if row.get("error") and not row.get("auc_mean")
    ]


def _with_history(scores: Scores, events: Sequence[Mapping[str, Any]]) -> Scores:
    """Add the losses that were logged while the machine's network was trained."""
    from detect.detectors.training import Epoch

    own = [e for e in events if e.get("event") == "epoch" and e.get("unit") == scores.unit.name]
    members = {event.get("member") for event in own}
    if len(members) != 1:  # none, or several networks whose losses are no one curve
        return scores
    return replace(scores, history=tuple(_of_kind(Epoch, event) for event in own))


def _of_kind(kind: Any, event: Mapping[str, Any]) -> Any:
    """Read a dataclass from a line of a log; ValueError for a line that lacks a field."""
    names = [field.name for field in fields(kind)]
    absent = [name for name in names if name not in event]
    if absent:
        raise ValueError(f"log.jsonl has a line {event.get('event')!r} without {absent[0]}")
    return kind(**{name: event[name] for name in names})


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """Read the lines of a log; the last one may be cut, where the run was killed."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict):
            yield content
