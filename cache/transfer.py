"""Rows that move between files: several stores into one, a store into a file of another layout."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import h5py
import numpy as np

from cache.hdf5 import publishing, temporary_beside
from cache.store import EmbeddingStore

LAYOUTS = ("npz", "datasets")

_ROWS = 2048


def merge_stores(sources: Sequence[Path], into: Path) -> EmbeddingStore:
    """Put the rows of several stores of one fingerprint into one; it may be one of them.

    Raises ValueError, and writes nothing, where they differ in fingerprint, or where a key was
    computed from different content.
    """
    stores = [EmbeddingStore.at(path) for path in sources]
    into = into.absolute()
    target = EmbeddingStore.at(into) if _is_store(into) else None
    identity = (target or stores[0]).identity
    for store in stores:
        for what in ("encoder", "pooling", "fingerprint"):
            if getattr(store.identity, what) != getattr(identity, what):
                raise ValueError(
                    f"{store.path} holds vectors of {what} {getattr(store.identity, what)}, not "
                    f"{getattr(identity, what)}; they do not belong together"
                )
    target = target or EmbeddingStore(into, replace(identity, created=""))
    with target.lock():
        known = target.contents() if target.exists else {}
        additions = []
        conflicts = []
        for store in stores:
            if store.path == target.path:
                continue
            here = []
            for key, content in store.contents().items():
                if key not in known:
                    known[key] = content
                    here.append(key)
                elif known[key][2] != content[2]:
                    conflicts.append(f"{key!r} of {store.path.name}")
            additions.append((store, here))
        if conflicts:
            raise ValueError(
                f"{len(conflicts)} clips were computed from different content: "
                f"{', '.join(conflicts[:3])}; prune or verify the stores first"
            )
        for store, keys in additions:
            for some in _some(keys):
                for names, rows in _by_length(store, some):
                    target.append(names, rows, [known[name] for name in names])
        target.merge()
    return target


def _is_store(path: Path) -> bool:
    return path.exists() or path.with_suffix(".parts").is_dir()


def _some(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), _ROWS):
        yield keys[start : start + _ROWS]


def _by_length(
    store: EmbeddingStore, keys: Sequence[str]
) -> Iterator[tuple[list[str], np.ndarray]]:
    rows, lengths = store.read_with_lengths(keys)
    for length in np.unique(lengths):
        of_length = np.flatnonzero(lengths == length)
        names = [keys[int(i)] for i in of_length]
        yield names, rows[of_length] if length < 0 else rows[of_length, :length]


def export(store: EmbeddingStore, out: Path, layout: str) -> None:
    """Write a store as an npz of `embeddings` and `filenames`, or as HDF5 with a dataset per clip.

    The file appears under its name when it is complete; an existing one is a FileExistsError.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"--layout {layout}: expected {' or '.join(LAYOUTS)}")
    if out.exists():
        raise FileExistsError(f"{out} is there already; remove it, or export to another name")
    out.parent.mkdir(parents=True, exist_ok=True)
    (_export_npz if layout == "npz" else _export_datasets)(store, out)


def _export_npz(store: EmbeddingStore, out: Path) -> None:
    keys = store.keys()
    about = store.about()
    shape = (len(keys), *about.row_shape)
    temporary = temporary_beside(out)
    try:
        with ZipFile(temporary, "w") as archive:
            with archive.open("filenames.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.array(keys, dtype=np.str_), allow_pickle=False)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            lengths = []
            with archive.open("embeddings.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_2_0(file, header)
                for some in _some(keys):
                    rows, some_lengths = store.read_with_lengths(some)
                    lengths.append(some_lengths)
                    full = np.full((len(some), *about.row_shape), np.nan, dtype="<f4")
                    full[:, : rows.shape[1]] = rows
                    file.write(full.tobytes())
            if len(about.row_shape) > 1:
                with archive.open("lengths.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.concatenate(lengths), allow_pickle=False)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def _export_datasets(store: EmbeddingStore, out: Path) -> None:
    keys = store.keys()
    within = {parent for key in keys for parent in _parents(key)}
    clash = next((key for key in keys if key in within), None)
    if clash is not None:
        raise ValueError(f"the clip {clash!r} is also a folder of clips; export as npz instead")
    with publishing(out) as publication:
        file: h5py.File = publication.file
        for some in _some(keys):
            rows, lengths = store.read_with_lengths(some)
            for key, row, length in zip(some, rows, lengths, strict=True):
                file[key] = row if length < 0 else row[:length]
            publication.check()


def _parents(key: str) -> list[str]:
    steps = key.split("/")
    return ["/".join(steps[:n]) for n in range(1, len(steps))]


def prune(store: EmbeddingStore, data: Path, dry_run: bool = False) -> list[str]:
    """Remove the rows of clips that are no longer under `data`; return their keys.

    Raises FileNotFoundError if `data` itself is not there, ValueError if no clip is.
    """
    if not data.is_dir():
        raise FileNotFoundError(
            f"the data root {data} is not there, so nothing is pruned; --data says where it is"
        )
    keys = store.keys()
    gone = [key for key in keys if not (data / key).is_file()]
    if keys and len(gone) == len(keys):
        raise ValueError(
            f"none of the {len(keys)} clips of {store.path} is under {data}, first {keys[0]!r}; "
            "delete the store if that is meant, or give --data"
        )
    if gone and not dry_run:
        store.drop(gone)
    return gone
