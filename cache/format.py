"""How vectors lie on disk: parts, checksums, hashed names, the attributes of a store."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

T = TypeVar("T")
FORMAT = 1
"""Version of the layout that docs/cache-format.md describes."""

Content = tuple[int, int, str]
"""Size in bytes, modification time in ns and sha256 of the file a row was computed from."""
CHUNK_ROWS = 128
CHUNK_BYTES = 8 << 20
BLOCK_BYTES = 32 << 20
"""What a merge holds in memory at a time."""
UNKNOWN = -1
"""A modification time that no file has, so that its hash decides."""
COLUMNS = ("key_hashes", "sizes", "mtimes", "sha256", "checksums")


@dataclass(frozen=True, kw_only=True)
class StoreHeader:
    """What a store holds and where it came from; the file's attributes."""

    encoder: str
    pooling: str
    fingerprint: str
    configuration: str  # JSON
    data_name: str
    data_root: str
    source: str = "computed"  # or import:<sha256 of the file>
    warning: str = ""
    dtype: str = "float32"
    created: str = ""


class MovedError(Exception):
    """The store was merged while it was being read."""


def utc_now() -> str:
    """Return the time of now in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def header_at(path: Path) -> StoreHeader | None:
    """Read what the store at `path` says it is; None if there is none, ValueError if foreign."""
    description = parts_folder(path) / "store.json"
    try:
        with h5py.File(path, "r", locking=False) as file:
            facts = {k: file.attrs.get(k) for k in StoreHeader.__dataclass_fields__}
            version = int(file.attrs.get("format", 0))
    except FileNotFoundError:
        try:
            facts = json.loads(description.read_text())
        except FileNotFoundError:
            return None
        version = FORMAT
    except OSError as error:
        raise explained(error, path, "this is no readable HDF5 file") from error
    if version > FORMAT:
        raise ValueError(f"{path} has cache format {version}, newer than {FORMAT}; update this")
    if version < 1 or not all(isinstance(fact, str) for fact in facts.values()):
        raise ValueError(f"{path} is not a store of this project; import it instead")
    return StoreHeader(**{k: str(v) for k, v in facts.items()})


def explained(error: OSError, path: Path, outcome: str) -> OSError:
    """Turn an error of the operating system into one that says what it means for the store."""
    advice = {
        errno.ENOSPC: "the disk is full; free some space, or use another --cache-dir",
        errno.EDQUOT: "your disk quota is used up; free some space, or use another --cache-dir",
        errno.EFBIG: "the file would be larger than allowed; use another --cache-dir",
        errno.EROFS: "the disk is read-only; use another --cache-dir",
        errno.EACCES: "no permission to write here; use another --cache-dir",
        errno.EPERM: "no permission to write here; use another --cache-dir",
        errno.ENOTDIR: "a file is where the cache folder should be; use another --cache-dir",
        errno.EEXIST: "a file is where the cache folder should be; use another --cache-dir",
    }.get(error.errno or 0, error.strerror or str(error))
    return type(error)(error.errno or errno.EIO, f"{outcome}: {advice}", str(path))


def in_blocks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut a sequence into blocks of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


# -- parts ------------------------------------------------------------------------------------


def parts_folder(path: Path) -> Path:
    """Return the folder of the unmerged parts of the store at `path`."""
    return path.with_suffix(".parts")


def parts_in(folder: Path) -> list[Path]:
    """List the parts, oldest first."""
    try:
        return sorted(path for path in folder.iterdir() if _PART.fullmatch(path.name))
    except FileNotFoundError:
        return []


_PART = re.compile(r"part-(\d{20})-[0-9a-f]{8}\.npy")


latest_numbers: dict[Path, int] = {}


def next_number(folder: Path) -> int:
    """Choose a number above all earlier parts, even if the clock was set back meanwhile."""
    if folder not in latest_numbers:
        parts = parts_in(folder)
        latest_numbers[folder] = int(parts[-1].name.split("-")[1]) if parts else 0
    latest_numbers[folder] = max(time.time_ns(), latest_numbers[folder] + 1)
    return latest_numbers[folder]


def encode_key(key: str) -> bytes:
    """Encode a key as the bytes that are hashed and kept; ValueError for what names no file."""
    name = key.encode("utf-8", "surrogateescape")
    if not name or b"\0" in name:
        raise ValueError(f"a key is a file's path below the data root, not {key!r}")
    return name


def hash_keys(names: Sequence[bytes]) -> np.ndarray:
    """Hash names to `(n, 2)` uint64: the first 16 bytes of BLAKE2b, little-endian."""
    blake2b = hashlib.blake2b
    digests = b"".join([blake2b(name, digest_size=16).digest() for name in names])
    return np.frombuffer(digests, dtype="<u8").reshape(-1, 2)


def row_checksums(rows: np.ndarray) -> np.ndarray:
    """CRC-32 of each row's bytes."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    return np.fromiter((zlib.crc32(row.data) for row in flat), dtype=np.uint32, count=len(rows))


def as_stored(embeddings: np.ndarray, dtype: str) -> np.ndarray:
    """Turn vectors into what is kept, finite and little-endian."""
    kind = np.dtype(dtype).newbyteorder("<")
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(embeddings, dtype=kind)
    finite = np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{np.count_nonzero(~finite)} of {len(rows)} vectors are not finite as {dtype}, "
            f"first row {np.argmin(finite)}; they were not kept"
        )
    return rows


def part_bytes(
    dtype: str, keys: Sequence[str], embeddings: np.ndarray, contents: Sequence[Content]
) -> bytes:
    """Lay out rows as one record array in the `.npy` format."""
    if not len(keys) == len(embeddings) == len(contents) or embeddings.ndim < 2:
        raise ValueError(
            f"{len(keys)} keys and {len(contents)} contents need vectors of shape "
            f"({len(keys)}, ...), got {embeddings.shape}"
        )
    names = [encode_key(key) for key in keys]
    rows = as_stored(embeddings, dtype)
    record = np.dtype(
        [
            ("filenames", f"S{max(map(len, names))}"),
            ("key_hashes", "<u8", (2,)),
            ("sizes", "<i8"),
            ("mtimes", "<i8"),
            ("sha256", "u1", (32,)),
            ("checksums", "<u4"),
            ("embeddings", rows.dtype, rows.shape[1:]),
        ]
    )
    part = np.zeros(len(keys), dtype=record)
    part["filenames"] = names
    part["key_hashes"] = hash_keys(names)
    part["sizes"] = [size for size, _, _ in contents]
    part["mtimes"] = [mtime for _, mtime, _ in contents]
    digests = b"".join(bytes.fromhex(sha256).ljust(32, b"\0") for _, _, sha256 in contents)
    part["sha256"] = np.frombuffer(digests, dtype=np.uint8).reshape(-1, 32)
    part["checksums"] = row_checksums(rows)
    part["embeddings"] = rows
    header = np.lib.format.header_data_from_array_1_0(part)
    return _npy_header(header) + part.tobytes()


def _npy_header(header: dict[str, Any]) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    np.lib.format.write_array_header_2_0(buffer, header)
    return buffer.getvalue()


def load_part(path: Path) -> np.ndarray:
    """Open the rows of a part, memory-mapped; OSError for one that is damaged."""
    try:
        part: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise OSError(
            errno.EIO, f"damaged part ({error}); delete it, its clips are embedded again", str(path)
        ) from error
    return part


def as_text(value: object) -> str:
    """Decode a text of HDF5; bytes that are not UTF-8 are kept as surrogates."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
