"""The figures of a run as files: sized for a column of a paper, in PNG, SVG or PDF.

Colours differ in lightness too, and anomalous clips have a pattern or a shape of their own, so that
the figures can be read in grey and by colour-blind eyes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ground.files import whole_file
from ground.text import visible
from report.machine_scores import KINDS, MachineScores, worst_first

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from detect.fitting import Scores

COLOURS = {"normal": "#2f74b5", "anomalous": "#e07b39", "unknown": "#8a8f98"}
HATCHES = {"normal": "", "anomalous": "////", "unknown": "...."}
MARKERS = {"normal": "o", "anomalous": "^", "unknown": "s"}
LINES = ("-", "--", "-.", ":")
COLUMN, PAGE = 3.5, 7.2
"""Widths of one column of a paper and of two, in inches."""
SMALL, USUAL = 7, 8
"""Sizes of letters in points."""
DPI = 200
CLASS_ROWS = 24
Drawing = Callable[[Path], bool]


def draw_figures(
    folder: Path,
    machines: Sequence[MachineScores],
    scores: Sequence[Scores],
    formats: Sequence[str],
) -> list[Path]:
    """Draw all figures of a run that it has data for, in each format; return the files.

    `scores`, `roc`, `order`, `confusion`, `classes` and, where networks were trained, `losses`.
    """
    drawings: dict[str, Drawing] = {
        "scores": partial(draw_scores, machines=machines),
        "roc": partial(draw_roc, machines=machines),
        "order": partial(draw_order, machines=machines),
        "confusion": partial(draw_confusion, machines=machines),
        "classes": partial(draw_classes, machines=machines),
        "losses": partial(draw_losses, scores=scores),
    }
    paths = [(folder / f"{name}.{kind}", name) for kind in formats for name in drawings]
    return [path for path, name in paths if drawings[name](path)]


def draw_scores(path: Path, machines: Sequence[MachineScores]) -> bool:
    """Draw each machine's histogram of anomaly scores; False where there is no machine."""
    drawn = worst_first(machines)
    if not drawn:
        return False
    figure, axes = _per_machine(len(drawn), 1.5)
    for axis, machine in zip(axes, drawn, strict=False):
        for label in KINDS:
            values = machine.of(label)
            if len(values):
                edges, colour = machine.edges().tolist(), COLOURS[label]
                style: dict[str, Any] = {"hatch": HATCHES[label], "edgecolor": colour, "lw": 0.6}
                axis.hist(values, edges, facecolor=f"{colour}80", label=label, **style)
        if machine.is_wide:
            axis.set_xscale("log")
        axis.set_xticks(machine.ticks(), [f"{tick:g}" for tick in machine.ticks()])
        axis.set_xticks([], minor=True)
        _mark_threshold(axis.axvline, machine)
        _title(axis, machine)
        axis.set_xlabel("anomaly score", fontsize=SMALL)
        axis.set_ylabel("clips", fontsize=SMALL)
    axes[0].legend(frameon=False, fontsize=SMALL)
    _save(figure, path)
    return True


