"""The page and the figures of one combination: drawn last, and they cost the run nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ground.text import one_line
from ground.versions import installed_version
from pipeline.exits import UsageError
from pipeline.judging import MemberFits
from pipeline.method import method_in_words
from pipeline.outcome import Outcome
from pipeline.page_evidence import Evidence, page_evidence
from pipeline.run_folder import RunFolder
from pipeline.screen import progress, say

if TYPE_CHECKING:
    from detect.fitting import ClipTable
    from embed.recordings.dataset import DataSet
    from pipeline.model import Model
    from report.machine_scores import MachineScores

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
    from report.machine_scores import machine_scores

    machines = machine_scores(table, outcome.scores, outcome.results)
    evidence = Evidence()
    with _costing_itself(folder, "the page has no clips to hear"):
        evidence = _evidence(machines, fits, model, dataset, folder)
    with _costing_itself(folder, "the figures are not complete"):
        _figures(outcome, machines, folder)
    with _costing_itself(folder, "there is no report.html"):
        _page(outcome, fits, evidence, dataset, table, folder, left_out)


@contextmanager
def _costing_itself(folder: RunFolder, cost: str) -> Iterator[None]:
    """Say what is missing after an error of drawing; the run goes on."""
    try:
        yield
    except Exception as error:  # a picture is worth less than the run
        folder.log("failed", reason=f"{cost}: {one_line(error)}")
        say("page", f"{cost}: {one_line(error)}", "yellow")


def _evidence(
    machines: Sequence[MachineScores],
    fits: Sequence[MemberFits],
    model: Model,
    dataset: DataSet,
    folder: RunFolder,
) -> Evidence:
    """Gather clips to hear of the machines that the page draws, as many as --page-clips says."""
    from report.machine_scores import worst_first

    settings = folder.settings
    n_clips = settings.page_clips
    if n_clips is None:
        n_clips = CLIPS_IN_A_GRID if folder.is_part else CLIPS_ON_A_PAGE
    chosen = worst_first(machines)
    with progress("page", len(chosen), "machines", quiet=settings.quiet) as advance:
        return page_evidence(
            chosen, fits, model, dataset, n_clips=n_clips, method=settings.map, advance=advance
        )


def _figures(outcome: Outcome, machines: Sequence[MachineScores], folder: RunFolder) -> None:
    """Write figures in the formats asked for: by default two, and none for a part of a grid."""
    from report import figures
    from report.kept_figures import draw_or_copy

    formats = formats_of(folder.settings.figures)
    if formats is not None:
        figures.draw_figures(folder.path, machines, outcome.scores, formats)
    elif not folder.is_part:  # the page has the same figures, and a grid would draw for minutes
        draw_or_copy(folder.path / "scores.png", machines, figures.draw_scores)
        draw_or_copy(folder.path / "roc.png", machines, figures.draw_roc)


def formats_of(text: str) -> tuple[str, ...] | None:
    """Read --figures; None where it was not given, UsageError for a format that there is not."""
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [name for name in names if name not in (*FORMATS, "none")]
    if unknown or ("none" in names and len(names) > 1):
        raise UsageError(f"--figures {text}: expected some of {', '.join(FORMATS)}, or none")
    return None if not names else () if names == ("none",) else names


def _page(
    outcome: Outcome,
    fits: Sequence[MemberFits],
    evidence: Evidence,
    dataset: DataSet,
    table: ClipTable,
    folder: RunFolder,
    left_out: Sequence[tuple[str, str]],
) -> None:
    """Write `report.html` from what is known of the run."""
    from report import page

    run = page.Run(
        title=f"{dataset.name}: {outcome.combination.name}",
        table=table,
        scores=outcome.scores,
        results=outcome.results,
        decided=outcome.decided,
        settings=folder.flags,
        facts={
            "version": installed_version(),
            "date": time.strftime("%Y-%m-%d %H:%M"),
            "vectors": ", ".join(str(path) for path in dict.fromkeys(f.source.path for f in fits)),
        },
        unlike=[outlier for fit in fits[:1] for outlier in fit.outliers],
        warnings=[outcome.warning] if outcome.warning else [],
        errors=[*left_out, *([("fit", outcome.reason)] if outcome.reason else [])],
        method=method_in_words(outcome.combination, fits, dataset, table),
        heard=evidence.heard,
        why=evidence.why,
        points=evidence.points,
    )
    page.write_report(folder.path, run)
