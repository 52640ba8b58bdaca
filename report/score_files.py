"""DCASE's score and decision files of a system, written and read.

A score file has no heading and lines of `file name,score`, a decision file lines of
`file name,0 or 1`, where 1 is anomalous. Their names say which machine they are about; from 2021 on
they end in the year's suffix:

    2020  anomaly_score_ToyCar_id_00.csv
    2021  anomaly_score_fan_section_00_source_test.csv     decision_result_..., a file per domain
    2022  anomaly_score_fan_section_00_test.csv            decision_result_..., and later years

2020 had no decision files; ours are then called decision_result_ToyCar_id_00.csv.

Machines with other names are written under `ground.file_names.file_name`, which differs for
different machines, and without the year's suffix; `machine_of` undoes the encoding, unless the name
was so long that it was cut. The file names inside are exact and never marked for spreadsheets,
since DCASE's evaluator looks them up; open `ranking.csv` in a spreadsheet instead.

The files of more than 1,000 machines lie in folders `scores_000`, `scores_001` and so on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isnan, nan
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from detect.fitting import ClipTable, Scores
from ground.file_names import file_name
from ground.files import synced_at_once, write_whole
from report.csv_files import csv_lines, csv_text

Machine = tuple[str, str]
"""Machine type and machine ID."""

SCORES = "anomaly_score_"
DECISIONS = "decision_result_"
IN_ONE_FOLDER = 1000
"""More files of a kind go into numbered folders, so many into each; DCASE has no rule for that."""
SHARD = "scores_"
DCASE_ID = re.compile(r"(?:id|section)_\d+")
DCASE_NAME = re.compile(
    rf"(?P<machine_type>.+?)_(?P<machine_id>{DCASE_ID.pattern})"
    r"(?:_(?P<domain>source|target)(?=_|$))?(?:_.+)?"
)
LABELS = {"normal": "normal", "anomaly": "anomalous"}
CLIP = re.compile(
    r"(?:section_\d+_(?P<domain>source|target)_test_)?(?:(?P<label>normal|anomaly)_)?.+"
)
ENCODED = re.compile(r"(?:\+[0-9A-F]{2})+")


@dataclass(frozen=True)
class NamedMachine:
    """What the name of a score file says; `domain` only where there is a file per domain."""

    machine_type: str
    machine_id: str
    domain: str = ""


def write_scores(
    folder: Path, table: ClipTable, scores: Sequence[Scores], year: int = 2020
) -> list[Path]:
    """Write the `anomaly_score_*.csv` of each machine as DCASE wants it in that year.

    Clips without a score (NaN) are left out.
    """
    lines: dict[Machine, list[tuple[str, str]]] = {}
    for fitted in scores:
        for key, machine_id, score in fitted.by_clip():
            if not isnan(score):
                machine = fitted.unit.machine_type, machine_id
                lines.setdefault(machine, []).append((key, repr(score)))
    return _write(folder, SCORES, table, lines, year)


def write_decisions(
    folder: Path,
    table: ClipTable,
    decided: Mapping[Machine, Sequence[tuple[str, bool]]],
    year: int = 2020,
) -> list[Path]:
    """Write the `decision_result_*.csv` of each machine as DCASE wants it in that year.

    `decided` has the clips of each machine type and ID, with True for an anomalous one.
    """
    lines = {
        machine: [(key, str(int(is_anomalous))) for key, is_anomalous in clips]
        for machine, clips in decided.items()
    }
    return _write(folder, DECISIONS, table, lines, year)


def machine_of(name: str) -> NamedMachine:
    """Tell from a file's name, without prefix and `.csv`, which machine it is about.

    ValueError where no underscore separates type and ID.
    """
    if match := DCASE_NAME.fullmatch(name):
        machine_type, machine_id, domain = match.groups()
    else:
        (machine_type, separator, machine_id), domain = name.partition("_"), ""
        machine_id = machine_id.removesuffix("_")
        if not separator:
            raise ValueError(f"no machine type and ID, such as fan_id_01, in {name!r}")
    return NamedMachine(_decoded(machine_type), _decoded(machine_id), domain or "")


def label_and_domain(name: str) -> tuple[str, str]:
    """Read what the name of a DCASE clip says: `unknown` and "" where it says nothing."""
    clip = CLIP.fullmatch(PurePosixPath(name).name)
    label, domain = (clip["label"], clip["domain"]) if clip else (None, None)
    return LABELS.get(label or "", "unknown"), domain or ""


def read_score_file(path: Path) -> list[tuple[str, float]]:
    """Read `file name,score` lines; ValueError, with file and line, for anything else."""
    return [(name, _score(text, place)) for name, text, place in _lines(path, "file name,score")]


def read_decision_file(path: Path) -> list[tuple[str, bool]]:
    """Read `file name,0 or 1` lines; ValueError, with file and line, for anything else."""
    return [
        (name, _decision(text, place)) for name, text, place in _lines(path, "file name,0 or 1")
    ]


def _write(
    folder: Path,
    prefix: str,
    table: ClipTable,
    lines: Mapping[Machine, Sequence[tuple[str, str]]],
    year: int,
) -> list[Path]:
    """Write one file per machine, in 2021 one per domain too; lines are clip key and cell."""
    domain_of = dict(zip(table.key, table.domain, strict=True))
    files: dict[str, list[tuple[str, str]]] = {}
    for machine, cells in lines.items():
        name_of = {
            domain: f"{prefix}{_name(machine, year, domain)}.csv"
            for domain in {domain_of[key] for key, _ in cells}
        }
        for key, cell in cells:
            files.setdefault(name_of[domain_of[key]], []).append((key, cell))
    paths = list(_places(folder, sorted(files)))
    with synced_at_once(len(paths)):
        for path in paths:
            cells = files[path.name]
            names = _short_names([key for key, _ in cells])
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, csv_text(zip(names, (cell for _, cell in cells), strict=True)))
    return paths


def _places(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Say where each file goes: into `folder`, or into numbered folders there where it is full."""
    is_full = len(names) > IN_ONE_FOLDER
    for i, name in enumerate(names):
        yield (folder / f"{SHARD}{i // IN_ONE_FOLDER:03d}" if is_full else folder) / name


