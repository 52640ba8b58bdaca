"""A picture of why a clip is unusual: its spectrogram, the normal clips' levels, the difference."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from detect.profile import NormalProfile
    from detect.reasons import Reason

WIDTH_PX, HEIGHT_PX, DPI = 900, 540, 100
TITLE_WIDTH = 120  # characters
COLUMNS_AT_MOST = 800
"""Longer clips are drawn by the loudest frame of every few."""
MAP = "cividis"
"""Its lightness rises evenly: the same order for colour-blind eyes and in grey."""
MARK = "#d62728"
NORMAL, CLIP, NOTHING = "#8a8f98", "#12335f", "#d8dade"
LARGEST_DIFFERENCE_DB = 30.0
TICKS_HZ = (50, 100, 200, 500, 1000, 2000, 3000, 4000, 5000, 7000, 10000, 12000, 16000, 20000)
OUTLINE_MARGIN = 0.006  # of an axis
CLOSEST_TICKS = 0.06  # of the axis


def draw_reason(
    target: Path | str | BinaryIO,
    frames: ArrayLike,
    profile: NormalProfile,
    reason: Reason,
) -> None:
    """Draw a clip's frames (n_frames, n_bands) in dB and its reason to a PNG, 900 pixels wide.

    Left: the clip's levels over time, and by how much they exceed the mean normal frame; the
    reason's band and moment are outlined. Right: mean level per band, beside that of normal clips
    and the range of 98 % of their frames. `target` is a path or an open binary file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    levels = profile.checked(frames)
    figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, width_ratios=(2.9, 1.0))
    clip_axis = figure.add_subplot(grid[0, 0])
    difference_axis = figure.add_subplot(grid[1, 0], sharex=clip_axis, sharey=clip_axis)
    normal_axis = figure.add_subplot(grid[:, 1], sharey=clip_axis)

    low, high = np.percentile(levels, (2, 99.8))
    draw_map(clip_axis, levels, profile.frame_seconds, (float(low), float(high)), "level (dB)")
    clip_axis.set_title("this clip", fontsize=10, loc="left")
    clip_axis.tick_params(labelbottom=False)

    difference = levels - profile.frame_mean
    limit = min(LARGEST_DIFFERENCE_DB, max(6.0, float(np.percentile(np.abs(difference), 99.5))))
    label = "louder (+) or quieter (-), dB"
    draw_map(difference_axis, difference, profile.frame_seconds, (-limit, limit), label)
    difference_axis.set_title("difference from the normal mean", fontsize=10, loc="left")
    difference_axis.set_xlabel("time (s)", fontsize=9)

    _draw_normal(normal_axis, levels, profile, reason)
    for axis in (clip_axis, difference_axis):
        _outline(axis, profile, reason, len(levels))
    for axis in (clip_axis, difference_axis, normal_axis):
        frequency_axis(axis, profile.centre_hz, float(profile.high_hz[-1]))
    normal_axis.set_ylabel("")
    finding = reason.finding[0].upper() + reason.finding[1:]
    figure.suptitle(fill(finding, TITLE_WIDTH), fontsize=10, x=0.01, ha="left")
    figure.legend(loc="outside lower right", ncols=4, fontsize=8, frameon=False)
    write_png(figure, target)