def draw_roc(path: Path, machines: Sequence[MachineScores]) -> bool:
    """Draw the ROC curves with their thresholds; False where no machine has both classes."""
    drawn = worst_first([machine for machine in machines if machine.has_both_classes])
    if not drawn:
        return False
    figure, (axis,) = _subplots(1, 1, width=COLUMN, height=COLUMN)
    axis.axvspan(0, 0.1, color="#8a8f98", alpha=0.15, lw=0, label="pAUC range")
    axis.plot([0, 1], [0, 1], color="#8a8f98", lw=0.8, ls=":")
    for number, machine in enumerate(drawn):
        curve = machine.roc()
        if curve is None:
            continue
        result = machine.result
        name = machine.name + ("" if not result or result.auc is None else f"  {result.auc:.3f}")
        line = LINES[number // 10 % len(LINES)] if len(drawn) > 4 else LINES[number]
        (drawn_line,) = axis.plot(*curve, lw=1.2, ls=line, label=name)
        decided = result.decided if result else None
        if decided and decided.false_alarms is not None and decided.recall is not None:
            at = (decided.false_alarms, decided.recall)
            axis.plot(*at, "o", ms=4.5, mfc="white", mec=drawn_line.get_color(), mew=1.2)
    axis.set(xlim=(-0.01, 1.01), ylim=(0, 1.01))
    axis.set_xlabel("false-alarm rate", fontsize=USUAL)
    axis.set_ylabel("share of anomalies found", fontsize=USUAL)
    axis.set_title("ROC; a ring is at the threshold", fontsize=USUAL, loc="left")
    axis.set_aspect("equal")
    axis.legend(frameon=False, fontsize=SMALL if len(drawn) < 10 else 4.5, loc="lower right")
    _save(figure, path)
    return True


def draw_order(path: Path, machines: Sequence[MachineScores]) -> bool:
    """Draw each machine's scores in the order of the clips' names; False without a machine."""
    drawn = worst_first(machines)
    if not drawn:
        return False
    figure, axes = _per_machine(len(drawn), 1.4)
    for axis, machine in zip(axes, drawn, strict=False):
        order = sorted(range(len(machine.keys)), key=machine.keys.__getitem__)
        place = np.empty(len(order))
        place[order] = np.arange(1, len(order) + 1)
        labels = np.array(machine.labels)
        for label in KINDS:
            own = labels == label
            if own.any():
                style: dict[str, Any] = {
                    "s": 7,
                    "lw": 0,
                    "color": COLOURS[label],
                    "marker": MARKERS[label],
                }
                axis.scatter(place[own], machine.scores[own], label=label, **style)
        if machine.is_wide:
            axis.set_yscale("log")
        _mark_threshold(axis.axhline, machine)
        _title(axis, machine)
        axis.set_xlabel("clip, in the order of names", fontsize=SMALL)
        axis.set_ylabel("anomaly score", fontsize=SMALL)
    axes[0].legend(frameon=False, fontsize=SMALL)
    _save(figure, path)
    return True


def draw_confusion(path: Path, machines: Sequence[MachineScores]) -> bool:
    """Draw what the thresholds decided on normal and anomalous clips; False without any."""
    chosen = [m for m in worst_first(machines) if len(m.of("normal")) and len(m.of("anomalous"))]
    drawn = [(m, limit) for m in chosen if (limit := _threshold(m)) is not None]
    if not drawn:
        return False
    figure, axes = _per_machine(len(drawn), 1.3)
    for axis, (machine, limit) in zip(axes, drawn, strict=False):
        counts = np.array(
            [
                [int((machine.of(label) <= limit).sum()), int((machine.of(label) > limit).sum())]
                for label in ("normal", "anomalous")
            ]
        )
        shares = counts / counts.sum(axis=1, keepdims=True)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
        for row in range(2):
            for column in range(2):
                ink = "white" if shares[row, column] > 0.6 else "black"
                text = str(counts[row, column])
                axis.text(column, row, text, ha="center", va="center", size=9, color=ink)
        axis.set_xticks([0, 1], ["not", "anomalous"])
        axis.set_yticks([0, 1], ["normal", "anomalous"])
        axis.set_xlabel("called", fontsize=SMALL)
        axis.set_ylabel("label", fontsize=SMALL)
        _title(axis, machine)
    _save(figure, path)
    return True


def draw_classes(path: Path, machines: Sequence[MachineScores]) -> bool:
    """Draw how many test clips of each label the machines have; False without a machine."""
    drawn = worst_first(machines)
    if not drawn:
        return False
    figure, (axis,) = _subplots(1, 1, width=COLUMN, height=0.7 + 0.22 * len(drawn))
    names = [machine.name for machine in drawn]
    places, before = np.arange(len(drawn)), np.zeros(len(drawn))
    for label in KINDS:
        counts = np.array([len(machine.of(label)) for machine in drawn])
        if counts.any():
            style: dict[str, Any] = {
                "color": f"{COLOURS[label]}a0",
                "hatch": HATCHES[label],
                "lw": 0.5,
            }
            axis.barh(places, counts, 0.7, before, edgecolor=COLOURS[label], label=label, **style)
            before += counts
    axis.set_yticks(places, names, fontsize=SMALL)
    axis.invert_yaxis()
    axis.set_xlabel("test clips", fontsize=USUAL)
    figure.legend(frameon=False, fontsize=SMALL, ncols=3, loc="outside upper right")
    _save(figure, path)
    return True


def draw_losses(path: Path, scores: Sequence[Scores]) -> bool:
    """Draw how the losses of the networks fell; False where none was trained."""
    trained = [fitted for fitted in scores if fitted.history][:CLASS_ROWS]
    if not trained:
        return False
    figure, axes = _per_machine(len(trained), 1.5)
    for axis, fitted in zip(axes, trained, strict=False):
        epochs = [epoch.number for epoch in fitted.history]
        losses = [
            ("training", [e.training_loss for e in fitted.history], "normal", "-"),
            ("held-out normal clips", [e.held_out_loss for e in fitted.history], "anomalous", "--"),
        ]
        for name, values, colour, line in losses:
            axis.plot(epochs, values, line, color=COLOURS[colour], lw=1.2, label=name)
        if min(min(values) for _, values, _, _ in losses) > 0:
            axis.set_yscale("log")
        axis.set_title(fitted.unit.name, fontsize=USUAL)
        axis.set_xlabel("epoch", fontsize=SMALL)
        axis.set_ylabel("mean loss per clip", fontsize=SMALL)
    axes[0].legend(frameon=False, fontsize=SMALL)
    _save(figure, path)
    return True


def _threshold(machine: MachineScores) -> float | None:
    decided = machine.result.decided if machine.result else None
    return decided.threshold if decided else None


def _mark_threshold(draw: Callable[..., Any], machine: MachineScores) -> None:
    limit = _threshold(machine)
    if limit is not None and machine.edges()[0] <= limit <= machine.edges()[-1]:
        draw(limit, color="#1d2126", lw=0.9, ls="--", label="threshold")


def _title(axis: Axes, machine: MachineScores) -> None:
    auc = machine.result.auc if machine.result else None
    axis.set_title(machine.name + ("" if auc is None else f", AUC {auc:.3f}"), fontsize=USUAL)


def _per_machine(n: int, height: float) -> tuple[Any, Sequence[Axes]]:
    """Make a small figure per machine, in one column of a paper or in two; hide what is left."""
    n_columns = min(3, n)
    n_rows = -(-n // n_columns)
    width = COLUMN if n_columns == 1 else PAGE
    figure, axes = _subplots(n_rows, n_columns, width=width, height=(height + 0.6) * n_rows)
    for axis in axes[n:]:
        axis.set_visible(False)
    return figure, axes


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
        axis.tick_params(labelsize=SMALL)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    """Write the file whole, in the format of its ending; every text is shown as it is.

    Fonts are chosen that have the characters, and letters stay letters in SVG and PDF.
    """
    from matplotlib import rc_context
    from matplotlib.text import Text

    texts = figure.findobj(Text)
    for text in texts:  # a machine may have any name, in any script
        text.set_text(visible(text.get_text()))
    fonts = _fonts_for("".join(text.get_text() for text in texts))
    for text in texts:
        text.set_parse_math(False)
        text.set_fontfamily(fonts)
    kind = path.suffix.removeprefix(".")
    options: dict[Any, Any] = {
        "svg.fonttype": "none",
        "pdf.fonttype": 42,
        "svg.hashsalt": "figures",
    }
    with whole_file(path) as temporary, warnings.catch_warnings(), rc_context(options):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(temporary, dpi=DPI, format=kind)


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
