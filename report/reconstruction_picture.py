"""A picture of what an autoencoder rebuilds: the clip, its reconstruction, and the error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from detect.reconstruction import neighbouring_bands
from report.reason_picture import CLIP, DPI, MARK, NORMAL, draw_map, frequency_axis, write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from detect.reconstruction import Reconstruction, WorstRebuilt

Array = NDArray[np.floating]

WIDTH_PX = 900
MAP_HEIGHT_PX, CURVES_HEIGHT_PX = 560, 380
NORMAL_ERRORS = 6.0
"""Where the scale of a map of errors ends, in mean errors of training clips, or beyond."""


def draw_reconstruction(
    target: Path | str | BinaryIO,
    reconstruction: Reconstruction,
    low_hz: Array,
    high_hz: Array,
    frame_seconds: float | None,
    worst: WorstRebuilt | None = None,
) -> None:
    """Draw a clip, its reconstruction and the error to a PNG, 900 pixels wide.

    With frames these are three aligned maps over time; the error is squared and in mean errors of
    the training clips. Of a vector they are curves over the bands (dim,) of `low_hz` and
    `high_hz`, numbers without a band left out. The band and moment of `worst` are marked.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    of_band = neighbouring_bands(low_hz)
    centre = (low_hz[of_band] + high_hz[of_band]) / 2
    is_map = frame_seconds is not None and len(reconstruction.given) > 1
    height = MAP_HEIGHT_PX if is_map else CURVES_HEIGHT_PX
    figure = Figure(figsize=(WIDTH_PX / DPI, height / DPI), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    given, rebuilt = reconstruction.given[:, of_band], reconstruction.rebuilt[:, of_band]
    normal = np.maximum(reconstruction.normal_error[of_band], np.finfo(float).tiny)
    ratio = reconstruction.error[:, of_band] / normal
    if frame_seconds is not None and is_map:
        axes = list(figure.subplots(3, 1, sharex=True, sharey=True))
        low, high = np.percentile(given, (2, 99.8))
        seconds = frame_seconds
        levels, largest = (float(low), float(high)), largest_error(ratio)
        maps = [
            ("this clip", given, levels, "level (dB)"),
            ("its reconstruction", rebuilt, levels, "level (dB)"),
            ("squared error", ratio, (0.0, largest), "times training"),
        ]
        for axis, (title, values, limits, label) in zip(axes, maps, strict=True):
            draw_map(axis, values, seconds, limits, label)
            axis.set_title(title, fontsize=10, loc="left")
        axes[2].set_xlabel("time (s)", fontsize=9)
        for axis in axes:
            frequency_axis(axis, centre, float(high_hz[of_band][-1]))
            _outline(axis, worst, centre, len(given) * seconds)
    else:
        _curves(figure, centre, given[0], rebuilt[0], ratio[0], worst)
    write_png(figure, target)


def largest_error(ratio: Array) -> float:
    """Choose where the scale of errors ends."""
    return max(NORMAL_ERRORS, float(np.nanpercentile(ratio, 99)))


def _outline(axis: Axes, worst: WorstRebuilt | None, centre: Array, end_s: float) -> None:
    """Outline the worst band and moment, red on white."""
    from matplotlib.patches import Rectangle

    if worst is None:
        return
    bands = np.flatnonzero((centre >= worst.low_hz) & (centre <= worst.high_hz))
    start, end = worst.start_s or 0.0, end_s if worst.end_s is None else worst.end_s
    corner = (start, float(bands[0]) - 0.5)
    for colour, line in (("white", 3.0), (MARK, 1.4)):
        box = Rectangle(corner, end - start, len(bands), fill=False, ec=colour, lw=line)
        axis.add_patch(box)


def _curves(
    figure: Any,
    centre: Array,
    given: Array,
    rebuilt: Array,
    ratio: Array,
    worst: WorstRebuilt | None,
) -> None:
    """Draw a vector and its reconstruction over the bands, and the error below."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.6, 1.0))
    bands = np.arange(len(centre))
    above.plot(bands, given, color=CLIP, lw=1.6, label="this clip")
    above.plot(bands, rebuilt, color=NORMAL, lw=1.6, ls="--", label="its reconstruction")
    above.set_ylabel("level (dB)", fontsize=9)
    above.legend(fontsize=8, frameon=False)
    below.bar(bands, ratio, width=1.0, color=CLIP)
    below.axhline(1.0, color=NORMAL, lw=1.2, ls=":")
    below.set_ylabel("squared error,\ntimes training", fontsize=9)
    frequency_axis(below, centre, float(centre[-1]), along_x=True)
    for axis in (above, below):
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        if worst is not None:
            inside = np.flatnonzero((centre >= worst.low_hz) & (centre <= worst.high_hz))
            axis.axvspan(inside[0] - 0.5, inside[-1] + 0.5, color=MARK, alpha=0.12, lw=0)
