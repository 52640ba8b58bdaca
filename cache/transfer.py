"""Rows that move between files: several stores into one, a store into a file of another layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import h5py
import numpy as np

from cache.failures import explaining
from cache.format import Provenance, in_blocks, of_one_length, same_form
from cache.hdf5 import publishing
from cache.inspection import file_of
from cache.reader import header_at
from cache.shards import whole_name
from cache.store import EmbeddingStore, Tell
from ground.files import remove_stale, whole_file

LAYOUTS = ("npz", "datasets")

_ROWS = 2048


def merge_stores(sources: Sequence[Path], into: Path, tell: Tell | None = None) -> EmbeddingStore:
    """Put the rows of several stores of one fingerprint into one; it may be one of them.

    A merge that was killed is continued by the same call. `tell` hears that another run writes
    the store. Raises ValueError, and writes nothing, where stores differ in fingerprint, or where
    a key was computed from different content; OSError where a disk is full or rows are damaged.
    """
    stores = [EmbeddingStore.at(path) for path in sources]
    into = into.absolute()
    target = None if header_at(into) is None else EmbeddingStore.at(into)
    header = (target or stores[0]).header
    for store in stores:
        for what in ("encoder", "pooling", "fingerprint"):
            if getattr(store.header, what) != getattr(header, what):
                raise ValueError(
                    f"{store.path} holds vectors of {what} {getattr(store.header, what)}, not "
                    f"{getattr(header, what)}; they do not belong together"
                )
    if target is None:
        header = replace(header, created="", data_name=whole_name(header.data_name))
        target = EmbeddingStore(into, header)
    with target.lock(tell=tell):
        for store, rows in _additions(stores, target):
            for keys in in_blocks(list(rows), _ROWS):
                for of_length, vectors in of_one_length(*store.read_with_lengths(keys)):
                    names = [keys[i] for i in of_length.tolist()]
                    target.append(names, vectors, [rows[name] for name in names])
        target.merge()
    return target


def _additions(
    stores: Sequence[EmbeddingStore], target: EmbeddingStore
) -> list[tuple[EmbeddingStore, dict[str, Provenance]]]:
    """List what each store has that the target lacks; ValueError where contents differ."""
    present = target.provenance() if target.exists else {}
    known = {same_form(key): row for key, row in present.items()}
    additions = []
    conflicts = []
    for store in stores:
        if store.path == target.path:
            continue
        new = {}
        for key, row in store.provenance().items():
            kept = known.setdefault(same_form(key), row)
            if kept is row:
                new[key] = row
            elif kept.sha256 != row.sha256:
                conflicts.append(f"{key!r} of {store.path.name}")
        additions.append((store, new))
    if conflicts:
        raise ValueError(
            f"{len(conflicts)} clips were computed from different content: "
            f"{', '.join(conflicts[:3])}; prune or verify the stores first"
        )
    return additions


def export(store: EmbeddingStore, out: Path, layout: str) -> None:
    """Write a store as an npz of `embeddings` and `filenames`, or as HDF5 with a dataset per clip.

    The file appears under its name when it is complete; an existing one is a FileExistsError. What
    a killed export left half-written is removed an hour later.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"--layout {layout}: expected {' or '.join(LAYOUTS)}")
    if out.exists():
        raise FileExistsError(f"{out} is there already; remove it, or export to another name")
    with explaining(out, "nothing was exported", "export to another place"):
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(out.parent, out.name)
        (_export_npz if layout == "npz" else _export_datasets)(store, out)


def _export_npz(store: EmbeddingStore, out: Path) -> None:
    """Write an npz of names, vectors and lengths, a block of rows at a time."""
    keys = store.keys()
    about = store.about()
    shape = (len(keys), *about.row_shape)
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    all_lengths = []
    with whole_file(out) as temporary, ZipFile(temporary, "w") as archive:
        with archive.open("filenames.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array(file, np.array(keys, dtype=np.str_), allow_pickle=False)
        with archive.open("embeddings.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_2_0(file, header)
            for block in in_blocks(keys, _ROWS):
                rows, lengths = store.read_with_lengths(block)
                all_lengths.append(lengths)
                full = np.full((len(block), *about.row_shape), np.nan, dtype="<f4")
                full[:, : rows.shape[1]] = rows
                file.write(full.tobytes())
        if len(about.row_shape) > 1:
            with archive.open("lengths.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.concatenate(all_lengths), allow_pickle=False)


def _export_datasets(store: EmbeddingStore, out: Path) -> None:
    keys = store.keys()
    within = {parent for key in keys for parent in _parents(key)}
    clash = next((key for key in keys if key in within), None)
    if clash is not None:
        raise ValueError(f"the clip {clash!r} is also a folder of clips; export as npz instead")
    with publishing(out) as publication:
        file: h5py.File = publication.file
        for block in in_blocks(keys, _ROWS):
            rows, lengths = store.read_with_lengths(block)
            for key, row, length in zip(block, rows, lengths, strict=True):
                file[key] = row if length < 0 else row[:length]
            publication.check()


def _parents(key: str) -> list[str]:
    steps = key.split("/")
    return ["/".join(steps[:n]) for n in range(1, len(steps))]


def prune(
    store: EmbeddingStore, data: Path, dry_run: bool = False, tell: Tell | None = None
) -> list[str]:
    """Remove the rows of clips that are no longer under `data`; return their keys.

    `tell` hears that another run writes the store, which is waited for. Raises FileNotFoundError
    if `data` itself is not there, ValueError if no clip is.
    """
    if not data.is_dir():
        raise FileNotFoundError(
            f"the data root {data} is not there, so nothing is pruned; --data says where it is"
        )
    keys = store.keys()
    gone = [key for key in keys if file_of(data, key) is None]
    if keys and len(gone) == len(keys):
        raise ValueError(
            f"none of the {len(keys)} clips of {store.path} is under {data}, first {keys[0]!r}; "
            "delete the store if that is meant, or give --data"
        )
    if gone and not dry_run:
        with store.lock(tell=tell):
            store.drop(gone)
    return gone
