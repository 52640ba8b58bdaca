"""Histograms, ROC curves and loss curves as shapes of an SVG drawing, which templates lay out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detect.fitting import Scores
from report.machine_scores import KINDS, MachineScores

Array = NDArray[np.float64]
WIDTH, HEIGHT, MARGIN = 240.0, 120.0, 4.0
"""Of a histogram without its axis, in the drawing's units."""
ORDER_HEIGHT = 58.0
DOTS_AT_MOST = 400
CURVE_POINTS = 400
"""A ROC curve of more points is rounded to half a percent, which nobody sees."""


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
class LossCurves:
    """How the losses of one model fell, as SVG path data in a box of a histogram's size."""

    name: str
    training: str
    held_out: str
    low: str
    high: str
    n_epochs: int
    best: str


@dataclass(frozen=True)
class Histogram:
    """The anomaly scores of one machine's test clips."""

    bars: Sequence[Bar]
    ticks: Sequence[Tick]
    tallest: int
    """Clips in the highest bar."""
    threshold: float | None = None
    """Where the threshold is drawn; None without one among the scores."""


def histogram(machine: MachineScores) -> Histogram:
    """Draw how many clips of each label have which score."""
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
            f"{n} {label}, score {short(edges[i])} to {short(edges[i + 1])}",
        )
        for label in KINDS
        for i, n in enumerate(counts[label].tolist())
        if n
    ]
    values = machine.ticks()
    ticks = [
        Tick(x, f"{value:g}") for x, value in zip(_across(machine, values), values, strict=True)
    ]
    threshold = _threshold_among(machine)
    if threshold is not None:
        (threshold,) = _across(machine, np.array([threshold]))
    return Histogram(bars, ticks, tallest, threshold)


@dataclass(frozen=True)
class ClipOrder:
    """Scores in the order of the clips' keys: a dot per clip, as SVG path data by label."""

    paths: Mapping[str, str]
    threshold: float | None
    """Where the threshold is drawn; None without one among the scores."""


def clip_order(machine: MachineScores) -> ClipOrder:
    """Draw the scores of a machine's clips in the order of their keys; evenly chosen of many."""
    order = sorted(range(len(machine.keys)), key=machine.keys.__getitem__)
    chosen = order[:: -(-len(order) // DOTS_AT_MOST)]
    scores = machine.scores[chosen]
    heights = np.log(scores) if machine.is_wide else scores
    low, high = float(heights.min()), float(heights.max())
    span = (high - low) or 1.0
    across = np.linspace(MARGIN + 3, WIDTH - MARGIN, len(chosen)).round(1).tolist()
    up = (ORDER_HEIGHT * (high - heights) / span).round(1).tolist()
    paths = {
        label: "".join(
            f"M{x:g},{y:g}h0"
            for x, y, row in zip(across, up, chosen, strict=True)
            if machine.labels[row] == label
        )
        for label in KINDS
    }
    limit = _threshold_among(machine)
    if limit is not None:
        limit = ORDER_HEIGHT * (high - (np.log(limit) if machine.is_wide else limit)) / span
        limit = round(float(min(max(limit, 0.0), ORDER_HEIGHT)), 1)
    return ClipOrder({label: path for label, path in paths.items() if path}, limit)


def _threshold_among(machine: MachineScores) -> float | None:
    """Return the threshold where it lies among the scores of a machine."""
    decided = machine.result.decided if machine.result else None
    low, high = machine.edges()[[0, -1]]
    if decided and decided.threshold is not None and low <= decided.threshold <= high:
        return decided.threshold
    return None


def roc_path(machine: MachineScores) -> str:
    """Draw the ROC curve as SVG path data in a square of 100; empty without both classes."""
    curve = machine.roc()
    if curve is None:
        return ""
    points = 100 * np.stack(curve, axis=1)
    points = points.round(2) if len(points) <= CURVE_POINTS else _thinned(points)
    return "M" + " L".join(f"{x:g},{100 - y:g}" for x, y in points.tolist())


def training_losses(scores: Sequence[Scores], chosen: Sequence[MachineScores]) -> list[LossCurves]:
    """Draw the training of the networks behind the chosen machines."""
    shown = {(m.machine_type, machine_id) for m in chosen for machine_id in (m.machine_id, "")}
    return [
        _loss_curves(fitted)
        for fitted in scores
        if fitted.history and (fitted.unit.machine_type, fitted.unit.machine_id) in shown
    ]


def _loss_curves(fitted: Scores) -> LossCurves:
    """Draw the losses of a fit as two paths, by their logarithms where all are positive."""
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
        short(losses.min()),
        short(losses.max()),
        len(losses),
        f"{short(losses[best, 1])} in epoch {fitted.history[best].number}",
    )


def short(value: float) -> str:
    """Write a score with about four digits."""
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.4g}"


def _thinned(points: Array) -> Array:
    """Round points to half a percent and keep each place once, (n, 2) to (m, 2)."""
    rounded = (2 * points).round() / 2
    is_new = np.concatenate([[True], np.any(np.diff(rounded, axis=0) != 0, axis=1)])
    thinned: Array = rounded[is_new]
    return thinned


def _across(machine: MachineScores, values: Array) -> list[float]:
    """Place scores on the axis of the machine's histogram."""
    low, high = machine.edges()[[0, -1]]
    if machine.is_wide:
        share = np.log(values / low) / np.log(high / low)
    else:
        share = (values - low) / (high - low)
    places: list[float] = (MARGIN + (WIDTH - 2 * MARGIN) * share).round(2).tolist()
    return places
