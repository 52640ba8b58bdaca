"""Parts: what one `append` leaves, a complete file of rows in the folder `<store>.parts`.

A part is a NumPy record array in the `.npy` format. `store.json` beside the parts holds the
store's header until there is a merged file.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path

import numpy as np

from cache.failures import DamagedError, repair_advice
from cache.format import (
    COLUMNS,
    VECTOR_TYPES,
    StoreHeader,
    as_stored,
    encode_key,
    hash_keys,
    header_of,
    parse_json,
    row_checksums,
    same_form,
    storable_mtime,
    utc_now,
)
from ground.files import sync, write_whole

_PART = re.compile(r"part-(\d{20})-[0-9a-f]{8}\.npy")
_START = re.compile(rb"\x93NUMPY\x02\x00(?P<length>.{4})", re.DOTALL)
_RECORD = re.compile(
    r"\{'descr': \[\('filenames', '\|S(?P<name>\d{1,9})'\), "
    + "".join(
        re.escape(f"('{column}', '{kind}', {shape}), " if shape else f"('{column}', '{kind}'), ")
        for column, (kind, shape) in COLUMNS.items()
    )
    + r"\('embeddings', '(?P<kind><f[24])', \((?P<shape>\d{1,9}(, \d{1,9})*),?\)\)\], "
    r"'fortran_order': False, 'shape': \((?P<n>\d{1,12}),\), \} *\n"
)
"""The only header that a part can have, so that a damaged one is noticed."""

_latest_numbers: dict[Path, int] = {}


def parts_folder(path: Path) -> Path:
    """Return the folder of the unmerged parts of the store at `path`."""
    return path.with_suffix(".parts")


def parts_in(folder: Path) -> list[Path]:
    """List the parts, oldest first."""
    try:
        return sorted(path for path in folder.iterdir() if _PART.fullmatch(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def write_part(folder: Path, header: StoreHeader, part: bytes) -> None:
    """Keep a part for good: on return it is on the disk under its name, and so is the header.

    Raises OSError; FileNotFoundError where another process keeps removing the folder.
    """
    for _ in range(3):  # another process may merge and remove the folder meanwhile
        _make_durable_folder(folder)
        name = f"part-{_next_number(folder):020d}-{secrets.token_hex(4)}.npy"
        with suppress(FileNotFoundError):
            if not (folder / "store.json").exists():
                write_whole(folder / "store.json", _header_text(header))
            return write_whole(folder / name, part)
    raise FileNotFoundError(f"{folder}: the folder of parts disappears while it is written")


def _make_durable_folder(folder: Path) -> None:
    """Make a folder and its parents; after a power cut they are still there."""
    if folder.is_dir():
        return
    _make_durable_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def _header_text(header: StoreHeader) -> str:
    facts = asdict(replace(header, created=utc_now()))
    return json.dumps({**facts, "checksum": _header_checksum(facts)})


def _header_checksum(facts: dict[str, str]) -> int:
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())


def header_in(folder: Path) -> StoreHeader | None:
    """Read the header beside unmerged parts; None if there is none, OSError if it is damaged."""
    try:
        text = (folder / "store.json").read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        facts = parse_json(text)
        header = header_of(facts)
        checksum = _header_checksum(asdict(header))
        if facts.get("checksum", checksum) != checksum:
            raise ValueError("its checksum does not fit")
    except ValueError as error:
        raise DamagedError(
            folder / "store.json",
            f"damaged ({error}); {repair_advice(folder.with_suffix('.h5'))} sets the parts aside, "
            "and the next run computes their clips again",
        ) from None
    return header


def _next_number(folder: Path) -> int:
    """Choose a number above all earlier parts, even if the clock was set back meanwhile."""
    if folder not in _latest_numbers:
        parts = parts_in(folder)
        _latest_numbers[folder] = int(parts[-1].name.split("-")[1]) if parts else 0
    _latest_numbers[folder] = max(time.time_ns(), _latest_numbers[folder] + 1)
    return _latest_numbers[folder]


def part_bytes(
    dtype: str,
    keys: Sequence[str],
    embeddings: np.ndarray,
    provenance: Sequence[tuple[int, int, str]],
) -> bytes:
    """Lay out rows `(n, ...)` as one record array in the `.npy` format.

    Raises ValueError for rows that are not finite or do not fit the keys.
    """
    if not len(keys) == len(embeddings) == len(provenance) or embeddings.ndim < 2:
        raise ValueError(
            f"{len(keys)} keys with {len(provenance)} provenances need vectors of shape "
            f"({len(keys)}, ...), got {embeddings.shape}"
        )
    names = [encode_key(key) for key in keys]
    rows = as_stored(embeddings, dtype)
    record = _record(max(map(len, names)), rows.dtype.str, rows.shape[1:])
    part = np.zeros(len(keys), dtype=record)
    part["filenames"] = names
    part["key_hashes"] = hash_keys([same_form(key) for key in keys])
    part["sizes"] = [size for size, _, _ in provenance]
    part["mtimes"] = [storable_mtime(mtime) for _, mtime, _ in provenance]
    digests = b"".join(bytes.fromhex(sha256).ljust(32, b"\0") for _, _, sha256 in provenance)
    part["sha256"] = np.frombuffer(digests, dtype=np.uint8).reshape(-1, 32)
    part["checksums"] = row_checksums(rows)
    part["embeddings"] = rows
    buffer = BytesIO()
    np.lib.format.write_array_header_2_0(buffer, np.lib.format.header_data_from_array_1_0(part))
    return buffer.getvalue() + part.tobytes()


def _record(name_bytes: int, kind: str, shape: tuple[int, ...]) -> np.dtype[np.void]:
    columns = [(name, *type_and_shape) for name, type_and_shape in COLUMNS.items()]
    return np.dtype([("filenames", f"S{name_bytes}"), *columns, ("embeddings", kind, shape)])


def load_part(path: Path) -> np.ndarray:
    """Open the rows of a part, memory-mapped; OSError for one that is damaged."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = _START.fullmatch(file.read(12))
        length = int.from_bytes(start["length"], "little") if start else 0
        header = file.read(min(length, size)).decode("latin-1")
    match = _RECORD.fullmatch(header)
    if match is not None:
        shape = tuple(int(n) for n in match["shape"].split(", "))
        n = int(match["n"])
        # numbers of absurd size would overflow in NumPy, so that bytes are counted before
        width = int(match["name"]) + _FIXED_BYTES + int(match["kind"][2]) * math.prod(shape)
        if 12 + length + n * width == size and n:
            record = _record(int(match["name"]), match["kind"], shape)
            return np.memmap(path, dtype=record, mode="r", offset=12 + length, shape=(n,))
    store = path.parent.with_suffix(".h5")
    raise DamagedError(
        path,
        f"damaged part of {size} bytes; {repair_advice(store)} sets it aside, and the next run "
        "computes its clips again",
    )


_FIXED_BYTES = _record(1, VECTOR_TYPES["float32"], (1,)).itemsize - 1 - 4
