"""The page of a grid: `leaderboard.html`, a row per combination that can be sorted and filtered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ground.files import write_whole
from report.leaderboard import (
    Entry,
    is_name,
    names_apart,
    names_of,
    over_seeds,
    ranked,
    same_but_seed,
)
from report.templates import render, script

BEFORE = ("encoder", "pooling", "run")
"""Names that are rows of the table of means; the others are its columns."""


@dataclass(frozen=True)
class Seed:
    """One seed of a combination."""

    name: str
    link: str
    entry: Entry


@dataclass(frozen=True)
class Line:
    """A combination: the names that tell it from others, its figures, its seeds."""

    names: Sequence[str]
    entry: Entry
    link: str
    interval: tuple[float, float, float] | None
    """Start, length and AUC on the scale of the page, in percent."""
    seeds: Sequence[Seed]
    """Empty where there is one run."""
    reason: str


def write_leaderboard(folder: Path, entries: Sequence[Entry], title: str = "Leaderboard") -> Path:
    """Write `leaderboard.html`: a row per combination, best first, its seeds folded beneath.

    Entries are those of `leaderboard.csv`. One with a `folder` links to the report in it; one
    without a detector (a `run` that was refused) is only listed, with its reason.
    """
    merged = ranked(over_seeds(entries))
    shared, names = names_apart([_without_count(entry) for entry in merged])
    seeds = same_but_seed(entries)
    lows = [low for entry in merged if (low := entry.get("auc_low")) is not None]
    lowest = min([0.5, *lows])
    placed = {_place(e): e for e in reversed(merged) if e.get("detector")}
    has_seeds = any("auc_spread" in entry for entry in merged)
    code, code_hash = script("leaderboard.js")
    text = render(
        "leaderboard.html.j2",
        title=title,
        shared=shared,
        names=names or ["combination"],
        lines=[_line(entry, names, seeds[names_of(entry)], lowest) for entry in merged],
        n_columns=max(1, len(names)) + 5 + has_seeds,
        lowest=lowest,
        seeds=has_seeds,
        rows=list(dict.fromkeys(_place(e)[0] for e in merged if e.get("detector"))),
        columns=list(dict.fromkeys(_place(e)[1] for e in merged if e.get("detector"))),
        cells=placed,
        best=next((_place(e) for e in merged if e.get("auc_mean") is not None), None),
        script=code,
        script_hash=code_hash,
    )
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "leaderboard.html"
    write_whole(page, text)
    return page


def _without_count(entry: Entry) -> Entry:
    """Leave out how many seeds there are: the page lists them."""
    return {name: value for name, value in entry.items() if name != "seeds"}


def _line(entry: Entry, names: Sequence[str], same: Sequence[Entry], lowest: float) -> Line:
    """Lay out one combination."""
    texts = [str(entry.get(name, "")) for name in names] or ["1"]
    if entry.get("run") and "run" not in names:
        texts[0] = str(entry["run"])
    auc, low, high = (entry.get(figure) for figure in ("auc_mean", "auc_low", "auc_high"))
    interval = None
    if auc is not None and low is not None and high is not None:
        start, middle, end = (100 * (value - lowest) / (1 - lowest) for value in (low, auc, high))
        interval = (round(start, 2), round(end - start, 2), round(middle, 2))
    several = len(same) > 1
    seeds = [Seed(str(each.get("seed", "")), _link(each), each) for each in same] if several else []
    figures = ("auc_mean", "auc_spread", "auc_low", "auc_high", "auc_hmean", "auc_pooled")
    filled = {**dict.fromkeys((*figures, "pauc_mean")), **entry}
    reason = str(entry.get("error") or entry.get("note") or "")
    return Line(texts, filled, "" if several else _link(same[0]), interval, seeds, reason)


def _link(entry: Entry) -> str:
    return f"{quote(str(entry['folder']))}/report.html" if entry.get("folder") else ""


def _place(entry: Entry) -> tuple[str, str]:
    """Name the row and the column of a combination: what encodes, and what detects."""
    row = " · ".join(str(entry[name]) for name in BEFORE if entry.get(name))
    more = [
        f"{name} {value}"
        for name, value in entry.items()
        if is_name(name, value) and value and name not in (*BEFORE, "detector", "seeds")
    ]
    return row, " · ".join([str(entry.get("detector", "")), *more])
