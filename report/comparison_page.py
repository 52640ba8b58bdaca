"""The page of a comparison: what the data tell in sentences, and every difference as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ground.files import write_whole
from report.comparison import Compared, Comparison, Figure
from report.tables import noted, p_value_text
from report.templates import render

LABELS = {"auc": "AUC", "pauc": "pAUC"}


@dataclass(frozen=True)
class Difference:
    """One difference, and where it lies on the scale of its table, in percent."""

    figure: Figure
    start: float
    length: float
    middle: float
    p_value: str

    @property
    def kind(self) -> str:
        """How it is coloured."""
        if not self.figure.is_sure:
            return "unsure"
        return "better" if self.figure.difference > 0 else "worse"

    @property
    def text(self) -> str:
        """What the picture shows, for who does not see it."""
        figure = self.figure
        return f"{figure.difference:+.3f}, 95 % {figure.low:+.3f} to {figure.high:+.3f}"


@dataclass(frozen=True)
class Row:
    """One machine, type, or all."""

    row: Comparison
    cells: Sequence[Difference | None]
    """AUC, then pAUC."""


@dataclass(frozen=True)
class Part:
    """One method against the first."""

    name: str
    sentence: str
    rows: Sequence[Row]
    figures: Sequence[str]
    """Which figures any of its rows has."""
    reach: float
    """The largest difference on its scale, which is 0 in the middle."""
    notes: Sequence[str]


def write_comparison(path: Path, compared: Compared, title: str = "Comparison") -> Path:
    """Write the page of a comparison to a file; it needs no other file."""
    names = compared.names
    parts = [
        _part(name, sentence, compared.of(name))
        for name, sentence in zip(names[1:], compared.sentences, strict=True)
    ]
    text = render(
        "comparison.html.j2",
        title=title,
        first=names[0],
        parts=parts,
        remarks=compared.remarks,
        labels=LABELS,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
    return path


def _part(name: str, sentence: str, rows: Sequence[Comparison]) -> Part:
    figures = [figure for figure in LABELS if any(getattr(row, figure) for row in rows)]
    all_figures = [own for row in rows for figure in figures if (own := getattr(row, figure))]
    ends = [abs(end) for own in all_figures for end in (own.low, own.high, own.difference)]
    reach = max([0.05, *ends])
    in_order = sorted(rows, key=lambda row: ("all", "type", "machine").index(row.level))
    cells = [
        Row(row, [_placed(getattr(row, figure), reach) for figure in figures]) for row in in_order
    ]
    notes = list(noted((row.machine, row.note) for row in rows))
    return Part(name, sentence, cells, figures, reach, notes)


def _placed(figure: Figure | None, reach: float) -> Difference | None:
    if figure is None:
        return None

    def place(value: float) -> float:
        return round(50 + 50 * value / reach, 2)

    start, end = place(figure.low), place(figure.high)
    return Difference(
        figure,
        start,
        round(end - start, 2),
        place(figure.difference),
        p_value_text(figure.adjusted),
    )
