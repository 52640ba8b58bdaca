"""The page of a run: `report.html`, one file that needs nothing else and opens anywhere.

Numbers and shapes are worked out here, the templates beside this file lay them out.
Every name is escaped; nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from detect.fitting import ClipTable, Scores
from detect.results import Result
from detect.training_clips import TrainingOutlier
from report.figures import KINDS, MachineScores, machine_scores, worst_first
from report.tables import ranked, write_whole

if TYPE_CHECKING:
    from jinja2 import Environment

Array = NDArray[np.float64]
CLIPS_LISTED = 10
ROWS_LISTED = 500
WIDTH, HEIGHT, MARGIN = 240.0, 120.0, 4.0  # of a histogram, without its axis


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run has to tell."""

    title: str
    table: ClipTable
    scores: Sequence[Scores]
    results: Sequence[Result]
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    errors: Sequence[tuple[str, str]] = ()
    unlike: Sequence[TrainingOutlier] = ()
    data_root: Path | None = None


@dataclass(frozen=True)
class Bar:
    """One bin of a histogram, in the drawing's units, and what it says when pointed at."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    says: str


@dataclass(frozen=True)
class Tick:
    """A mark on the axis of scores."""

    x: float
    text: str


@dataclass(frozen=True)
class ListedClip:
    """A line of a ranking."""

    rank: int
    name: str
    key: str
    link: str
    score: str
    label: str


@dataclass(frozen=True)
class MachineCard:
    """What is drawn and listed for one machine."""

    name: str
    anchor: str
    result: Result | None
    counts: Mapping[str, int]
    bars: Sequence[Bar]
    ticks: Sequence[Tick]
    tallest: int
    roc: str
    clips: Sequence[ListedClip]
    n_clips: int


@dataclass(frozen=True)
class LossCurves:
    """How the losses of one model fell, as SVG path data in a box of a histogram's size."""

    name: str
    training: str
    held_out: str
    low: str
    high: str
    n_epochs: int
    best: str


def write_report(folder: Path, run: Run) -> Path:
    """Write `report.html` to a run folder."""
    machines = machine_scores(run.table, run.scores, run.results)
    chosen = sorted(worst_first(machines), key=lambda m: (m.machine_type, m.machine_id))
    rows = _rows(run.results)
    page = folder / "report.html"
    text = _templates().get_template("report.html.j2").render(
        title=run.title,
        run=run,
        rows=rows,
        shortened=len(run.results) > ROWS_LISTED,
        unlabelled=any(machine.of("unknown").size for machine in machines),
        headline=_headline(run.results),
        n_clips=sum(len(machine.keys) for machine in machines),
        n_machines=len(machines),
        facts={**run.facts, **_told(run.settings)},
        cards=[_card(machine, run.data_root) for machine in chosen],
        losses=_losses(run.scores, chosen),
        odd=_unlike_the_rest(run),
        noted=any(row.note for row in rows),
        domains=any(row.auc_source is not None or row.auc_target is not None for row in rows),
    )  # fmt: skip
    write_whole(page, text)
    return page


def write_leaderboard(
    folder: Path, entries: Sequence[Mapping[str, Any]], title: str = "Leaderboard"
) -> Path:
    """Write `leaderboard.html`: encoders and poolings down, detectors across, AUC as colour.

    Entries are those of `leaderboard.csv`. One with a `folder` links to the report in it; one
    without a detector (a `run` that was refused) is only listed, with its reason.
    """
    page = folder / "leaderboard.html"
    entries = ranked(entries)
    placed = {_across(e): e for e in reversed(entries) if e.get("detector")}
    rows = list(dict.fromkeys(_across(e)[0] for e in entries if e.get("detector")))
    columns = list(dict.fromkeys(_across(e)[1] for e in entries if e.get("detector")))
    text = _templates().get_template("leaderboard.html.j2").render(
        title=title,
        rows=rows,
        columns=columns,
        cells=placed,
        entries=entries,
        best=next((_across(e) for e in entries if e.get("auc_mean") is not None), None),
    )  # fmt: skip
    write_whole(page, text)
    return page


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["figure"] = _figure
    environment.filters["heat"] = _heat
    environment.filters["names"] = _across
    environment.filters["across"] = lambda value: round(100 * min(max(value, 0.0), 1.0), 2)
    return environment


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _heat(value: float) -> int:
    """Place an AUC between chance (0) and perfect (100)."""
    return round(100 * min(max((value - 0.5) / 0.5, 0.0), 1.0))


def _told(settings: Mapping[str, Any]) -> dict[str, str]:
    """Leave out settings that say nothing; lists and switches as a person writes them."""
    told = {}
    for name, value in settings.items():
        if isinstance(value, bool):
            told[name] = "yes" if value else "no"
        elif isinstance(value, (list, tuple)):
            told[name] = ", ".join(map(str, value))
        else:
            told[name] = "" if value is None else str(value)
    return {name: text for name, text in told.items() if text}


def _rows(results: Sequence[Result]) -> list[Result]:
    """Choose the rows: machines unless they are very many, and summaries of several."""
    types = [row.machine_type for row in results if not row.is_summary]
    shown = [row for row in results if not row.is_summary or types.count(row.machine_type) > 1]
    return shown if len(shown) <= ROWS_LISTED else [row for row in shown if row.is_summary]


