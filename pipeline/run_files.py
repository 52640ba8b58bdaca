"""The files of one combination in its run folder, and how they are read back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground.options import check_options
from ground.text import one_line
from pipeline.fusing import Fused
from pipeline.judging import MemberFits
from pipeline.outcome import Outcome
from pipeline.run_folder import RunFolder
from pipeline.run_page import draw_run

if TYPE_CHECKING:
    from detect.fitting import ClipTable
    from detect.results import Result
    from embed.recordings.dataset import DataSet


def write_run(
    outcome: Outcome,
    fits: Sequence[MemberFits],
    machines: Sequence[Fused],
    dataset: DataSet,
    table: ClipTable,
    folder: RunFolder,
    left_out: Sequence[tuple[str, str]],
) -> None:
    """Write the files of a combination; results.json comes last, and says that all are there."""
    from detect.oracle import oracle_thresholds_of
    from pipeline.model_writing import save_model
    from report import result_files, score_files

    year = dataset.year
    _log(folder, machines)
    path = folder.make()
    score_files.write_scores(path, table, outcome.scores, year)
    if outcome.judged:
        decided = {
            machine: [(key, verdict == "anomalous") for key, (_, verdict) in clips.items()]
            for machine, clips in outcome.judged.items()
        }
        score_files.write_decisions(path, table, decided, year)
    result_files.write_ranking(path, table, outcome.scores, outcome.judged, outcome.clip_notes)
    model = save_model(path / "model", outcome.combination, fits, machines)
    draw_run(outcome, fits, model, dataset, table, folder, left_out)
    more = {
        "oracle": oracle_thresholds_of(table, outcome.scores),
        "decisions": outcome.decisions,
        "failed": outcome.reason,
        "warning": outcome.warning,
    }
    result_files.write_results(path, outcome.results, year=year, more=more)


def _log(folder: RunFolder, machines: Sequence[Fused]) -> None:
    for machine in machines:
        for name, fitted in machine.members:
            if fitted.scores is None:
                continue
            scores = fitted.scores
            folder.log(
                "fitted",
                unit=scores.unit.name,
                member=name,
                seconds=scores.seconds,
                warnings=scores.warnings,
            )
            for epoch in scores.history:
                folder.log("epoch", unit=scores.unit.name, member=name, **asdict(epoch))


def load_run(path: str | Path) -> list[Result]:
    """Read the results of a run folder; ValueError for a folder that has none."""
    rows, _ = read_results(Path(path) / "results.json")
    return rows


@dataclass(frozen=True)
class Remarks:
    """What a results.json holds beside its rows."""

    decisions: Mapping[str, float]
    failed: str
    warning: str


def read_results(file: Path) -> tuple[list[Result], Remarks]:
    """Read a results.json; ValueError for one that is not as a run writes it."""
    from detect.results import Decided, Result

    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        rows = [Result(**row) for row in content["results"]]
        for row in rows:
            check_options(Result, vars(row))
            for decided in (row.decided, row.decided_source, row.decided_target):
                check_options(Decided, vars(decided) if decided else {})
        remarks = Remarks(content["decisions"], content["failed"], content["warning"])
        check_options(Remarks, vars(remarks))
        return rows, remarks
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{file} holds no results of a run: {one_line(error)}") from None
