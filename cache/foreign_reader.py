"""Reads files of other tools in a child process: layouts, axes, names, and what is refused."""

from __future__ import annotations

import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cache.matching import MATCHES

AXES = ("ntd", "ndt")


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


# -- the child: everything below touches the stranger's bytes ---------------------------------

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


PLACEHOLDER = re.compile(r"example_\d+\.wav")


COMMON_DIMS = frozenset({40, 64, 80, 96, 128, 256, 512, 527, 768, 1024, 1280, 1536, 2048, 4096})


_BLOCK_BYTES = 16 << 20


_LARGEST_CHUNK = 128 << 20


_BOMB_RATIO = 100


_BOMB_BYTES = 16 << 20


_LONGEST_NAME = 4096


_MOST_OBJECTS = 5_000_000


_CHUNKED = 2


_LAYOUTS = frozenset({0, 1, _CHUNKED})  # compact, contiguous, chunked; not virtual


_FILTERS = frozenset({1, 2, 3, 4, 5, 6, 32000})  # those of the library, and h5py's LZF


class _Array(ABC):
    """An array of the file: shape and type known, rows read on demand."""

    __slots__ = ("dtype", "path", "shape")

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @abstractmethod
    def read(self, rows: slice) -> np.ndarray: ...

    @abstractmethod
    def names(self, rows: slice) -> list[str]: ...


class _Dataset(_Array):
    """A dataset of an HDF5 file that lies in that file, whole, and is as large as it says.

    It is opened, looked at and closed; a file may have a great many of them.
    """

    __slots__ = ("_chunk", "_elsewhere", "_file", "_filters", "_held", "_layout")

    def __init__(self, path: str, file: Any, opened: Any, file_bytes: int) -> None:
        self.path, self._file = path, file
        self.shape, self.dtype = tuple(opened.shape or ()), opened.dtype
        self._held = min(int(opened.get_storage_size()), file_bytes)
        plist = opened.get_create_plist()
        self._layout = plist.get_layout()
        self._elsewhere = plist.get_external_count() > 0
        self._filters = tuple(plist.get_filter(i)[0] for i in range(plist.get_nfilters()))
        self._chunk: tuple[int, ...] = (0,)
        if self._layout == _CHUNKED:
            self._chunk = plist.get_chunk()

    def check(self) -> None:
        """Raise ValueError if reading this dataset would leave the file or exhaust memory."""
        if self._elsewhere or self._layout not in _LAYOUTS:
            raise ValueError(f"/{self.path} lies in other files, which are not opened; copy it in")
        for code in self._filters:
            if code not in _FILTERS:
                raise ValueError(f"/{self.path} needs HDF5 filter {code}; write it without")
        size = math.prod(self.shape) * self.dtype.itemsize
        if size > max(_BOMB_BYTES, _BOMB_RATIO * self._held):
            raise ValueError(
                f"/{self.path} claims shape {self.shape}, {size / 1e6:.0f} MB, of which the file "
                f"holds {self._held / 1e6:.1f} MB"
            )
        chunk = math.prod(self._chunk) * self.dtype.itemsize
        if chunk > _LARGEST_CHUNK:
            raise ValueError(f"/{self.path} has chunks of {chunk / 1e6:.0f} MB; write smaller ones")

    def read(self, rows: slice) -> np.ndarray:
        import h5py

        opened = h5py.h5d.open(self._file.id, self.path.encode("utf-8", "surrogateescape"))
        if self.dtype.kind == "f" and rows == slice(None):
            values = np.empty(self.shape, dtype=self.dtype)
            opened.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
        else:
            values = h5py.Dataset(opened)[rows]
        return values

    def names(self, rows: slice) -> list[str]:
        import h5py

        if h5py.check_ref_dtype(self.dtype) is not None:
            raise ValueError(f"/{self.path} holds references, not names")
        if h5py.check_string_dtype(self.dtype) is None:
            raise ValueError(f"/{self.path} holds {self.dtype}, not names; use --names-key")
        return [_decoded(name) for name in self.read(rows)]