def score_files_in(folder: Path, prefix: str) -> list[Path]:
    """List the files of a kind in a folder, or in the numbered folders of many machines."""
    found = [*folder.glob(f"{prefix}*.csv"), *folder.glob(f"{SHARD}[0-9]*/{prefix}*.csv")]
    return sorted(path for path in found if path.is_file())


def _name(machine: Machine, year: int, domain: str) -> str:
    """Name a machine such that `machine_of` finds type and ID again; add the year's suffix."""
    if DCASE_ID.fullmatch(machine[1]) and year > 2020:
        suffix = f"_{domain}_test" if year == 2021 and domain else "_test"
    else:
        suffix = ""
    name = file_name(*machine)
    read = machine_of(name)
    is_plain = (read.machine_type, read.machine_id) == tuple(normalize("NFC", n) for n in machine)
    return name + suffix if is_plain else file_name(*machine, "")  # its underscores are encoded too


def _short_names(keys: Sequence[str]) -> list[str]:
    """File names without folders, as DCASE lists them; keys where two would be alike."""
    names = [PurePosixPath(key).name for key in keys]
    return names if len(set(names)) == len(names) else list(keys)


def _decoded(part: str) -> str:
    """Undo the encoding of `ground.file_names`; what it cannot have written stays."""
    try:
        return ENCODED.sub(
            lambda found: bytes.fromhex(found[0].replace("+", "")).decode("utf-8", "surrogatepass"),
            part,
        )
    except UnicodeDecodeError:
        return part


def _lines(path: Path, expected: str) -> Iterator[tuple[str, str, str]]:
    """Read lines of two cells: the file name, the other cell, and the place for messages."""
    names: set[str] = set()
    for number, cells in csv_lines(path):
        place = f"{path}, line {number}"
        if len(cells) != 2:
            raise ValueError(f"{place}: expected {expected!r}, got {','.join(cells)!r}")
        if cells[0] in names:
            raise ValueError(f"{place}: {cells[0]!r} is listed twice")
        names.add(cells[0])
        yield cells[0], cells[1], place


def _score(text: str, place: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = nan
    if not isfinite(score):
        raise ValueError(f"{place}: expected a finite number as the score, got {text!r}")
    return score


def _decision(text: str, place: str) -> bool:
    if text.strip() not in ("0", "1"):
        raise ValueError(f"{place}: expected 0 (normal) or 1 (anomalous), got {text!r}")
    return text.strip() == "1"
