"""Hashes of large files are remembered, so that an unchanged file is not hashed again.

The record is `hashes.json` in the folder of this project's weights: path -> size, times of
modification and change, inode and sha256. It saves time and nothing else, so a record that is
damaged or cannot be written is no error.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from fetch.places import locked, weights_folder
from ground.files import sha256_of, write_whole

SMALLEST = 1 << 20
"""Smaller files are hashed each time, in a few milliseconds."""
SETTLED_S = 2.0
"""A file that changed in the last seconds may change again within one tick of the clock."""
N_FACTS = 4


def known_sha256(path: Path) -> str:
    """Return the sha256 of a file, from the record if the file is unchanged since it was hashed.

    OSError for a file that cannot be read.
    """
    path = path.resolve()
    facts = _facts(path)
    if facts[0] < SMALLEST:
        return sha256_of(path)
    *known, sha256 = _read().get(str(path), [""])
    if known == facts:
        return str(sha256)
    sha256 = sha256_of(path)
    if facts == _facts(path) and time.time_ns() - max(facts[1:3]) > SETTLED_S * 1e9:
        _remember(path, [*facts, sha256])
    return sha256


def forget_hashes() -> None:
    """Forget all hashes, so that the next look at each file reads it."""
    with suppress(OSError):
        _record().unlink()


def _record() -> Path:
    return weights_folder("") / "hashes.json"


def _facts(path: Path) -> list[int]:
    """Return size, times and inode: a file whose content changed differs in one of them."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _read() -> dict[str, list[Any]]:
    try:
        content = json.loads(_record().read_text(encoding="utf-8"))
        return {name: [*row] for name, row in content.items() if len(row) == N_FACTS + 1}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}


def _remember(path: Path, row: list[Any]) -> None:
    record = _record()
    # not on a read-only disk, or on a file system without locks
    with suppress(OSError, NotImplementedError), locked(record):
        rows = {name: known for name, known in _read().items() if Path(name).is_file()}
        write_whole(record, json.dumps({**rows, str(path): row}, indent=1, sort_keys=True))
