r"""Tables for a terminal: names stay whole, and columns give way where the screen is narrow.

AUC and pAUC are fractions with three decimals. Names come from outside, so they are shown as they
are: nothing in them is markup, and control characters are written as `\x1b` and the like.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from detect.results import Decided, Result, official_score
from ground.text import visible
from report.leaderboard import Entry, columns_of, following, names_apart, ranked

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

    from report.comparison import Comparison, Figure

FIGURES = {
    "auc_mean": "AUC mean",
    "auc_spread": "± seeds",
    "auc_hmean": "hmean",
    "auc_pooled": "pooled",
    "pauc_mean": "pAUC mean",
}
GIVES_WAY = {"auc_pooled": 4, "auc_hmean": 3, "pauc_mean": 1}
"""Which figures of a leaderboard are left out first where the screen is narrow."""
ORDER = "by AUC of its test clips (oracle order)"
RATES = {"accuracy": "acc", "precision": "prec", "recall": "rec", "f1": "F1"}
COMPARED = 60
"""As many machines as a table of a comparison lists; the JSON and the page have all."""
SHOWN_AT_MOST = 100
SHOWN_OF_MANY = 20
LISTED = 4
"""As many names as one note lists; of more it says how many."""


@dataclass(frozen=True)
class Column:
    """A column; those with the highest `gives_way` are left out first, those with 0 never."""

    heading: str
    cells: Sequence[Text]
    gives_way: int = 0
    is_name: bool = False


@dataclass(frozen=True)
class FittedTable:
    """A table that rich prints with as many of its columns as fit, and lines of notes below."""

    columns: Sequence[Column]
    title: str = ""
    notes: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield title, table and notes; each may be wider than the table and wraps by itself."""
        if self.title:
            yield _text(self.title, "table.title")
        yield self._fitted(console, options)
        for note in self.notes:
            yield _text(note, "table.caption")

    def _fitted(self, console: Console, options: ConsoleOptions) -> Table:
        """Leave out columns until the rest fits, or until only those are left that stay."""
        columns = list(self.columns)
        unbounded = options.update(width=1_000_000)
        while True:
            table = self._table(columns)
            first = max((column.gives_way for column in columns), default=0)
            if not first or console.measure(table, options=unbounded).maximum <= options.max_width:
                return table
            columns = [column for column in columns if column.gives_way < first]

    def _table(self, columns: Sequence[Column]) -> Table:
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for column in columns:
            table.add_column(
                _text(column.heading),
                justify="left" if column.is_name else "right",
                no_wrap=not column.is_name,
                overflow="fold",
            )
        for cells in zip(*(column.cells for column in columns), strict=True):
            table.add_row(*cells)
        return table


def results_table(rows: Sequence[Result], title: str = "", year: int = 2020) -> FittedTable:
    """Lay out one type's machines and their summaries, intervals beside the figures.

    Of more than 100 machines there are the 20 with the lowest AUC.
    """
    every, (rows, not_shown) = rows, _shown(rows)
    columns = [
        Column("machine", [_text(row.name, "bold" * row.is_summary) for row in rows], 0, True),
        *(
            Column(heading, [_text(str(count)) for count in counts], 3)
            for heading, counts in (
                ("train", [row.n_train for row in rows]),
                ("normal", [row.n_normal for row in rows]),
                ("anom.", [row.n_anomalous for row in rows]),
            )
        ),
        Column("AUC", [_figure(row.auc) for row in rows]),
        Column("95 %", [_interval(row.auc_low, row.auc_high) for row in rows], 4),
        Column("pAUC", [_figure(row.pauc) for row in rows]),
        Column("95 %", [_interval(row.pauc_low, row.pauc_high) for row in rows], 4),
    ]
    has_domains = any(r.auc_source is not None or r.auc_target is not None for r in rows)
    if has_domains:
        columns += [
            Column("source", [_figure(row.auc_source) for row in rows], 2),
            Column("target", [_figure(row.auc_target) for row in rows], 2),
        ]
    notes = [*not_shown, *notes_of(rows)]
    if any(row.decided for row in rows):
        columns.append(Column("alarms", [_text(alarms(row.decided)) for row in rows], 1))
        notes.append("alarms: promised -> measured false-alarm rate, anomalous clips found")
    official = official_score(every, year)
    if has_domains and official is not None:
        notes.append(f"official score of DCASE {year} (harmonic mean): {official:.3f}")
    return FittedTable(columns, title, notes)


def notes_of(rows: Sequence[Result]) -> list[str]:
    """Say each note of the rows once, with the machines that it is about."""
    return list(noted((row.name, row.note) for row in rows))


def alarms(decided: Decided | None) -> str:
    """Say what a threshold promised and did: `5 % -> 6.3 %, recall 71 %`; "" without one."""
    if decided is None:
        return ""
    promised, false_alarms = decided.promised_false_alarms, decided.false_alarms
    rates = [percent(rate) for rate in (promised, false_alarms) if rate is not None]
    if false_alarms is None and decided.recall is None:  # no labels
        counted = f"{decided.n_decided_anomalous} anomalous"
    else:
        counted = "" if decided.recall is None else f"recall {percent(decided.recall)}"
    return ", ".join(filter(None, [" -> ".join(rates), counted]))


def percent(share: float) -> str:
    """Write a share in percent, with two digits: `5 %`, `6.3 %`, `71 %`."""
    number = 100 * share
    return f"{number:.0f} %" if number >= 10 else f"{float(f'{number:.2g}'):g} %"


