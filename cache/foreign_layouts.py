"""Which layout a stranger's file has: recognised by the names, shapes and types of its arrays.

A matrix beside its names, an array per clip, or a group per clip; vectors or frames. Runs in the
child of `cache.sandbox`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cache.foreign_arrays import Array, Dataset
from cache.matching import MATCHES

AXES = ("ntd", "ndt")
EMBEDDINGS_KEYS = ("embeddings", "embedding", "features", "x", "global_embeddings")
NAMES_KEYS = (
    "filenames",
    "filename",
    "audio_name",
    "keys",
    "key",
    "names",
    "name",
    "ids",
    "id",
    "sample_key",
)
CLIP_KEYS = ("embedding", "embeddings", "features", "global_descriptor")
COMMON_DIMS = frozenset({40, 64, 80, 96, 128, 256, 512, 527, 768, 1024, 1280, 1536, 2048, 4096})


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What overrides recognition; "" means by rule."""

    embeddings_key: str = ""
    names_key: str = ""
    axes: str = ""  # ntd or ndt
    dequantise: bool = False
    match: str = ""

    def __post_init__(self) -> None:
        if self.axes not in ("", *AXES):
            raise ValueError(f"--axes {self.axes}: expected {' or '.join(AXES)}")
        if self.match not in ("", *MATCHES):
            raise ValueError(f"--match {self.match}: expected {', '.join(MATCHES)}")


@dataclass(frozen=True)
class Layout:
    """How the rows of a file are found: one matrix and its names, or an array per clip."""

    recognised: str
    matrix: Array | None = None
    names: Array | None = None
    lengths: Array | None = None
    clips: tuple[tuple[str, Array], ...] = ()
    axes: str = ""  # of frames: ntd or ndt


def recognise(arrays: Mapping[str, Array], chosen: Choices) -> Layout:
    """Tell which layout a file has; ValueError says what is missing and which flag would help."""
    siblings: dict[str, dict[str, str]] = {}
    for path in arrays:
        parent, _, last = path.rpartition("/")
        siblings.setdefault(parent, {})[last.lower()] = path
    _check_no_audio(arrays, siblings)
    for parent in sorted(siblings, key=lambda p: (p.count("/") + bool(p), p)):
        matrix = _pick(arrays, siblings[parent], chosen.embeddings_key, EMBEDDINGS_KEYS)
        names = _pick(arrays, siblings[parent], chosen.names_key, NAMES_KEYS)
        if matrix and names and len(arrays[names].shape) == 1 and len(arrays[matrix].shape) > 1:
            return _matrix_layout(arrays, siblings[parent], matrix, names, chosen)
    for wanted, flag in ((chosen.embeddings_key, "embeddings"), (chosen.names_key, "names")):
        if (
            wanted
            and not any(path.rpartition("/")[2] == wanted for path in arrays)
            and (wanted not in arrays)
        ):
            raise ValueError(f"no array {wanted!r} for --{flag}-key; it has {_listed(arrays)}")
    clips = _group_per_clip(arrays, chosen) or _dataset_per_clip(arrays)
    if clips is None:
        raise ValueError(
            f"no known layout in {_listed(arrays)}: expected a matrix and its names, or an array "
            "or a group per clip; --embeddings-key and --names-key name the two"
        )
    return clips


def _listed(arrays: Mapping[str, Array]) -> str:
    shown = [f"/{path} {array.shape} {array.dtype}" for path, array in list(arrays.items())[:6]]
    return ", ".join(shown) + (f" and {len(arrays) - 6} more" if len(arrays) > 6 else "")


def _pick(
    arrays: Mapping[str, Array], here: Mapping[str, str], wanted: str, known: Sequence[str]
) -> str:
    if wanted:
        wanted = wanted.strip("/")
        if wanted in arrays:
            return wanted
        return here.get(wanted.lower(), "")
    return next((here[name] for name in known if name in here), "")


def _check_no_audio(arrays: Mapping[str, Array], siblings: Mapping[str, Mapping[str, str]]) -> None:
    for here in siblings.values():
        if "waveform" in here and arrays[here["waveform"]].dtype.kind == "i":
            raise ValueError("packed audio (waveform), not embeddings; unpack it and use --data")


def _matrix_layout(
    arrays: Mapping[str, Array],
    here: Mapping[str, str],
    matrix_path: str,
    names_path: str,
    chosen: Choices,
) -> Layout:
    """Describe a matrix of vectors or frames beside its names; ValueError if they do not fit."""
    matrix, names = arrays[matrix_path], arrays[names_path]
    _check_readable(matrix, chosen)
    _check_readable(names)
    if len(names.shape) != 1 or matrix.shape[0] != names.shape[0]:
        raise ValueError(
            f"/{matrix_path} has {matrix.shape[0]} rows and /{names_path} {names.shape} names"
        )
    what = f"matrix /{matrix_path} {matrix.shape} {matrix.dtype} with names /{names_path}"
    lengths = arrays.get(here.get("lengths", ""))
    if len(matrix.shape) == 2:
        return Layout(what, matrix, names)
    if len(matrix.shape) != 3:
        raise ValueError(f"/{matrix_path} has shape {matrix.shape}; expected vectors or frames")
    dim = next(
        (
            arrays[path].shape[1]
            for key, path in here.items()
            if key in EMBEDDINGS_KEYS and path != matrix_path and len(arrays[path].shape) == 2
        ),
        0,
    )
    axes, why = _axes(matrix.shape[1:], dim, chosen)
    if lengths is not None:
        _check_readable(lengths)
        if lengths.dtype.kind not in "iu" or lengths.shape != names.shape:
            lengths = None
    return Layout(f"{what}; frames {','.join(axes)} ({why})", matrix, names, lengths, axes=axes)


