"""Results as files and as tables a person reads at a glance.

Files appear whole or not at all. AUC and pAUC are fractions: six decimals in files, three in
tables, with the 95 % interval beside them.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path, PurePosixPath
from statistics import stdev
from typing import TYPE_CHECKING, Any

from detect.fitting import ClipTable, Scores
from detect.results import TOTAL, Result, official_score

if TYPE_CHECKING:
    from rich.table import Table

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
DOMAIN_COLUMNS = ("auc_source", "auc_target")


def results_csv(rows: Sequence[Result]) -> str:
    """Format `results.csv`; domain columns are appended where the data set has domains."""
    columns = COLUMNS + (DOMAIN_COLUMNS if _has_domains(rows) else ())
    return _csv([columns, *([_cell(getattr(row, c)) for c in columns] for row in rows)])


def results_json(rows: Sequence[Result], year: int, more: Mapping[str, Any] | None = None) -> str:
    """Format `results.json`: every row with its note, the official score, and what is added."""
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
    """Write `results.csv` and `results.json`."""
    write_whole(folder / "results.csv", results_csv(rows))
    write_whole(folder / "results.json", results_json(rows, year, more))


def write_scores(
    folder: Path, table: ClipTable, scores: Sequence[Scores], year: int = 2020
) -> list[Path]:
    """Write one `anomaly_score_<type>_<machine_id>.csv` per machine as DCASE wants it.

    No header, `file name,score`, higher is more anomalous. 2021 has a file per domain
    (`..._source_test.csv`), later years one per section (`..._test.csv`).
    """
    domain_of = dict(zip(table.key, table.domain, strict=True))
    files: dict[str, list[tuple[str, str]]] = {}
    for fitted in scores:
        unit = fitted.unit
        for key, machine_id, score in zip(
            unit.test_keys, unit.test_ids, fitted.scores, strict=True
        ):
            suffix = _suffix(year, domain_of[key])
            name = f"anomaly_score_{unit.machine_type}_{machine_id}{suffix}.csv"
            files.setdefault(name, []).append((key, repr(float(score))))
    paths = []
    for name, lines in sorted(files.items()):
        names = _short_names([key for key, _ in lines])
        text = _csv(zip(names, (score for _, score in lines), strict=True))
        paths.append(folder / name.replace("/", "_"))
        write_whole(paths[-1], text)
    return paths


def write_ranking(folder: Path, table: ClipTable, scores: Sequence[Scores]) -> Path:
    """Write `ranking.csv`: every test clip of each machine, the most anomalous first."""
    label_of = dict(zip(table.key, table.label, strict=True))
    clips = [
        (fitted.unit.machine_type, machine_id, -float(score), key)
        for fitted in scores
        for key, machine_id, score in zip(
            fitted.unit.test_keys, fitted.unit.test_ids, fitted.scores, strict=True
        )
    ]
    lines = [["machine_type", "machine_id", "rank", "key", "anomaly_score", "label"]]
    for (machine_type, machine_id), own in groupby(sorted(clips), key=lambda clip: clip[:2]):
        for rank, (_, _, score, key) in enumerate(own, start=1):
            told = [machine_type, machine_id, str(rank), key, repr(-score), label_of[key]]
            lines.append(told)
    path = folder / "ranking.csv"
    write_whole(path, _csv(lines))
    return path


def write_whole(path: Path, text: str) -> None:
    """Put a file in place complete, or leave what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def results_table(rows: Sequence[Result], title: str = "", year: int = 2020) -> Table:
    """Lay out one type's machines and their summaries, intervals beside the figures."""
    from rich.table import Table
    from rich.text import Text

    domains = _has_domains(rows)
    heading = Text(title, "table.title") if title else None
    table = Table(title=heading, title_justify="left", box=None, pad_edge=False)
    table.add_column("machine", no_wrap=True)
    for column in ("train", "normal", "anom."):
        table.add_column(column, justify="right")
    for column in ("AUC", "pAUC"):
        table.add_column(column, justify="right", no_wrap=True)
        table.add_column("95 %", no_wrap=True, style="dim")
    if domains:
        table.add_column("source", justify="right")
        table.add_column("target", justify="right")
    ended = False
    for row in rows:
        if row.is_summary and not ended:
            table.add_section()
        ended = row.is_summary
        cells: list[Any] = [
            Text(f"{row.machine_type} {row.machine_id}", "bold" if row.is_summary else ""),
            str(row.n_train),
            str(row.n_normal),
            str(row.n_anomalous),
            Text(_figure(row.auc), _colour(row.auc)),
            _interval(row.auc_low, row.auc_high),
            Text(_figure(row.pauc), _colour(row.pauc)),
            _interval(row.pauc_low, row.pauc_high),
        ]
        if domains:
            cells += [_figure(row.auc_source), _figure(row.auc_target)]
        table.add_row(*cells)
    notes = [f"{row.machine_type} {row.machine_id}: {row.note}" for row in rows if row.note]
    official = official_score(rows, year)
    if domains and official is not None:
        notes.append(f"official score of DCASE {year} (harmonic mean): {official:.3f}")
    table.caption = Text("\n".join(notes), "table.caption") if notes else None
    table.caption_justify = "left"
    return table


