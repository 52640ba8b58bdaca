"""Reads a stranger's file in a child process: rows and names, a block at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cache.foreign_arrays import arrays_in
from cache.foreign_layouts import Choices, Layout, recognise

PLACEHOLDER = re.compile(r"example_\d+\.wav")
_BLOCK_BYTES = 16 << 20
_LONGEST_NAME = 4096


def answer(send: Any, path: str, choices: Mapping[str, Any]) -> None:
    """Recognise the file at `path` and send its rows."""
    chosen = Choices(**choices)
    arrays = arrays_in(Path(path))
    layout = recognise(arrays, chosen)
    send({"recognised": layout.recognised}, b"")
    blocks = _matrix_blocks(layout) if layout.matrix is not None else _clip_blocks(layout)
    for names, raw in blocks:
        rows = _floats(raw, chosen)
        if layout.axes == "ndt":
            rows = np.ascontiguousarray(np.swapaxes(rows, 1, 2))
        _send_block(send, [_safe_name(name, chosen) for name in names], rows)


def _send_block(send: Any, names: list[str], rows: np.ndarray) -> None:
    """Send the rows that are neither zero nor broken, those of one length together."""
    flat = rows.reshape(len(rows), -1)
    zero = ~np.asarray(flat.any(axis=1))
    finite = np.asarray(np.isfinite(flat).all(axis=1))
    fillers = [not name or PLACEHOLDER.fullmatch(name) is not None for name in names]
    placeholder = zero & np.array(fillers, dtype=np.bool_)
    good = ~zero & finite
    nameless = [i for i in np.flatnonzero(good) if not names[i]]
    if nameless:
        raise ValueError(f"{len(nameless)} rows have no name, first row {nameless[0]} of a block")
    send(
        {
            "names": [names[i] for i in np.flatnonzero(good)],
            "shape": [int(good.sum()), *rows.shape[1:]],
            "placeholders": int(placeholder.sum()),
            "zero": int((zero & ~placeholder).sum()),
            "not_finite": int((~finite).sum()),
        },
        np.ascontiguousarray(rows[good], dtype="<f4").tobytes(),
    )


def _floats(raw: np.ndarray, chosen: Choices) -> np.ndarray:
    """Turn what a file holds into float32."""
    if raw.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return raw.astype(np.float32)
    if raw.dtype == np.uint8 and chosen.dequantise:
        return raw.astype(np.float32) * np.float32(4 / 255) - np.float32(2)
    raise ValueError(f"rows of {raw.dtype} are no embeddings")


def _safe_name(name: str, chosen: Choices) -> str:
    """Make a name a path below the data root, or refuse it."""
    name = name.replace("\\", "/").removeprefix("./")
    if "\0" in name or len(name) > _LONGEST_NAME:
        raise ValueError(f"the name {name[:80]!r} has a NUL or is too long")
    if chosen.match in ("name", "stem"):
        return PurePosixPath(name).name
    if name.startswith("/") or re.match(r"[A-Za-z]:/", name) or ".." in name.split("/"):
        raise ValueError(
            f"the name {name[:80]!r} leaves the data folder; --match name uses only file names"
        )
    return name


def _matrix_blocks(layout: Layout) -> Iterator[tuple[list[str], np.ndarray]]:
    matrix, names = layout.matrix, layout.names
    if matrix is None or names is None:
        return
    width = max(1, int(np.prod(matrix.shape[1:])) * max(4, matrix.dtype.itemsize))
    step = max(1, min(8192, _BLOCK_BYTES // width))
    for start in range(0, matrix.shape[0], step):
        here = slice(start, min(start + step, matrix.shape[0]))
        names_here, rows = names.names(here), matrix.read(here)
        if layout.axes:
            yield from _by_length(layout, names_here, rows, here)
        else:
            yield names_here, rows


def _by_length(
    layout: Layout, names: list[str], rows: np.ndarray, here: slice
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Split frames by their length, given by /lengths or by the NaN that fills up the rest."""
    time = 1 if layout.axes == "ntd" else 2
    longest = rows.shape[time]
    if layout.lengths is not None:
        lengths = np.clip(layout.lengths.read(here).astype(np.int64), 1, longest)
    elif rows.dtype.kind == "f":
        filled = ~np.isnan(rows).all(axis=3 - time)
        last = longest - np.argmax(filled[:, ::-1], axis=1)
        lengths = np.where(filled.any(axis=1), last, longest)
    else:
        lengths = np.full(len(rows), longest)
    for length in np.unique(lengths):
        of_length = np.flatnonzero(lengths == length)
        cut = rows[of_length]
        yield [names[i] for i in of_length], cut[:, :length] if time == 1 else cut[:, :, :length]


def _clip_blocks(layout: Layout) -> Iterator[tuple[list[str], np.ndarray]]:
    names: list[str] = []
    rows: list[np.ndarray] = []
    for name, array in layout.clips:
        row = array.read(slice(None))
        if rows and (row.shape != rows[0].shape or len(rows) * row.nbytes > _BLOCK_BYTES):
            yield names, np.stack(rows)
            names, rows = [], []
        names.append(name)
        rows.append(row)
    if rows:
        yield names, np.stack(rows)
