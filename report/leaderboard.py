"""The combinations of a grid side by side: one entry each, best first, seeds merged.

An entry is a mapping: texts name the combination (encoder, pooling, detector, options, seed),
numbers say how good it was, `note` and `error` say why something is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from detect.results import TOTAL, Result
from report.csv_files import cell_of, csv_text

Entry = Mapping[str, Any]
NOT_NAMES = ("note", "error", "folder")


def leaderboard_entry(
    rows: Sequence[Result], *, error: str = "", note: str = "", **combination: str
) -> dict[str, Any]:
    """Sum up one combination: mean, harmonic mean and pooled AUC, averaged over types.

    `error` is the reason why it was refused or failed, `note` what a reader must know. The notes
    of summaries without an AUC are added.
    """
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
            entry[f"{figure}_{summary}"] = fmean(values) if values else None
    notes = [note, *(row.note for row in rows if row.is_summary and row.auc is None)]
    entry["note"] = "; ".join(dict.fromkeys(filter(None, notes)))
    return {**entry, "error": error} if error else entry


def ranked(entries: Iterable[Entry]) -> list[Entry]:
    """Sort combinations by mean AUC, best first; those without one come last."""
    return sorted(entries, key=lambda e: (e.get("auc_mean") is None, -(e.get("auc_mean") or 0.0)))


def over_seeds(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Merge entries that differ in their seed only: mean of each figure, spread of the AUC.

    `auc_spread` is the sample standard deviation of `auc_mean` over the seeds, `seeds` how many
    of them have an AUC. Notes and errors of all seeds are kept.
    """
    groups: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in entries:
        names = tuple(item for item in entry.items() if item[0] != "seed" and is_name(*item))
        groups.setdefault(names, []).append(entry)
    return [_merged(names, same) for names, same in groups.items()]


def leaderboard_csv(entries: Sequence[Entry]) -> str:
    """Format `leaderboard.csv`: one line per combination, the columns of all entries."""
    columns = columns_of(entries)
    lines = ([cell_of(entry.get(column)) for column in columns] for entry in entries)
    return csv_text([map(cell_of, columns), *lines])


def columns_of(entries: Iterable[Entry]) -> list[str]:
    """List the columns of all entries, in the order of their appearance."""
    return list(dict.fromkeys(column for entry in entries for column in entry))


def is_name(column: str, value: Any) -> bool:
    """Whether a column says which combination it is, rather than how good."""
    return column not in NOT_NAMES and isinstance(value, str)


def _merged(names: tuple[tuple[str, str], ...], same: Sequence[Entry]) -> dict[str, Any]:
    """Merge the entries of one combination."""
    n_rated = sum(isinstance(entry.get("auc_mean"), float) for entry in same)
    merged: dict[str, Any] = {**dict(names), "seeds": str(n_rated)}
    for column in columns_of(same):
        values = [value for entry in same if isinstance(value := entry.get(column), float)]
        if values:
            merged[column] = fmean(values)
            if column == "auc_mean" and len(values) > 1:
                merged["auc_spread"] = stdev(values)
    for column in ("note", "error"):
        texts = dict.fromkeys(entry[column] for entry in same if entry.get(column))
        if texts:
            merged[column] = "; ".join(texts)
    return merged