def leaderboard_csv(entries: Sequence[Mapping[str, Any]]) -> str:
    """Format `leaderboard.csv`: one line per combination, the columns of all entries."""
    columns = list(dict.fromkeys(column for entry in entries for column in entry))
    lines = ([_cell(entry.get(column)) for column in columns] for entry in entries)
    return _csv([columns, *lines])


def leaderboard_entry(rows: Sequence[Result], **combination: str) -> dict[str, Any]:
    """Sum up one combination: mean, harmonic mean and pooled AUC, averaged over types."""
    entry: dict[str, Any] = dict(combination)
    for summary in ("mean", "hmean", "pooled"):
        for figure in ("auc", "pauc"):
            values = [
                value
                for row in rows
                if row.machine_id == summary
                and row.machine_type != TOTAL
                and (value := getattr(row, figure)) is not None
            ]
            entry[f"{figure}_{summary}"] = sum(values) / len(values) if values else None
    notes = dict.fromkeys(row.note for row in rows if row.is_summary and row.auc is None)
    entry["note"] = "; ".join(note for note in notes if note)
    return entry


def ranked(entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Sort combinations by mean AUC, best first; those without one come last."""
    return sorted(entries, key=lambda e: (e.get("auc_mean") is None, -(e.get("auc_mean") or 0.0)))


FIGURES = {
    "auc_mean": "AUC mean",
    "auc_spread": "± seeds",
    "auc_hmean": "hmean",
    "auc_pooled": "pooled",
    "pauc_mean": "pAUC mean",
}
RATES = {"accuracy": "acc", "precision": "prec", "recall": "rec", "f1": "F1"}


def over_seeds(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Merge entries that differ in their seed only: mean of each figure, spread of the AUC.

    `auc_spread` is the sample standard deviation of `auc_mean` over the seeds.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for entry in entries:
        names = tuple(item for item in entry.items() if item[0] != "seed" and _is_name(*item))
        groups.setdefault(names, []).append(entry)
    merged = []
    for names, same in groups.items():
        columns = dict.fromkeys(column for entry in same for column in entry)
        n_rated = sum(isinstance(entry.get("auc_mean"), float) for entry in same)
        whole: dict[str, Any] = {**dict(names), "seeds": str(n_rated)}
        for column in columns:
            values = [v for entry in same if isinstance(v := entry.get(column), float)]
            if values:
                whole[column] = sum(values) / len(values)
                if column == "auc_mean" and len(values) > 1:
                    whole["auc_spread"] = stdev(values)
        for column in ("note", "error"):
            if told := next((entry[column] for entry in same if entry.get(column)), ""):
                whole[column] = told
        merged.append(whole)
    return merged


def leaderboard_table(entries: Sequence[Mapping[str, Any]], title: str = "") -> Table:
    """Lay out a grid's combinations, best mean AUC first, failures with their reason last."""
    from rich.table import Table
    from rich.text import Text

    entries = ranked(entries)
    columns = dict.fromkeys(column for entry in entries for column in entry)
    names = [c for c in columns if any(c in e and _is_name(c, e[c]) for e in entries)]
    figures = {c: heading for c, heading in FIGURES.items() if c in columns or c != "auc_spread"}
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for name in names:
        table.add_column(name)
    for heading in figures.values():
        table.add_column(heading, justify="right", no_wrap=True)
    rates = [column for column in columns if "_at_" in column]
    for column in rates:
        rate, _, threshold = column.partition("_at_")
        table.add_column(f"{RATES[rate]} {threshold}", justify="right", no_wrap=True)
    noted = any(entry.get("note") or entry.get("error") for entry in entries)
    if noted:
        table.add_column("", style="yellow")
    for entry in entries:
        cells: list[Any] = [str(entry.get(name, "")) for name in names]
        cells += [
            Text(_figure(entry.get(c)), "" if c == "auc_spread" else _colour(entry.get(c)))
            for c in figures
        ]
        cells += [_figure(entry.get(column)) for column in rates]
        if noted:
            cells.append(str(entry.get("error") or entry.get("note") or ""))
        table.add_row(*cells)
    return table


def _is_name(column: str, value: Any) -> bool:
    """Whether a column says which combination it is, rather than how good."""
    return column not in ("note", "error", "folder") and isinstance(value, str)


def _has_domains(rows: Iterable[Result]) -> bool:
    return any(row.auc_source is not None or row.auc_target is not None for row in rows)


def _suffix(year: int, domain: str) -> str:
    if year <= 2020:
        return ""
    return f"_{domain}_test" if year == 2021 and domain else "_test"


def _short_names(keys: Sequence[str]) -> list[str]:
    """File names without folders, as DCASE lists them; keys where two would be alike."""
    names = [PurePosixPath(key).name for key in keys]
    return names if len(set(names)) == len(names) else list(keys)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.2f}-{high:.2f}"


def _colour(value: float | None) -> str:
    if value is None:
        return "dim"
    return "green" if value >= 0.9 else "red" if value < 0.5 else ""


def _csv(lines: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
