"""`report`: the page and the figures of a finished run, made again from its folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground.text import one_line
from pipeline.finished_run import FinishedRun, columns_of, find_runs, stem_of
from pipeline.run_page import formats_of, with_evidence, with_method, write_figures
from pipeline.run_sources import RunSources, find_sources, own_model
from pipeline.screen import say

if TYPE_CHECKING:
    from detect.fitting import Scores
    from report.page import Run


def rebuild_report(folder: Path, **given: Any) -> list[Path]:
    """Write the pages and figures of a run folder or of a grid again; return the pages.

    `given` are settings that win over those of the run: `data`, where the recordings are now,
    `cache_dir`, `page_clips`, `map`, `figures` and `trust_classes`. Where recordings, vectors or
    the model cannot be had, a page has no sounds and no map, and one line says why. Raises
    ValueError for a folder that is no run.
    """
    from report import page
    from report.leaderboard_page import write_leaderboard

    formats_of(given.get("figures", ""))
    found = find_runs(folder)
    sources = _sources(folder, _data_name(found.runs[0]), given)
    pages = []
    for run in found.runs:
        is_part = (run.folder.parent / "config.toml").exists()
        shown = _with_evidence(shown_run(run), run, sources, is_part=is_part)
        pages.append(page.write_report(run.folder, shown))
        figures = str(given.get("figures", run.asked.get("figures", "")))
        write_figures(run.folder, shown, figures, is_part=is_part)
    if found.is_grid:
        entries = [
            {**entry, "folder": run.folder.name}
            for entry, run in zip(_entries(found.runs), found.runs, strict=True)
        ]
        name = _data_name(found.runs[0])
        board = [*entries, *found.without_results]
        pages.append(write_leaderboard(folder, board, f"{name}: leaderboard"))
    return pages


def _sources(folder: Path, data_name: str, given: Mapping[str, Any]) -> RunSources | None:
    """Find clips and vectors again; None, and why is said, where they cannot be had."""
    try:
        return find_sources(folder, data_name, given)
    except Exception as error:  # the figures are there, and whatever it is costs the sounds only
        say("page", f"no sounds, map and method on it: {one_line(error)}", "yellow")
        return None


def _with_evidence(
    shown: Run, run: FinishedRun, sources: RunSources | None, *, is_part: bool
) -> Run:
    """Add to a page what needs recordings and vectors; say what it lacks, and why."""
    if sources is None:
        return shown
    try:
        lacking = sources.lacking(run)
        combination = sources.combination_of(run)
        model = own_model(run, sources.settings)
        fits = sources.fits_of(combination, model)
        if lacking:
            say("page", f"{stem_of(run.folder)} lacks sounds, and the method: {lacking}", "yellow")
        else:
            shown = with_method(shown, combination, fits, sources.dataset, sources.table_of(fits))
        settings = sources.settings
        return with_evidence(shown, fits, model, sources.dataset, settings, is_part=is_part)
    except Exception as error:  # as above
        say("page", f"{stem_of(run.folder)}: no sounds and map on it: {one_line(error)}", "yellow")
        return shown


def shown_run(run: FinishedRun) -> Run:
    """Gather what the page of a run shows, but for what needs its recordings and vectors."""
    from detect.training_clips import TrainingOutlier
    from report.page import Run
    from report.ranking import as_scores

    table, scores = as_scores(run.clips, run.fit_per)
    events = list(_lines(run.folder / "log.jsonl"))
    around = list(_lines(run.folder.parent / "log.jsonl"))  # of the grid, if it is part of one
    unlike = [
        _of_kind(TrainingOutlier, event)
        for event in [*events, *around]
        if event.get("event") == "training clip unlike the rest" and _of_first_member(event, run)
    ]
    errors = [
        (str(line["key"]), str(line["reason"]))
        for name in (run.folder, run.folder.parent)
        for line in _lines(name / "errors.jsonl")
        if {"key", "reason"} <= line.keys()
    ]
    failed = [("fit", run.remarks.failed)] if run.remarks.failed else []
    facts = {
        name: str(run.provenance[name]) for name in ("version", "date") if name in run.provenance
    }
    if "date" in facts:
        facts["date"] = facts["date"][:16].replace("T", " ")
    return Run(
        title=f"{_data_name(run)}: {stem_of(run.folder)}",
        table=table,
        scores=[_with_history(each, events) for each in scores],
        results=run.results,
        decided=run.decided(),
        settings=run.asked,
        facts=facts,
        unlike=unlike,
        warnings=[run.remarks.warning] if run.remarks.warning else [],
        errors=[*errors, *failed],
    )


def _of_first_member(event: Mapping[str, Any], run: FinishedRun) -> bool:
    """Whether an event is about the vectors of the first member; logs of before do not say it."""
    if "encoder" not in event or not run.members:
        return True
    encoder, pooling, _ = run.members[0].rsplit("/", 2)
    return (event["encoder"], event.get("pooling")) == (encoder, pooling)


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