def draw_map(
    axis: Axes,
    values: NDArray[Any],
    frame_seconds: float,
    limits: tuple[float, float],
    label: str,
) -> None:
    """Draw (n_frames, n_bands) over time and band numbers, with a scale of its own.

    NaN is left grey.
    """
    step = -(-len(values) // COLUMNS_AT_MOST)
    if step > 1:
        values = np.fmax.reduceat(values, np.arange(0, len(values), step), axis=0)
    half = frame_seconds / 2
    end = (len(values) * step - 0.5) * frame_seconds
    axis.set_facecolor(NOTHING)
    image = axis.imshow(
        values.T,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap=MAP,
        vmin=limits[0],
        vmax=limits[1],
        extent=(-half, end, -0.5, values.shape[1] - 0.5),
    )
    bar = axis.figure.colorbar(image, ax=axis, pad=0.01, aspect=18)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    axis.tick_params(labelsize=8)


def _draw_normal(axis: Axes, levels: NDArray[Any], profile: NormalProfile, reason: Reason) -> None:
    """Draw levels per band: the clip, its strongest moment, and the normal clips."""
    bands = np.arange(levels.shape[1])
    axis.fill_betweenx(
        bands,
        profile.frame_low,
        profile.frame_high,
        color=NORMAL,
        alpha=0.3,
        lw=0,
        label="98 % of normal frames",
    )
    axis.plot(profile.frame_mean, bands, color=NORMAL, lw=2, label="normal mean")
    axis.plot(levels.mean(axis=0), bands, color=CLIP, lw=1.3, label="mean of this clip")
    moment = _moment(profile, reason, len(levels))
    if moment is not None:
        strongest = levels[slice(*moment)].mean(axis=0)
        axis.plot(strongest, bands, color=MARK, lw=1.3, ls="--", label="its strongest moment")
    bottom, top = _band_edges(profile, reason)
    axis.axhspan(bottom, top, color=MARK, alpha=0.12, lw=0)
    axis.set_title(f"{profile.n_clips} normal clips", fontsize=10, loc="left")
    axis.set_xlabel("level (dB)", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _outline(axis: Axes, profile: NormalProfile, reason: Reason, n_frames: int) -> None:
    """Outline the reason's band and moment from outside, red on white, visible on any ground."""
    from matplotlib.patches import Rectangle

    half = profile.frame_seconds / 2
    start = -half if reason.start_s is None else reason.start_s
    whole_end = (n_frames - 0.5) * profile.frame_seconds
    end = whole_end if reason.end_s is None else reason.end_s
    bottom, top = _band_edges(profile, reason)
    beside = OUTLINE_MARGIN * n_frames * profile.frame_seconds
    above = OUTLINE_MARGIN * len(profile.low_hz)
    corner = (start - beside, bottom - above)
    width, height = end - start + 2 * beside, top - bottom + 2 * above
    for colour, line in (("white", 3.0), (MARK, 1.4)):
        axis.add_patch(Rectangle(corner, width, height, fill=False, ec=colour, lw=line))


def _moment(profile: NormalProfile, reason: Reason, n_frames: int) -> tuple[int, int] | None:
    """Frames of the reason's moment, from and to, or None where it is the whole clip."""
    if reason.start_s is None or reason.end_s is None:
        return None
    first = min(int(np.ceil(reason.start_s / profile.frame_seconds)), n_frames - 1)
    return first, max(first + 1, int(np.floor(reason.end_s / profile.frame_seconds)) + 1)


def _band_edges(profile: NormalProfile, reason: Reason) -> tuple[float, float]:
    """Lower and upper edge of the reason's bands, on an axis of band numbers."""
    first = int(np.abs(profile.low_hz - reason.low_hz).argmin())
    last = int(np.abs(profile.high_hz - reason.high_hz).argmin())
    return first - 0.5, last + 0.5


def frequency_axis(
    axis: Axes, centre_hz: NDArray[np.floating], top_hz: float, *, along_x: bool = False
) -> None:
    """Label an axis of band numbers with round frequencies, not too close to each other."""
    places: list[float] = []
    labels: list[str] = []
    n_bands = len(centre_hz)
    for hz in TICKS_HZ:
        if not centre_hz[0] <= hz <= top_hz:
            continue
        place = float(np.interp(hz, centre_hz, np.arange(n_bands)))
        if places and place - places[-1] < CLOSEST_TICKS * n_bands:
            continue
        places.append(place)
        labels.append(f"{hz / 1000:g}k" if hz >= 1000 else f"{hz}")
    if along_x:
        axis.set_xticks(places, labels)
        axis.set_xlim(-0.5, n_bands - 0.5)
        axis.set_xlabel("frequency (Hz)", fontsize=9)
    else:
        axis.set_yticks(places, labels)
        axis.set_ylim(-0.5, n_bands - 0.5)
        axis.set_ylabel("frequency (Hz)", fontsize=9)


def write_png(figure: Any, target: Path | str | BinaryIO) -> None:
    """Write a picture to a path, whole, or to an open binary file."""
    if not isinstance(target, Path | str):
        figure.savefig(target, dpi=DPI, format="png")
        return
    path = Path(target)
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, dpi=DPI, format="png")
    partial.replace(path)
