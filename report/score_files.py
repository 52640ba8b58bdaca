"""Evaluate anyone's DCASE score files: labels and domains are in the file names they list.

From 2021 on there are domains, and each year's rule says how they are compared; 2021 alone has a
score file per domain.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path, PurePosixPath

import numpy as np

from detect.fitting import Array, ClipTable, FitUnit, Scores
from detect.results import Result, results

SCORE_FILE = re.compile(
    r"anomaly_score_(?P<machine_type>.+)_(?P<machine_id>(?:id|section)_\d+)"
    r"(?:_(?P<domain>source|target)(?=_|\.csv))?(?:_.+)?\.csv"
)
LABELS = {"normal": "normal", "anomaly": "anomalous"}
CLIP = re.compile(
    r"(?:section_\d+_(?P<domain>source|target)_test_)?(?:(?P<label>normal|anomaly)_)?.+"
)


def evaluate_score_files(folder: Path) -> tuple[list[Result], int]:
    """Compute AUC and pAUC per machine ID, means and pooled, from `anomaly_score_*.csv`.

    Returns them with the DCASE year whose rules apply: 2021 for a file per domain, 2022 (2023
    where there is no section but 00) for domains in the clips' names, 2020 without domains.
    Training clips are not known here, so `n_train` is 0. Clips without a label in their name
    count as unlabelled. Raises ValueError for a folder without such files, or a line that is
    not `file name,score`.
    """
    paths = sorted(path for path in folder.glob("anomaly_score_*.csv") if path.is_file())
    if not paths:
        raise ValueError(
            f"{folder} has no anomaly_score_<machine_type>_<machine_id>.csv; name the folder "
            "that holds a system's score files"
        )
    keys: list[str] = []
    types: list[str] = []
    ids: list[str] = []
    labels: list[str] = []
    domains: list[str] = []
    has_files_per_domain = False
    fitted: list[Scores] = []
    for path in paths:
        match = SCORE_FILE.fullmatch(path.name)
        if match is None:
            raise ValueError(
                f"Cannot tell which machine {path.name!r} is about: expected "
                "anomaly_score_<machine_type>_<machine_id>.csv, as anomaly_score_fan_id_01.csv"
            )
        names, scores = read_score_file(path)
        n = len(names)
        listed = tuple(f"{path.stem}/{name}" for name in names)
        keys += listed
        types += [match["machine_type"]] * n
        ids += [match["machine_id"]] * n
        clips = [CLIP.fullmatch(PurePosixPath(name).name) for name in names]
        labels += [LABELS.get((clip and clip["label"]) or "", "unknown") for clip in clips]
        domains += [(clip and clip["domain"]) or match["domain"] or "" for clip in clips]
        has_files_per_domain |= match["domain"] is not None
        unit = FitUnit(
            match["machine_type"], match["machine_id"], (), (), listed, (match["machine_id"],) * n
        )
        fitted.append(Scores(unit, scores, None, 0.0))
    columns = keys, types, ids, ["test"] * len(keys), labels, domains
    table = ClipTable(*(tuple(column) for column in columns))
    if has_files_per_domain:
        year = 2021
    elif any(domains):
        year = 2023 if set(ids) == {"section_00"} else 2022
    else:
        year = 2020
    return results(table, fitted, year=year), year


def read_score_file(path: Path) -> tuple[list[str], Array]:
    """Read `file name,score` lines; names and scores (n,)."""
    names: list[str] = []
    scores: list[float] = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        for line in csv.reader(file):
            if not line:
                continue
            try:
                name, score = line
                scores.append(float(score))
            except ValueError:
                raise ValueError(
                    f"{path}, line {len(names) + 1}: expected 'file name,score', "
                    f"got {','.join(line)!r}"
                ) from None
            if not np.isfinite(scores[-1]):
                raise ValueError(f"{path}, line {len(names) + 1}: the score {score!r} is no number")
            names.append(name)
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path} lists {twice!r} twice")
    return names, np.array(scores, dtype=np.float64)
