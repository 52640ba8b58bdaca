"""The combinations of a grid side by side: one entry each, best first, seeds merged.

An entry is a mapping: texts name the combination (encoder, pooling, detector, options, seed),
numbers say how good it was, `note` and `error` say why something is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from detect.metrics import mean_interval
from detect.results import TOTAL, Result
from report.csv_files import cell_of, csv_text

Entry = Mapping[str, Any]
NOT_NAMES = ("note", "error", "folder")


def leaderboard_entry(
    rows: Sequence[Result], *, error: str = "", note: str = "", **combination: str
) -> dict[str, Any]:
    """Sum up one combination: mean, harmonic mean and pooled AUC, averaged over types.

    `auc_low` and `auc_high` are the 95 % interval of the mean, where every type has one. `error` is
    the reason why it was refused or failed, `note` what a reader must know. The notes of summaries
    without an AUC are added.
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
        if summary == "mean":
            entry |= _interval(rows)
    notes = [note, *(row.note for row in rows if row.is_summary and row.auc is None)]
    entry["note"] = "; ".join(dict.fromkeys(filter(None, notes)))
    return {**entry, "error": error} if error else entry


def _interval(rows: Sequence[Result]) -> dict[str, float]:
    """Interval of the mean over types, each of which has recordings of its own."""
    means = [
        (row.auc, row.auc_low, row.auc_high)
        for row in rows
        if row.machine_id == "mean" and row.machine_type != TOTAL and row.auc is not None
    ]
    if not means or any(None in figures for figures in means):
        return {}
    low, high = mean_interval(*zip(*means, strict=True))
    return {"auc_low": low, "auc_high": high}


def ranked(entries: Iterable[Entry]) -> list[Entry]:
    """Sort combinations by mean AUC, best first; those without one come last."""
    return sorted(entries, key=lambda e: (e.get("auc_mean") is None, -(e.get("auc_mean") or 0.0)))


def over_seeds(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Merge entries that differ in their seed only: mean of each figure, spread of the AUC.

    The limits of intervals are averaged too: they are over test clips, not over seeds.

    `auc_spread` is the sample standard deviation of `auc_mean` over the seeds, `seeds` how many
    of them have an AUC. Notes and errors of all seeds are kept.
    """
    return [_merged(names, same) for names, same in same_but_seed(entries).items()]


def same_but_seed(entries: Sequence[Entry]) -> dict[tuple[tuple[str, str], ...], list[Entry]]:
    """Group entries that differ in their seed only, by the names that they share."""
    groups: dict[tuple[tuple[str, str], ...], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(names_of(entry), []).append(entry)
    return groups


def names_of(entry: Entry) -> tuple[tuple[str, str], ...]:
    """List what names a combination, without its seed or how many seeds it has."""
    return tuple(
        item for item in entry.items() if item[0] not in ("seed", "seeds") and is_name(*item)
    )


def names_apart(entries: Sequence[Entry]) -> tuple[dict[str, str], list[str]]:
    """Split the names into those that all combinations share, with their values, and the rest."""
    columns = columns_of(entries)
    names = [name for name in columns if any(is_name(name, e.get(name)) for e in entries)]
    shared = {
        name: values.pop()
        for name in names
        if len(entries) > 1 and len(values := {str(e.get(name, "")) for e in entries}) == 1
    }
    return shared, [name for name in names if name not in shared]


def following(entries: Sequence[Entry], names: Sequence[str]) -> set[str]:
    """Tell which names follow from earlier ones, such as each encoder's own pooling."""
    found: set[str] = set()
    for i, name in enumerate(names):
        before = [{n: e.get(n) for n in names[:i] if n not in found} for e in entries]
        kinds = {tuple(own.values()) for own in before}
        finer = {(*own.values(), e.get(name)) for own, e in zip(before, entries, strict=True)}
        if len(finer) == len(kinds):
            found.add(name)
    return found


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