def _headline(rows: Sequence[Result]) -> Result | None:
    """Choose the row worth large figures: the mean, if there is one type; else none."""
    means = [row for row in rows if row.machine_id == "mean"]
    return means[0] if len(means) == 1 and means[0].auc is not None else None


def _across(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Name the row and the column of a combination in the heat map."""
    names = {
        name: str(value)
        for name, value in entry.items()
        if name not in ("note", "error", "folder", "run", "encoder", "pooling", "detector")
        and not name.startswith(("auc_", "pauc_"))
        and value not in (None, "")
    }
    row = " · ".join(str(entry[n]) for n in ("encoder", "pooling", "run") if entry.get(n))
    more = [f"{name} {value}" for name, value in names.items()]
    return row, " · ".join([str(entry.get("detector", "")), *more])


def _card(machine: MachineScores, data_root: Path | None) -> MachineCard:
    edges = machine.edges()
    counts = {label: np.histogram(machine.of(label), edges)[0] for label in KINDS}
    tallest = int(max(count.max() for count in counts.values()))
    places = np.linspace(MARGIN, WIDTH - MARGIN, len(edges))
    bars = [
        Bar(
            label,
            round(float(places[i]) + 0.4, 2),
            round(HEIGHT * (1 - n / tallest), 2),
            round(float(places[i + 1] - places[i]) - 0.8, 2),
            round(HEIGHT * n / tallest, 2),
            f"{n} {label}, score {_score(edges[i])} to {_score(edges[i + 1])}",
        )
        for label in KINDS
        for i, n in enumerate(counts[label].tolist())
        if n
    ]
    clips = [
        ListedClip(rank, PurePosixPath(key).name, key, _link(data_root, key), _score(score), label)
        for rank, (key, label, score) in enumerate(
            zip(machine.keys, machine.labels, machine.scores, strict=True), start=1
        )
        if rank <= CLIPS_LISTED
    ]
    return MachineCard(
        name=machine.name,
        anchor=quote(machine.name.replace(" ", "-"), safe=""),
        result=machine.result,
        counts={label: len(machine.of(label)) for label in KINDS if len(machine.of(label))},
        bars=bars,
        ticks=_ticks(machine, edges),
        tallest=tallest,
        roc=_roc_path(machine),
        clips=clips,
        n_clips=len(machine.keys),
    )


def _ticks(machine: MachineScores, edges: Array) -> list[Tick]:
    values, low, high = machine.ticks(), edges[0], edges[-1]
    if machine.is_wide:
        share = np.log(values / low) / np.log(high / low)
    else:
        share = (values - low) / (high - low)
    places = MARGIN + (WIDTH - 2 * MARGIN) * share
    return [Tick(round(float(x), 2), f"{v:g}") for x, v in zip(places, values, strict=True)]


def _roc_path(machine: MachineScores) -> str:
    """Draw the curve as SVG path data in a square of 100; empty without both classes."""
    curve = machine.roc()
    if curve is None:
        return ""
    fpr, tpr = (np.round(100 * rate, 2).tolist() for rate in curve)
    return "M" + " L".join(f"{x:g},{100 - y:g}" for x, y in zip(fpr, tpr, strict=True))


def _losses(scores: Sequence[Scores], chosen: Sequence[MachineScores]) -> list[LossCurves]:
    """Draw the training of the networks behind the chosen machines."""
    shown = {(m.machine_type, machine_id) for m in chosen for machine_id in (m.machine_id, "")}
    return [
        _loss_curves(fitted)
        for fitted in scores
        if fitted.history and (fitted.unit.machine_type, fitted.unit.machine_id) in shown
    ]


def _loss_curves(fitted: Scores) -> LossCurves:
    losses = np.array([[e.training_loss, e.held_out_loss] for e in fitted.history])
    best = int(losses[:, 1].argmin())
    heights = np.log(losses) if losses.min() > 0 else losses
    low, high = heights.min(), heights.max()
    across = np.linspace(MARGIN, WIDTH - MARGIN, len(losses)).round(2).tolist()
    down = (HEIGHT * (high - heights) / ((high - low) or 1.0)).round(2)
    training, held_out = (
        "M" + " L".join(f"{x:g},{y:g}" for x, y in zip(across, column, strict=True))
        for column in down.T.tolist()
    )
    return LossCurves(
        fitted.unit.name,
        training,
        held_out,
        _score(losses.min()),
        _score(losses.max()),
        len(losses),
        f"{_score(losses[best, 1])} in epoch {fitted.history[best].number}",
    )


def _unlike_the_rest(run: Run) -> dict[str, list[ListedClip]]:
    """List training clips far from the others, by machine: an error in the data, or a fault."""
    found: dict[str, list[ListedClip]] = {}
    for clip in run.unlike:
        listed = found.setdefault(clip.machine, [])
        if len(listed) < CLIPS_LISTED:
            listed.append(
                ListedClip(
                    len(listed) + 1,
                    PurePosixPath(clip.key).name,
                    clip.key,
                    _link(run.data_root, clip.key),
                    f"{clip.distance:.1f}",
                    "times the median distance to its nearest others",
                )
            )
    return found


def _link(data_root: Path | None, key: str) -> str:
    return "" if data_root is None else f"{data_root.absolute().as_uri()}/{quote(key)}"


def _score(value: float) -> str:
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.4g}"
