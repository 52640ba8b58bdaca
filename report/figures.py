"""What the scores of a run look like: histograms and ROC curves, per machine.

`machine_scores` gathers the numbers; `draw_scores` and `draw_roc` make a PNG of them. The report's
page draws the same numbers by itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detect.fitting import ClipTable, Scores
from detect.results import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
KINDS = ("normal", "anomalous", "unknown")
COLOURS = {"normal": "#2f74b5", "anomalous": "#d9642c", "unknown": "#8a8f98"}
DRAWN_AT_MOST = 24
N_BINS = 24
WIDE_RANGE = 8.0  # from lowest to highest score; beyond it the axis is logarithmic


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
        values: Array = self.scores[np.array(self.labels) == label]
        return values

    @property
    def is_wide(self) -> bool:
        """Whether the scores span so much that only a logarithmic axis shows them all."""
        low, high = self.scores.min(), self.scores.max()
        return bool(low > 0 and high / low > WIDE_RANGE)

    def edges(self, n_bins: int = N_BINS) -> Array:
        """Edges of the histogram's bins, shared by all labels."""
        low, high = float(self.scores.min()), float(self.scores.max())
        if self.is_wide:
            return np.geomspace(low, high, n_bins + 1)
        if low == high:
            low, high = low - 0.5, high + 0.5
        return np.linspace(low, high, n_bins + 1)

    def ticks(self) -> Array:
        """Round scores to mark on the axis."""
        from matplotlib.ticker import LogLocator, MaxNLocator

        edges = self.edges()
        low, high = float(edges[0]), float(edges[-1])
        if self.is_wide:
            subs = (
                (1.0, 2.0, 5.0) if high < 50 * low else (1.0, 3.0) if high < 1e3 * low else (1.0,)
            )
            values = np.asarray(LogLocator(subs=subs, numticks=8).tick_values(low, high))
        else:
            values = np.asarray(MaxNLocator(4).tick_values(low, high))
        ticks: Array = values[(values >= low) & (values <= high)]
        return ticks

    def roc(self) -> tuple[Array, Array] | None:
        """Rates of false and of true alarms over all thresholds; None unless both classes exist."""
        from sklearn.metrics import roc_curve

        normal, anomalous = self.of("normal"), self.of("anomalous")
        if not len(normal) or not len(anomalous):
            return None
        truth = np.repeat([False, True], [len(normal), len(anomalous)])
        fpr, tpr, _ = roc_curve(truth, np.concatenate([normal, anomalous]))
        return fpr, tpr


def machine_scores(
    table: ClipTable, scores: Sequence[Scores], results: Sequence[Result]
) -> list[MachineScores]:
    """Gather the test clips of each machine, most anomalous first."""
    label_of = dict(zip(table.key, table.label, strict=True))
    result_of = {(r.machine_type, r.machine_id): r for r in results if not r.is_summary}
    clips: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for fitted in scores:
        unit = fitted.unit
        for key, machine_id, score in zip(
            unit.test_keys, unit.test_ids, fitted.scores, strict=True
        ):
            clips.setdefault((unit.machine_type, machine_id), []).append((-float(score), key))
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


def draw_scores(path: Path, machines: Sequence[MachineScores]) -> None:
    """Draw each machine's histogram of anomaly scores to a PNG."""
    drawn = worst_first(machines)
    n_columns = min(3, len(drawn))
    n_rows = -(-len(drawn) // n_columns)
    figure, axes = _subplots(n_rows, n_columns, width=4.2 * n_columns, height=2.6 * n_rows)
    for axis, machine in zip(axes, drawn, strict=False):
        for label in KINDS:
            values = machine.of(label)
            if len(values):
                edges = machine.edges().tolist()
                axis.hist(values, edges, color=COLOURS[label], alpha=0.6, label=label, lw=0)
        if machine.is_wide:
            axis.set_xscale("log")
        axis.set_xticks(machine.ticks(), [f"{tick:g}" for tick in machine.ticks()])
        axis.set_xticks([], minor=True)
        auc = machine.result.auc if machine.result else None
        axis.set_title(machine.name + ("" if auc is None else f"   AUC {auc:.3f}"), fontsize=10)
        axis.set_xlabel("anomaly score", fontsize=8)
    for axis in axes[len(drawn) :]:
        axis.set_visible(False)
    axes[0].set_ylabel("clips", fontsize=8)
    axes[0].legend(frameon=False, fontsize=8)
    _save(figure, path)


def draw_roc(path: Path, machines: Sequence[MachineScores]) -> bool:
    """Draw the ROC curves to one PNG; False where no machine has both classes."""
    drawn = worst_first([machine for machine in machines if machine.roc() is not None])
    if not drawn:
        return False
    figure, (axis,) = _subplots(1, 1, width=5.2, height=5.0)
    axis.axvspan(0, 0.1, color="#8a8f98", alpha=0.15, lw=0, label="pAUC range")
    axis.plot([0, 1], [0, 1], color="#8a8f98", lw=0.8, ls=":")
    for machine in drawn:
        curve = machine.roc()
        if curve is not None:
            auc = machine.result.auc if machine.result else None
            axis.plot(*curve, lw=1.5, label=machine.name + ("" if auc is None else f"  {auc:.3f}"))
    axis.set(xlabel="false alarms", ylabel="anomalies found", xlim=(-0.01, 1.01), ylim=(0, 1.01))
    axis.set_aspect("equal")
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    _save(figure, path)
    return True


def _subplots(
    n_rows: int, n_columns: int, width: float, height: float
) -> tuple[Any, Sequence[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    from matplotlib.text import Text

    texts = figure.findobj(Text)
    fonts = _fonts_for("".join(text.get_text() for text in texts))
    for text in texts:  # a machine may be called anything, in any script
        text.set_parse_math(False)
        text.set_fontfamily(fonts)
    partial = path.with_name(f".{path.name}.partial")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(partial, dpi=110, format="png")
    partial.replace(path)


def _fonts_for(text: str) -> list[str]:
    """Name the usual font and, for what it lacks, installed ones that have it."""
    from matplotlib import font_manager, rcParams

    usual = list(rcParams["font.family"])
    missing = {ord(c) for c in text if c.isprintable()}
    missing -= _characters_of(font_manager.findfont(font_manager.FontProperties()))
    upright = [
        font
        for font in font_manager.fontManager.ttflist
        if missing and font.style == "normal" and "Last Resort" not in font.name  # boxes again
    ]
    for font in sorted(upright, key=lambda font: (font.weight != 400, font.name)):
        if found := missing & _characters_of(font.fname):
            usual.append(font.name)
            missing -= found
        if not missing:
            break
    return list(dict.fromkeys(usual))


@cache
def _characters_of(font: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(font).get_charmap())
    except (OSError, RuntimeError):  # a font file that cannot be read
        return frozenset()
