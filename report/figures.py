"""The scores of a run as PNG files: histograms and ROC curves, per machine."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground.files import whole_file
from ground.text import visible
from report.machine_scores import KINDS, MachineScores, worst_first

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"normal": "#2f74b5", "anomalous": "#d9642c", "unknown": "#8a8f98"}


def draw_scores(path: Path, machines: Sequence[MachineScores]) -> bool:
    """Draw each machine's histogram of anomaly scores to a PNG; False where there is no machine."""
    drawn = worst_first(machines)
    if not drawn:
        return False
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
    return True


def draw_roc(path: Path, machines: Sequence[MachineScores]) -> bool:
    """Draw the ROC curves to one PNG; False where no machine has both classes."""
    drawn = worst_first([machine for machine in machines if machine.has_both_classes])
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
    """Write the PNG whole; every text is shown as it is, with fonts that have its characters."""
    from matplotlib.text import Text

    texts = figure.findobj(Text)
    for text in texts:  # a machine may have any name, in any script
        text.set_text(visible(text.get_text()))
    fonts = _fonts_for("".join(text.get_text() for text in texts))
    for text in texts:
        text.set_parse_math(False)
        text.set_fontfamily(fonts)
    with whole_file(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(temporary, dpi=110, format="png")


def _fonts_for(text: str) -> list[str]:
    """Name the usual font and, for the characters that it lacks, installed fonts that have them."""
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
