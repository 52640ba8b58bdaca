"""The test clips of each machine by their scores: what histograms, ROC curves and rankings show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detect.fitting import ClipTable, Scores
from detect.results import Result

Array = NDArray[np.float64]
KINDS = ("normal", "anomalous", "unknown")
DRAWN_AT_MOST = 24
"""As many machines as a figure or a page draws."""
N_BINS = 24
TICKS = 4
"""An axis is divided into about so many parts."""
ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)
"""What a tick is a multiple of, times a power of ten."""
WIDE_RANGE = 8.0
"""Highest over lowest score, beyond which the axis is logarithmic."""


@dataclass(frozen=True)
class MachineScores:
    """One machine's test clips, the most anomalous first."""

    machine_type: str
    machine_id: str
    keys: tuple[str, ...]
    labels: tuple[str, ...]
    scores: Array
    result: Result | None

    @property
    def name(self) -> str:
        return f"{self.machine_type} {self.machine_id}".strip()

    def of(self, label: str) -> Array:
        """Return the scores of the clips with a label, (n,)."""
        values: Array = self.scores[np.array(self.labels) == label]
        return values

    @property
    def is_wide(self) -> bool:
        """Whether the scores span so much that only a logarithmic axis shows them all."""
        low, high = self.scores.min(), self.scores.max()
        return bool(low > 0 and high / low > WIDE_RANGE)

    def edges(self, n_bins: int = N_BINS) -> Array:
        """Return the edges of the histogram's bins, (n_bins + 1,), shared by all labels."""
        low, high = float(self.scores.min()), float(self.scores.max())
        if self.is_wide:
            return np.geomspace(low, high, n_bins + 1)
        if low == high:
            low, high = low - 0.5, high + 0.5
        return np.linspace(low, high, n_bins + 1)

    def ticks(self) -> Array:
        """Choose round scores to mark on the axis."""
        edges = self.edges()
        low, high = float(edges[0]), float(edges[-1])
        values = _decades(low, high) if self.is_wide else _steps(low, high)
        ticks: Array = values[(values >= low) & (values <= high)]
        return ticks

    @property
    def has_both_classes(self) -> bool:
        return {"normal", "anomalous"} <= set(self.labels)

    def roc(self) -> tuple[Array, Array] | None:
        """Return the rates of false alarms and of anomalies found over all thresholds, (n,) each.

        None unless both classes exist.
        """
        from sklearn.metrics import roc_curve

        if not self.has_both_classes:
            return None
        normal, anomalous = self.of("normal"), self.of("anomalous")
        truth = np.repeat([False, True], [len(normal), len(anomalous)])
        fpr, tpr, _ = roc_curve(truth, np.concatenate([normal, anomalous]))
        return fpr, tpr


def _steps(low: float, high: float) -> Array:
    """List multiples of a round step, at most five from `low` to `high`."""
    least = (high - low) / TICKS
    magnitude = 10.0 ** np.floor(np.log10(least))
    step = magnitude * next(round_ for round_ in ROUND if round_ * magnitude >= 0.999 * least)
    steps: Array = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
    return steps + 0.0  # no -0


def _decades(low: float, high: float) -> Array:
    """List round numbers whose logarithms are spread from `low` to `high`, both above zero."""
    first, last = np.floor(np.log10(low)), np.floor(np.log10(high))
    parts = (1.0, 2.0, 5.0) if high < 50 * low else (1.0, 3.0) if high < 1e3 * low else (1.0,)
    decades = np.arange(first, last + 1, max(1, (last - first) // TICKS))
    return np.outer(10.0**decades, parts).ravel()


def machine_scores(
    table: ClipTable, scores: Sequence[Scores], results: Sequence[Result]
) -> list[MachineScores]:
    """Gather the test clips of each machine that have a score, most anomalous first."""
    label_of = dict(zip(table.key, table.label, strict=True))
    result_of = {(r.machine_type, r.machine_id): r for r in results if not r.is_summary}
    clips: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for fitted in scores:
        for key, machine_id, score in fitted.by_clip():
            if np.isfinite(score):
                machine = fitted.unit.machine_type, machine_id
                clips.setdefault(machine, []).append((-score, key))
    gathered = []
    for machine in sorted(clips):
        ranked = sorted(clips[machine])
        gathered.append(
            MachineScores(
                *machine,
                keys=tuple(key for _, key in ranked),
                labels=tuple(label_of[key] for _, key in ranked),
                scores=np.array([-negative for negative, _ in ranked]),
                result=result_of.get(machine),
            )
        )
    return gathered


def worst_first(machines: Sequence[MachineScores]) -> list[MachineScores]:
    """Choose the machines worth a figure: all, or of very many those with the lowest AUC."""
    if len(machines) <= DRAWN_AT_MOST:
        return list(machines)

    def auc(machine: MachineScores) -> float:
        result = machine.result
        return 2.0 if result is None or result.auc is None else result.auc

    return sorted(machines, key=auc)[:DRAWN_AT_MOST]
