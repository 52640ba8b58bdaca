"""The page and the figures of one combination: drawn last, and they cost the run nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ground.text import one_line
from ground.versions import installed_version
from pipeline.exits import UsageError
from pipeline.judging import MemberFits
from pipeline.method import method_in_words
from pipeline.outcome import Outcome
from pipeline.page_evidence import page_evidence
from pipeline.plan import Combination
from pipeline.run_folder import RunFolder
from pipeline.screen import progress, say
from pipeline.settings import Settings

if TYPE_CHECKING:
    from detect.fitting import ClipTable
    from embed.recordings.dataset import DataSet
    from pipeline.model import Model
    from report.page import Run

CLIPS_ON_A_PAGE, CLIPS_IN_A_GRID = 10, 2
"""Clips to hear per machine, unless --page-clips says otherwise."""
FORMATS = ("png", "svg", "pdf")


def draw_run(
    outcome: Outcome,
    fits: Sequence[MemberFits],
    model: Model,
    dataset: DataSet,
    table: ClipTable,
    folder: RunFolder,
    left_out: Sequence[tuple[str, str]],
) -> None:
    """Write the page and the figures; whatever fails there costs these only, and is said."""
    from report import page

    settings, is_part = folder.settings, folder.is_part
    shown = page.Run(
        title=f"{dataset.name}: {outcome.combination.name}",
        table=table,
        scores=outcome.scores,
        results=outcome.results,
        decided=outcome.decided,
        settings=folder.flags,
        facts={"version": installed_version(), "date": time.strftime("%Y-%m-%d %H:%M")},
        unlike=[outlier for fit in fits[:1] for outlier in fit.outliers],
        warnings=[outcome.warning] if outcome.warning else [],
        errors=[*left_out, *([("fit", outcome.reason)] if outcome.reason else [])],
    )
    with _costing_itself(folder, "the page does not say what was done"):
        shown = with_method(shown, outcome.combination, fits, dataset, table)
    with _costing_itself(folder, "the page has no clips to hear"):
        shown = with_evidence(shown, fits, model, dataset, settings, is_part=is_part)
    with _costing_itself(folder, "the figures are not complete"):
        write_figures(folder.path, shown, settings.figures, is_part=is_part)
    with _costing_itself(folder, "there is no report.html"):
        page.write_report(folder.path, shown)


@contextmanager
def _costing_itself(folder: RunFolder, cost: str) -> Iterator[None]:
    """Say what is missing after an error of drawing; the run goes on."""
    try:
        yield
    except Exception as error:  # a picture is worth less than the run
        folder.log("failed", reason=f"{cost}: {one_line(error)}")
        say("page", f"{cost}: {one_line(error)}", "yellow")


def with_method(
    shown: Run,
    combination: Combination,
    fits: Sequence[MemberFits],
    dataset: DataSet,
    table: ClipTable,
) -> Run:
    """Add to a page what was done, in words, and where the vectors are."""
    vectors = ", ".join(str(path) for path in dict.fromkeys(fit.source.path for fit in fits))
    method = method_in_words(combination, fits, dataset, table)
    return replace(shown, facts={**shown.facts, "vectors": vectors}, method=method)


def with_evidence(
    shown: Run,
    fits: Sequence[MemberFits],
    model: Model,
    dataset: DataSet,
    settings: Settings,
    *,
    is_part: bool,
) -> Run:
    """Add to a page the map and clips to hear, as many per machine as --page-clips says.

    They are of the machines that the page draws. `is_part` tells whether the run is part of a grid.
    """
    from report.machine_scores import machine_scores, worst_first

    n_clips = settings.page_clips
    if n_clips is None:
        n_clips = CLIPS_IN_A_GRID if is_part else CLIPS_ON_A_PAGE
    chosen = worst_first(machine_scores(shown.table, shown.scores, shown.results))
    with progress("page", len(chosen), "machines", quiet=settings.quiet or not n_clips) as advance:
        evidence = page_evidence(
            chosen, fits, model, dataset, n_clips=n_clips, method=settings.map, advance=advance
        )
    return replace(shown, heard=evidence.heard, why=evidence.why, points=evidence.points)


def write_figures(folder: Path, shown: Run, figures: str, *, is_part: bool) -> None:
    """Write figures in the formats of --figures: by default two, and none for a part of a grid."""
    from report.figures import draw_figures, draw_roc, draw_scores
    from report.kept_figures import draw_or_copy
    from report.machine_scores import machine_scores

    formats = formats_of(figures)
    if formats is None and is_part:  # the page has the same, and a grid would draw for minutes
        return
    machines = machine_scores(shown.table, shown.scores, shown.results)
    if formats is not None:
        draw_figures(folder, machines, shown.scores, formats)
        return
    draw_or_copy(folder / "scores.png", machines, draw_scores)
    draw_or_copy(folder / "roc.png", machines, draw_roc)


def formats_of(text: str) -> tuple[str, ...] | None:
    """Read --figures; None where it was not given, UsageError for a format that there is not."""
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [name for name in names if name not in (*FORMATS, "none")]
    if unknown or ("none" in names and len(names) > 1):
        raise UsageError(f"--figures {text}: expected some of {', '.join(FORMATS)}, or none")
    return None if not names else () if names == ("none",) else names