def leaderboard_table(entries: Sequence[Entry], title: str = "") -> FittedTable:
    """Lay out a grid's combinations, best mean AUC first; reasons of failures are below.

    The title says that the order uses labels, and names what all combinations share.
    """
    entries = ranked(entries)
    columns = columns_of(entries)
    shared, told_apart = names_apart(entries)
    said = [title, ORDER, *(f"{name} {value}" for name, value in shared.items())]
    redundant = following(entries, told_apart)
    shown = [
        Column(
            name,
            [_text(str(e.get(name, ""))) for e in entries],
            5 if name in redundant else 0,
            True,
        )
        for name in told_apart
    ]
    for figure, heading in FIGURES.items():
        if figure in columns or figure != "auc_spread":
            cells = [_figure(entry.get(figure), figure != "auc_spread") for entry in entries]
            shown.append(Column(heading, cells, GIVES_WAY.get(figure, 0)))
        if figure == "auc_mean" and "auc_low" in columns:
            cells = [_interval(entry.get("auc_low"), entry.get("auc_high")) for entry in entries]
            shown.append(Column("95 %", cells, 2))
    for column in columns:
        rate, at, threshold = column.partition("_at_")
        if at and rate in RATES:
            cells = [_figure(entry.get(column), False) for entry in entries]
            shown.append(Column(f"{RATES[rate]} {threshold}", cells, 5))
    reasons = (
        (" ".join(str(e[n]) for n in told_apart if n != "seeds" and e.get(n)), e.get(kind, ""))
        for kind in ("error", "note")
        for e in entries
    )
    return FittedTable(shown, ", ".join(filter(None, said)), list(noted(reasons)))


def comparison_table(rows: Sequence[Comparison], title: str = "") -> FittedTable:
    """Lay out one method against the first one: differences with intervals and p-values."""
    rows = [row for row in rows if row.level != "machine"] + [
        row for row in rows if row.level == "machine"
    ][:COMPARED]
    columns = [
        Column(
            "machine", [_text(r.machine, "bold" * (r.level != "machine")) for r in rows], 0, True
        ),
        Column("normal", [_text(str(row.n_normal)) for row in rows], 3),
        Column("anom.", [_text(str(row.n_anomalous)) for row in rows], 3),
    ]
    for heading, figures in (
        ("AUC", [row.auc for row in rows]),
        ("pAUC", [row.pauc for row in rows]),
    ):
        if not any(figures):
            continue
        second = 1 if heading == "pAUC" else 0
        columns += [
            Column(heading, [_text(_from_to(figure)) for figure in figures], 2),
            Column(f"Δ{heading}", [_difference(figure) for figure in figures], second),
            Column("95 %", [_difference_interval(figure) for figure in figures], second),
            Column("p", [_p_value(figure) for figure in figures], second),
        ]
    return FittedTable(columns, title, list(noted((row.machine, row.note) for row in rows)))


def noted(notes: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Say each note once, with the names that it is about."""
    names_of: dict[str, list[str]] = {}
    for name, note in notes:
        if note:
            names_of.setdefault(note, []).append(name)
    for note, names in names_of.items():
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        yield f"{', '.join(names[:LISTED])}{more}: {note}".removeprefix(": ")


def _text(text: str, style: str = "") -> Text:
    """Show a text in one line."""
    from rich.text import Text

    return Text(visible(text).replace("\n", "\\n").replace("\t", "\\t"), style)


def _shown(rows: Sequence[Result]) -> tuple[Sequence[Result], list[str]]:
    """Choose the rows that a person can read, and say which are left out."""
    machines = [row for row in rows if not row.is_summary]
    if len(machines) <= SHOWN_AT_MOST:
        return rows, []
    worst = sorted(machines, key=lambda row: 2.0 if row.auc is None else row.auc)[:SHOWN_OF_MANY]
    summaries = [row for row in rows if row.is_summary]
    note = f"{len(worst)} of {len(machines)} machines, those with the lowest AUC"
    return [*worst, *summaries], [f"{note}; results.csv and --json have all"]


def _figure(value: float | None, is_auc: bool = True) -> Text:
    from rich.text import Text

    if value is None:
        return Text("-", "dim")
    style = "" if not is_auc else "green" if value >= 0.9 else "red" if value < 0.5 else ""
    return Text(f"{value:.3f}", style)


def _from_to(figure: Figure | None) -> str:
    return "-" if figure is None else f"{figure.first:.3f} -> {figure.own:.3f}"


def _difference(figure: Figure | None) -> Text:
    from rich.text import Text

    if figure is None:
        return Text("-", "dim")
    style = "" if not figure.is_sure else "green" if figure.difference > 0 else "red"
    return Text(f"{round(figure.difference, 3) + 0.0:+.3f}", style)


def _difference_interval(figure: Figure | None) -> Text:
    from rich.text import Text

    if figure is None:
        return Text("")
    low, high = round(figure.low, 2) + 0.0, round(figure.high, 2) + 0.0
    return Text(f"{low:+.2f} to {high:+.2f}", "dim")


def _p_value(figure: Figure | None) -> Text:
    return _text("" if figure is None else p_value_text(figure.adjusted))


def p_value_text(p_value: float) -> str:
    """Write a p-value with two digits: `0.031`, `<0.001`."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _interval(low: float | None, high: float | None) -> Text:
    from rich.text import Text

    return Text("" if low is None or high is None else f"{low:.2f}-{high:.2f}", "dim")
