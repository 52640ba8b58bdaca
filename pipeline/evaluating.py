"""`evaluate`: AUC and pAUC of scores that are there, of our runs or of any system's score files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.finished_run import FinishedRun, columns_of, find_runs, holds_runs, stem_of
from pipeline.labels import Labels
from report.leaderboard import NOT_NAMES

if TYPE_CHECKING:
    from detect.results import Result


@dataclass(frozen=True)
class Evaluated:
    """The figures of one run, or of one folder of score files."""

    name: str
    folder: Path
    rows: Sequence[Result]
    year: int
    columns: Mapping[str, str]
    """Its names in a leaderboard."""


@dataclass(frozen=True)
class Evaluation:
    """Everything in a folder, evaluated."""

    runs: Sequence[Evaluated]
    is_grid: bool = False
    without_results: Sequence[Mapping[str, str]] = ()
    """Combinations of a grid that were refused or failed: their names, and `error`, the reason."""

    @property
    def unfinished(self) -> list[tuple[str, str]]:
        """Name each of these in a few words, with its reason."""
        return [
            (" ".join(text for name, text in row.items() if name not in NOT_NAMES), row["error"])
            for row in self.without_results
        ]

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The leaderboard of a grid."""
        from report.leaderboard import leaderboard_entry

        entries = [leaderboard_entry(run.rows, **run.columns) for run in self.runs]
        return entries + [leaderboard_entry([], **names) for names in self.without_results]


def evaluate(folder: Path, labels: Path | None = None) -> Evaluation:
    """Compare the scores in a run folder, a grid or a folder of score files with the labels.

    Labels are those of the run, or those in the names of the clips that score files list; those of
    the manifest `labels` win. The recordings are not needed. Raises ValueError for a folder that
    has no scores, and where `labels` names none of the clips.
    """
    from report.evaluation import evaluate_score_files, said_by_name

    known = Labels(labels) if labels else None
    if holds_runs(folder):
        found = find_runs(folder)
        runs = [
            Evaluated(stem_of(run.folder), run.folder, evaluate_run(run, known), run.year, columns)
            for run, columns in zip(found.runs, columns_of(found.runs), strict=True)
        ]
        return Evaluation(runs, found.is_grid, found.without_results)
    rows, year = evaluate_score_files(folder, known.of if known else said_by_name)
    if known:
        known.check()
    return Evaluation([Evaluated(str(folder), folder, rows, year, {})])


def evaluate_run(run: FinishedRun, labels: Labels | None = None) -> list[Result]:
    """Compute the results of a run again from its scores, with other `labels` if given."""
    from detect.results import results
    from report.ranking import as_scores

    clips = labels.given_to(run.clips) if labels else run.clips
    table, scores = as_scores(clips)
    rows = results(table, scores, run.fit_per, run.year, run.decided())  # type: ignore[arg-type]
    n_train = {(row.machine_type, row.machine_id): row.n_train for row in run.results}
    return [
        replace(row, n_train=n_train.get((row.machine_type, row.machine_id), 0)) for row in rows
    ]