class _Npy(_Array):
    """An array in the `.npy` format, in a file or a member of an npz."""

    def __init__(self, path: str, opened: Any, size: int) -> None:
        self.path = path
        self._opened = opened
        with opened() as stream:
            version = np.lib.format.read_magic(stream)
            reader = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if reader is None:
                raise ValueError(f"{path} has version {version} of the npy format")
            self.shape, fortran, self.dtype = reader(stream)
            self._start = stream.tell()
        if self.dtype.hasobject:
            raise ValueError(
                f"{path} holds pickled objects, which are never loaded; save names with "
                "np.array(names, dtype=str)"
            )
        needed = int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize
        if needed != size - self._start:
            raise ValueError(
                f"{path} claims shape {self.shape}, {needed} bytes, and holds {size - self._start}"
            )
        self._fortran = fortran and len(self.shape) > 1
        self._position = 0
        self._stream: Any = None

    def read(self, rows: slice) -> np.ndarray:
        if self._fortran:
            with self._opened() as stream:
                stream.read(self._start)
                flat = np.frombuffer(stream.read(), dtype=self.dtype)
            whole: np.ndarray = flat.reshape(self.shape, order="F")[rows]
            return whole
        shape = self.shape or (1,)
        width = int(np.prod(shape[1:])) * self.dtype.itemsize
        start, stop, _ = rows.indices(shape[0])
        if self._stream is None or self._position > start:
            self._stream = self._opened()
            self._stream.read(self._start)
            self._position = 0
        while self._position < start:  # a zip member can only be read forwards
            step = min(start - self._position, max(1, _BLOCK_BYTES // max(1, width)))
            self._stream.read(step * width)
            self._position += step
        data = self._stream.read((stop - start) * width)
        self._position = stop
        values: np.ndarray = np.frombuffer(data, dtype=self.dtype).reshape(stop - start, *shape[1:])
        if not self.shape or stop == shape[0]:
            self._stream.close()
            self._stream = None
        return values

    def names(self, rows: slice) -> list[str]:
        if self.dtype.kind not in "SU":
            raise ValueError(f"{self.path} holds {self.dtype}, not names; use --names-key")
        return [_decoded(name) for name in self.read(rows).tolist()]


@dataclass(frozen=True)
class _Layout:
    """How the rows of a file are found: one matrix and its names, or an array per clip."""

    recognised: str
    matrix: _Array | None = None
    names: _Array | None = None
    lengths: _Array | None = None
    clips: tuple[tuple[str, _Array], ...] = ()
    axes: str = ""  # of frames: ntd or ndt


def answer(send: Any, path: str, choices: Mapping[str, Any]) -> None:
    """Recognise the file at `path` and send its rows."""
    chosen = Choices(**choices)
    arrays = _arrays(Path(path))
    layout = _recognise(arrays, chosen)
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


def _decoded(name: object) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)


def _arrays(path: Path) -> dict[str, _Array]:
    """List every array of a file or folder by its path inside."""
    if path.is_dir():
        arrays = {
            each.relative_to(path).as_posix().removesuffix(".npy"): _npy_file(each)
            for each in npy_files(path)
        }
        if not arrays:
            raise ValueError("a folder without .npy files")
        return arrays
    with path.open("rb") as file:
        magic = file.read(8)
    if magic[:4] == b"PK\3\4":
        return _npz_members(path)
    if magic[:6] == b"\x93NUMPY":
        return {path.stem: _npy_file(path)}
    return _hdf5_datasets(path)


def npy_files(folder: Path) -> list[Path]:
    """List the .npy files below a folder; links are not followed."""
    found = []
    for parent, _, names in os.walk(folder, followlinks=False):
        for name in names:
            each = Path(parent, name)
            if each.suffix == ".npy" and not each.is_symlink():
                found.append(each)
    return sorted(found)


def _npy_file(path: Path) -> _Array:
    return _Npy(path.stem, lambda: path.open("rb"), path.stat().st_size)


def _npz_members(path: Path) -> dict[str, _Array]:
    from zipfile import BadZipFile, ZipFile

    try:
        archive = ZipFile(path)
    except BadZipFile as error:
        raise ValueError(f"a damaged npz ({error})") from None
    arrays: dict[str, _Array] = {}
    for info in archive.infolist():
        if not info.filename.endswith(".npy"):
            continue
        if info.file_size > max(_BOMB_BYTES, _BOMB_RATIO * info.compress_size):
            raise ValueError(
                f"{info.filename} unpacks from {info.compress_size} to {info.file_size} bytes"
            )
        name = info.filename.removesuffix(".npy")
        arrays[name] = _Npy(name, lambda info=info: archive.open(info), info.file_size)
    if not arrays:
        raise ValueError("a zip without .npy members")
    return arrays


def _hdf5_datasets(path: Path) -> dict[str, _Array]:
    import h5py

    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise ValueError(f"neither HDF5, npz nor npy, or damaged ({error})") from None
    paths: list[str] = []

    def visit(name: bytes, link: Any) -> str | None:
        """Note a path, or end the visit with a reason (h5py would lose an exception)."""
        shown = name.decode("utf-8", "surrogateescape")
        if link.type != h5py.h5l.TYPE_HARD:
            return f"/{shown} is a link, perhaps out of the file; links are not followed"
        if len(paths) >= _MOST_OBJECTS:
            return f"it has more than {_MOST_OBJECTS} objects"
        paths.append(shown)
        return None

    refusal = file.id.links.visit(visit, info=True)
    if refusal is not None:
        raise ValueError(refusal)
    size = path.stat().st_size
    arrays: dict[str, _Array] = {}
    for each in paths:
        opened = h5py.h5o.open(file.id, each.encode("utf-8", "surrogateescape"))
        if isinstance(opened, h5py.h5d.DatasetID):
            arrays[each] = _Dataset(each, file, opened, size)
    if not arrays:
        raise ValueError("an HDF5 file without datasets")
    return arrays


# -- the child: rules of recognition ----------------------------------------------------------


def _recognise(arrays: Mapping[str, _Array], chosen: Choices) -> _Layout:
    """Tell which layout a file has; ValueError says what is missing and which flag would help."""
    siblings: dict[str, dict[str, str]] = {}
    for path in arrays:
        parent, _, last = path.rpartition("/")
        siblings.setdefault(parent, {})[last.lower()] = path
    _refuse_audio(arrays, siblings)
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


def _listed(arrays: Mapping[str, _Array]) -> str:
    shown = [f"/{path} {array.shape} {array.dtype}" for path, array in list(arrays.items())[:6]]
    return ", ".join(shown) + (f" and {len(arrays) - 6} more" if len(arrays) > 6 else "")


def _pick(
    arrays: Mapping[str, _Array], here: Mapping[str, str], wanted: str, known: Sequence[str]
) -> str:
    if wanted:
        wanted = wanted.strip("/")
        if wanted in arrays:
            return wanted
        return here.get(wanted.lower(), "")
    return next((here[name] for name in known if name in here), "")


def _refuse_audio(arrays: Mapping[str, _Array], siblings: Mapping[str, Mapping[str, str]]) -> None:
    for here in siblings.values():
        if "waveform" in here and arrays[here["waveform"]].dtype.kind == "i":
            raise ValueError("packed audio (waveform), not embeddings; unpack it and use --data")


def _matrix_layout(
    arrays: Mapping[str, _Array],
    here: Mapping[str, str],
    matrix_path: str,
    names_path: str,
    chosen: Choices,
) -> _Layout:
    matrix, names = arrays[matrix_path], arrays[names_path]
    _check(matrix, chosen)
    _check(names)
    if len(names.shape) != 1 or matrix.shape[0] != names.shape[0]:
        raise ValueError(
            f"/{matrix_path} has {matrix.shape[0]} rows and /{names_path} {names.shape} names"
        )
    what = f"matrix /{matrix_path} {matrix.shape} {matrix.dtype} with names /{names_path}"
    lengths = arrays.get(here.get("lengths", ""))
    if len(matrix.shape) == 2:
        return _Layout(what, matrix, names)
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
        _check(lengths)
        if lengths.dtype.kind not in "iu" or lengths.shape != names.shape:
            lengths = None
    return _Layout(f"{what}; frames {','.join(axes)} ({why})", matrix, names, lengths, axes=axes)


def _check(array: _Array, chosen: Choices | None = None) -> None:
    if isinstance(array, _Dataset):
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


def _group_per_clip(arrays: Mapping[str, _Array], chosen: Choices) -> _Layout | None:
    """Recognise groups named like clips that each hold an embedding."""
    key = chosen.embeddings_key.lower()
    found: dict[str, _Array] = {}
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


def _dataset_per_clip(arrays: Mapping[str, _Array]) -> _Layout | None:
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
    what: str, found: Mapping[str, _Array], timestamps: Mapping[str, int], chosen: Choices
) -> _Layout:
    ranks = {len(array.shape) for array in found.values()}
    kinds = {array.dtype.name for array in found.values()}
    first = next(iter(found.values()))
    for array in found.values():
        _check(array, chosen)
    if ranks not in ({1}, {2}):
        raise ValueError(f"{what}, but arrays of {sorted(ranks)} dimensions")
    said = f"{what}, {len(found)} clips, {'/'.join(sorted(kinds))}"
    clips = tuple(found.items())
    if ranks == {1}:
        dims = {array.shape[0] for array in found.values()}
        if len(dims) > 1:
            raise ValueError(f"{what}, but vectors of {sorted(dims)[:4]} numbers")
        return _Layout(f"{said}, vectors of {dims.pop()}", clips=clips)
    axes, why = _clip_axes(found, timestamps, chosen)
    dims = {array.shape[1 if axes == "ntd" else 0] for array in found.values()}
    if len(dims) > 1:
        raise ValueError(f"{what}, but frames of {sorted(dims)[:4]} numbers; see --axes")
    return _Layout(
        f"{said}, frames {','.join(axes[1:])} {first.shape} ({why})", clips=clips, axes=axes
    )


def _clip_axes(
    found: Mapping[str, _Array], timestamps: Mapping[str, int], chosen: Choices
) -> tuple[str, str]:
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


def _matrix_blocks(layout: _Layout) -> Iterator[tuple[list[str], np.ndarray]]:
    matrix, names = layout.matrix, layout.names
    if matrix is None or names is None:
        return
    width = max(1, int(np.prod(matrix.shape[1:])) * max(4, matrix.dtype.itemsize))
    step = max(1, min(8192, _BLOCK_BYTES // width))
    for start in range(0, matrix.shape[0], step):
        here = slice(start, min(start + step, matrix.shape[0]))
        some, rows = names.names(here), matrix.read(here)
        if layout.axes:
            yield from _by_length(layout, some, rows, here)
        else:
            yield some, rows


def _by_length(
    layout: _Layout, names: list[str], rows: np.ndarray, here: slice
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


def _clip_blocks(layout: _Layout) -> Iterator[tuple[list[str], np.ndarray]]:
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
