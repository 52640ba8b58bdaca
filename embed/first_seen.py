"""Hashes of files whose publisher states none: recorded when first seen, verified ever after.

The record is `first_seen.json` in the folder of this project's weights, source -> sha256.
"""

from __future__ import annotations

import json
from pathlib import Path


def verify_first_seen(source: str, sha256: str, path: Path, record: Path | None = None) -> None:
    """Record the hash of what `source` gave, or raise a ValueError if it once gave other bytes.

    `source` names what was fetched and its version; `path` is where it is, for the message.
    """
    from filelock import FileLock

    from embed.weights import weights_folder

    record = record or weights_folder("") / "first_seen.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(record.with_name(f".{record.name}.lock")):
        seen = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
        if source not in seen:
            seen[source] = sha256
            part = record.with_name(f"{record.name}.part")
            part.write_text(json.dumps(seen, indent=1, sort_keys=True), encoding="utf-8")
            part.replace(record)
    if seen[source] != sha256:
        raise ValueError(
            f"{path} has sha256 {sha256}, but {source} was {seen[source]} when first fetched here "
            f"({record}): delete {path} to fetch it again, or its line there if the change is meant"
        )
