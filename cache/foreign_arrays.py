"""The arrays in a stranger's file, listed without reading them: HDF5, npz, npy, a folder of npy.

Runs in the child of `cache.sandbox`; whatever would leave the file, run code or exhaust memory is
refused by ValueError.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

_BLOCK_BYTES = 16 << 20
_LARGEST_CHUNK = 128 << 20
_BOMB_RATIO = 100
_BOMB_BYTES = 16 << 20
_MOST_OBJECTS = 5_000_000
_CHUNKED = 2
_KINDS_OF_STORAGE = frozenset({0, 1, _CHUNKED})  # compact, contiguous, chunked; not virtual
_FILTERS = frozenset({1, 2, 3, 4, 5, 6, 32000})  # those of the library, and h5py's LZF
_ENCRYPTED = 1


class Array(ABC):
    """An array of the file: shape and type known, rows read on demand."""

    __slots__ = ("dtype", "path", "shape")

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @abstractmethod
    def read(self, rows: slice) -> np.ndarray: ...

    @abstractmethod
    def names(self, rows: slice) -> list[str]: ...


class Dataset(Array):
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
        if self._elsewhere or self._layout not in _KINDS_OF_STORAGE:
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


class Npy(Array):
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
        """Read rows; the next ones without a new start, since a zip member is read forwards."""
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


def _decoded(name: object) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)


def arrays_in(path: Path) -> dict[str, Array]:
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


def _npy_file(path: Path) -> Array:
    return Npy(path.stem, lambda: path.open("rb"), path.stat().st_size)


def _npz_members(path: Path) -> dict[str, Array]:
    """List the arrays of an npz; ValueError for members that are locked or unpack too large."""
    from zipfile import BadZipFile, ZipFile

    try:
        archive = ZipFile(path)
    except BadZipFile as error:
        raise ValueError(f"a damaged npz ({error})") from None
    arrays: dict[str, Array] = {}
    for info in archive.infolist():
        if not info.filename.endswith(".npy"):
            continue
        if info.flag_bits & _ENCRYPTED:
            raise ValueError(f"{info.filename} needs a password; save it without one")
        if info.file_size > max(_BOMB_BYTES, _BOMB_RATIO * info.compress_size):
            raise ValueError(
                f"{info.filename} unpacks from {info.compress_size} to {info.file_size} bytes"
            )
        name = info.filename.removesuffix(".npy")
        arrays[name] = Npy(name, lambda info=info: archive.open(info), info.file_size)
    if not arrays:
        raise ValueError("a zip without .npy members")
    return arrays


def _hdf5_datasets(path: Path) -> dict[str, Array]:
    """List the datasets of an HDF5 file; ValueError for links and for too many objects."""
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
    arrays: dict[str, Array] = {}
    for each in paths:
        opened = h5py.h5o.open(file.id, each.encode("utf-8", "surrogateescape"))
        if isinstance(opened, h5py.h5d.DatasetID):
            arrays[each] = Dataset(each, file, opened, size)
    if not arrays:
        raise ValueError("an HDF5 file without datasets")
    return arrays
