"""Evaluate the DCASE score files of any system.

Labels and domains are in the file names that they list, or come from elsewhere by those names.
From 2021 on there are domains, and each year's rule says how they are compared; 2021 alone has a
score file per domain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from detect.fitting import ClipTable, FitUnit, Scores
from detect.results import Decided, Result, rate_decisions, results
from report.ranking import RankedClip
from report.score_files import (
    DECISIONS,
    SCORES,
    Machine,
    NamedMachine,
    label_and_domain,
    machine_of,
    read_decision_file,
    read_score_file,
    score_files_in,
)

Say = Callable[[Machine, str], tuple[str, str]]
"""Says label and domain of a machine's clip by its name."""


def said_by_name(machine: Machine, name: str) -> tuple[str, str]:
    """Read label and domain from the clip's name, as DCASE writes them."""
    return label_and_domain(name)


def evaluate_score_files(folder: Path, say: Say = said_by_name) -> tuple[list[Result], int]:
    """Compute AUC and pAUC per machine ID, means and pooled, from `anomaly_score_*.csv`.

    `decision_result_*.csv` beside them give recall, precision, F1 and false alarms.

    Returns them with the DCASE year whose rules apply: 2021 for a file per domain, 2022 (2023
    where there is no section but 00) for domains in the clips' names, 2020 without domains.
    Training clips are not known here, so `n_train` is 0. Clips without a label count as unlabelled;
    `say` has the labels where names have none. Raises ValueError for a folder without such files,
    or a line that is not `file name,score`.
    """
    paths = _files(folder, SCORES)
    if not paths:
        raise ValueError(
            f"{folder} has no anomaly_score_<machine_type>_<machine_id>.csv; name the folder "
            "that holds a system's score files"
        )
    rows: list[tuple[str, str, str, str, str, str]] = []
    fitted: list[Scores] = []
    for path, machine in paths.items():
        lines = read_score_file(path)
        keys = tuple(f"{path.stem}/{name}" for name, _ in lines)
        for key, (name, _) in zip(keys, lines, strict=True):
            label, domain = say((machine.machine_type, machine.machine_id), name)
            domain = domain or machine.domain
            rows.append((key, machine.machine_type, machine.machine_id, "test", label, domain))
        ids = (machine.machine_id,) * len(keys)
        unit = FitUnit(machine.machine_type, machine.machine_id, (), (), keys, ids)
        fitted.append(Scores(unit, np.array([score for _, score in lines]), None, 0.0))
    if not rows:
        raise ValueError(f"{folder}: its score files are all empty")
    table = ClipTable(*zip(*rows, strict=True))
    year = _year(table, any(machine.domain for machine in paths.values()))
    return _with_decisions(results(table, fitted, year=year), folder, say), year


def clips_of_score_files(folder: Path) -> list[RankedClip]:
    """Read every clip that `anomaly_score_*.csv` list, called by its name there.

    Labels and domains are those of the names. Raises ValueError as `evaluate_score_files` does.
    """
    clips = []
    for path, machine in _files(folder, SCORES).items():
        for name, score in read_score_file(path):
            label, domain = said_by_name((machine.machine_type, machine.machine_id), name)
            clips.append(
                RankedClip(
                    machine.machine_type,
                    machine.machine_id,
                    name,
                    label,
                    score,
                    domain or machine.domain,
                )
            )
    return clips


def _with_decisions(rows: Sequence[Result], folder: Path, say: Say) -> list[Result]:
    """Add to machines and pooled rows what `decision_result_*.csv` beside the scores decided.

    Clips without a label are counted and not rated. Raises ValueError for a line
    that is not `file name,0` or `file name,1`.
    """
    clips: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for path, named in _files(folder, DECISIONS).items():
        machine = named.machine_type, named.machine_id
        for name, is_anomalous in read_decision_file(path):
            clip = say(machine, name)[0], "anomalous" if is_anomalous else "normal"
            clips.setdefault(machine, []).append(clip)
            clips.setdefault((named.machine_type, "pooled"), []).append(clip)
    return [
        replace(row, decided=_decided(clips[machine])) if machine in clips else row
        for row in rows
        for machine in [(row.machine_type, row.machine_id)]
    ]


def _decided(clips: Sequence[tuple[str, str]]) -> Decided:
    """Rate decisions, label and verdict of each clip, whose promise nobody knows."""
    labels, verdicts = zip(*clips, strict=True)
    unknown = np.full(len(clips), np.nan)
    return replace(rate_decisions(labels, unknown, verdicts, unknown), promised_false_alarms=None)


def _files(folder: Path, prefix: str) -> dict[Path, NamedMachine]:
    """List the files of a kind, with the machine that each is about."""
    found = {}
    for path in score_files_in(folder, prefix):
        try:
            found[path] = machine_of(path.stem.removeprefix(prefix))
        except ValueError as error:
            raise ValueError(f"Cannot tell which machine {path.name!r} is about: {error}") from None
    return found


def _year(table: ClipTable, has_files_per_domain: bool) -> int:
    """Tell by whose year's rules to compare."""
    if has_files_per_domain:
        return 2021
    if any(table.domain):
        return 2023 if set(table.machine_id) == {"section_00"} else 2022
    return 2020