def _check_readable(array: Array, chosen: Choices | None = None) -> None:
    if isinstance(array, Dataset):
        array.check()
    if chosen is None:
        return
    if array.dtype == np.uint8:
        if not chosen.dequantise:
            raise ValueError(
                f"/{array.path} is uint8: quantised VGGish; --dequantise maps 0..255 to -2..2"
            )
    elif array.dtype.kind != "f":
        raise ValueError(f"/{array.path} holds {array.dtype}, not embeddings (float16, 32 or 64)")


def _axes(shape: tuple[int, ...], dim: int, chosen: Choices) -> tuple[str, str]:
    """Tell frames `(t, d)` from `(d, t)`, and say by what."""
    if chosen.axes:
        return chosen.axes, "as asked"
    first, second = shape
    if dim in shape and first != second:
        return ("ndt" if first == dim else "ntd"), f"vectors beside it have {dim} numbers"
    if (first in COMMON_DIMS) != (second in COMMON_DIMS):
        known = first if first in COMMON_DIMS else second
        return ("ndt" if first in COMMON_DIMS else "ntd"), f"{known} is a usual width"
    return "ntd", "assumed; --axes ndt if not"


def _group_per_clip(arrays: Mapping[str, Array], chosen: Choices) -> Layout | None:
    """Recognise groups named like clips that each hold an embedding."""
    key = chosen.embeddings_key.lower()
    found: dict[str, Array] = {}
    timestamps: dict[str, int] = {}
    for path, array in arrays.items():
        parent, _, last = path.rpartition("/")
        if parent and last.lower() in ((key,) if key else CLIP_KEYS):
            found.setdefault(parent, array)
        elif last.lower() == "timestamps" and array.shape:
            timestamps[parent] = array.shape[0]
    if not found:
        return None
    return _clips_layout("group per clip", found, timestamps, chosen)


def _dataset_per_clip(arrays: Mapping[str, Array]) -> Layout | None:
    found = {
        path: array
        for path, array in arrays.items()
        if array.dtype.kind in "fu" and 1 <= len(array.shape) <= 2 and array.shape[0]
    }
    widths = {array.shape[-1] for array in found.values()}
    heights = {array.shape[0] for array in found.values() if len(array.shape) == 2}
    if len(found) < len(arrays) or (len(widths) > 1 and len(heights) != 1):
        return None
    if len(found) == 1 and len(next(iter(found.values())).shape) == 2:
        return None  # one matrix without names
    return _clips_layout("array per clip", found, {}, Choices())


def _clips_layout(
    what: str, found: Mapping[str, Array], timestamps: Mapping[str, int], chosen: Choices
) -> Layout:
    """Describe arrays of one clip each; ValueError if they differ in kind or width."""
    ranks = {len(array.shape) for array in found.values()}
    kinds = {array.dtype.name for array in found.values()}
    first = next(iter(found.values()))
    for array in found.values():
        _check_readable(array, chosen)
    if ranks not in ({1}, {2}):
        raise ValueError(f"{what}, but arrays of {sorted(ranks)} dimensions")
    said = f"{what}, {len(found)} clips, {'/'.join(sorted(kinds))}"
    clips = tuple(found.items())
    if ranks == {1}:
        dims = {array.shape[0] for array in found.values()}
        if len(dims) > 1:
            raise ValueError(f"{what}, but vectors of {sorted(dims)[:4]} numbers")
        return Layout(f"{said}, vectors of {dims.pop()}", clips=clips)
    axes, why = _clip_axes(found, timestamps, chosen)
    dims = {array.shape[1 if axes == "ntd" else 0] for array in found.values()}
    if len(dims) > 1:
        raise ValueError(f"{what}, but frames of {sorted(dims)[:4]} numbers; see --axes")
    return Layout(
        f"{said}, frames {','.join(axes[1:])} {first.shape} ({why})", clips=clips, axes=axes
    )


def _clip_axes(
    found: Mapping[str, Array], timestamps: Mapping[str, int], chosen: Choices
) -> tuple[str, str]:
    """Tell which axis is time, by timestamps or by the axis that differs between clips."""
    shapes = {array.shape for array in found.values()}
    if not chosen.axes:
        for axes, time in (("ntd", 0), ("ndt", 1)):
            timed = [name for name in found if name in timestamps]
            if (
                timed
                and all(timestamps[name] == found[name].shape[time] for name in timed)
                and any(timestamps[name] != found[name].shape[1 - time] for name in timed)
            ):
                return axes, "as many as timestamps"
        if len({shape[1] for shape in shapes}) == 1 < len({shape[0] for shape in shapes}):
            return "ntd", "the first axis differs between clips"
        if len({shape[0] for shape in shapes}) == 1 < len({shape[1] for shape in shapes}):
            return "ndt", "the second axis differs between clips"
    return _axes(next(iter(shapes)), 0, chosen)
