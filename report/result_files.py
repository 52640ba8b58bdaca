"""What a run measured, as files: `results.csv`, `results.json` and `ranking.csv`.

AUC and pAUC are fractions with six decimals in CSV files, and exact in JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from itertools import groupby
from math import isnan
from pathlib import Path
from typing import Any

from detect.fitting import ClipTable, Scores
from detect.results import Result, official_score
from ground.files import write_whole
from report.csv_files import cell_of, csv_text
from report.score_files import Machine

COLUMNS = (
    "machine_type",
    "machine_id",
    "n_train",
    "n_normal",
    "n_anomalous",
    "auc",
    "auc_low",
    "auc_high",
    "pauc",
    "pauc_low",
    "pauc_high",
)
"""The first columns of `results.csv`, which are always there."""


def results_csv(rows: Sequence[Result]) -> str:
    """Format `results.csv`: the promised columns, then each further one that some row fills."""
    cells_of = [_cells(row) for row in rows]
    filled = dict.fromkeys(column for cells in cells_of for column in cells)
    in_order = dict.fromkeys([*COLUMNS, *(field.name for field in fields(Result)), *filled])
    columns = [column for column in in_order if column in COLUMNS or column in filled]
    return csv_text([columns, *([cells.get(c, "") for c in columns] for cells in cells_of)])


def _cells(row: Result) -> dict[str, str]:
    """Return the cells of a row that are not empty; what thresholds decided comes last."""
    plain = {
        field.name: getattr(row, field.name)
        for field in fields(Result)
        if not field.name.startswith("decided")
        and (field.name in COLUMNS or getattr(row, field.name) != field.default)
    }
    decided = {  # the row's own note has what the threshold's says
        column: value
        for column, value in row.decision_columns().items()
        if not column.startswith("note")
    }
    cells = {column: cell_of(value) for column, value in {**plain, **decided}.items()}
    return {column: cell for column, cell in cells.items() if cell}


def results_json(rows: Sequence[Result], year: int, more: Mapping[str, Any] | None = None) -> str:
    """Format `results.json`: every row, the official score, and what is added."""
    content = {
        "results": [asdict(row) for row in rows],
        "official_score": official_score(rows, year),
        "year": year,
        **(more or {}),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def write_results(
    folder: Path,
    rows: Sequence[Result],
    *,
    year: int = 2020,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write `results.csv` and `results.json`, the latter last."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "results.csv", results_csv(rows))
    write_whole(folder / "results.json", results_json(rows, year, more))


def write_ranking(
    folder: Path,
    table: ClipTable,
    scores: Sequence[Scores],
    judged: Mapping[Machine, Mapping[str, tuple[float, str]]] | None = None,
    notes: Mapping[str, str] | None = None,
) -> Path:
    """Write `ranking.csv`: every test clip of each machine, the most anomalous first.

    Clips without a score are last. `judged` has p-value and verdict by machine and clip key; they
    become two more columns, empty for clips that it lacks. Domains, where there are any, and
    `notes` by clip key become a column each. `report.ranking` reads it back.
    """
    label_of = dict(zip(table.key, table.label, strict=True))
    domain_of = dict(zip(table.key, table.domain, strict=True)) if any(table.domain) else {}
    clips = sorted(
        ((fitted.unit.machine_type, machine_id), isnan(score), -score, key)
        for fitted in scores
        for key, machine_id, score in fitted.by_clip()
    )
    heading = ["machine_type", "machine_id", "rank", "key", "anomaly_score", "label"]
    heading += ["p_value", "verdict"] * bool(judged) + ["note"] * bool(notes)
    lines = [heading + ["domain"] * bool(domain_of)]
    for machine, own in groupby(clips, key=lambda clip: clip[0]):
        judged_clips = (judged or {}).get(machine, {})
        for rank, (_, is_unrated, negative, key) in enumerate(own, start=1):
            cells = [*map(cell_of, machine), str(rank), cell_of(key)]
            cells += ["" if is_unrated else repr(-negative), cell_of(label_of[key])]
            if judged:
                cells += map(cell_of, judged_clips.get(key, (None, None)))
            if notes:
                cells.append(cell_of(notes.get(key)))
            if domain_of:
                cells.append(cell_of(domain_of[key]))
            lines.append(cells)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ranking.csv"
    write_whole(path, csv_text(lines))
    return path
