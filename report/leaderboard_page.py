"""The page of a grid: `leaderboard.html`, encoders and poolings down, detectors across."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ground.files import write_whole
from report.leaderboard import Entry, is_name, ranked
from report.templates import render


def write_leaderboard(folder: Path, entries: Sequence[Entry], title: str = "Leaderboard") -> Path:
    """Write `leaderboard.html`: encoders and poolings down, detectors across, AUC as colour.

    Entries are those of `leaderboard.csv`. One with a `folder` links to the report in it; one
    without a detector (a `run` that was refused) is only listed, with its reason.
    """
    entries = ranked(entries)
    placed = {_place(e): e for e in reversed(entries) if e.get("detector")}
    text = render(
        "leaderboard.html.j2",
        title=title,
        rows=list(dict.fromkeys(_place(e)[0] for e in entries if e.get("detector"))),
        columns=list(dict.fromkeys(_place(e)[1] for e in entries if e.get("detector"))),
        cells=placed,
        lines=[(*_place(entry), entry) for entry in entries],
        best=next((_place(e) for e in entries if e.get("auc_mean") is not None), None),
    )
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "leaderboard.html"
    write_whole(page, text)
    return page


def _place(entry: Entry) -> tuple[str, str]:
    """Name the row and the column of a combination: what encodes, and what detects."""
    before = ("encoder", "pooling", "run")
    row = " · ".join(str(entry[name]) for name in before if entry.get(name))
    more = [
        f"{name} {value}"
        for name, value in entry.items()
        if is_name(name, value) and value and name not in (*before, "detector")
    ]
    return row, " · ".join([str(entry.get("detector", "")), *more])
