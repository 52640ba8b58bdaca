"""What publishers do not fix: recorded when first seen, and kept to ever after.

That is hashes of files whose publisher states none, and the commit that a branch was. The record
is `first_seen.json` in the folder of this project's weights, source -> sha256 or commit.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)


def verify_first_seen(source: str, sha256: str, path: Path, record: Path | None = None) -> None:
    """Record the hash of what `source` gave, or raise a ValueError if it once gave other bytes.

    `source` names what was fetched and its version; `path` is where it is, for the message.
    """
    record = record or default_record()
    seen = remember(source, sha256, record)
    if seen != sha256:
        raise ValueError(
            f"{path} has sha256 {sha256}, but {source} was {seen} when first fetched here "
            f"({record}): delete {path} to fetch it again, or its line there if the change is meant"
        )


def remember(source: str, value: str, record: Path | None = None) -> str:
    """Return what is recorded of `source`, which becomes `value` where nothing is.

    A record that cannot be written, in a read-only cache, is a warning.
    """
    from filelock import FileLock

    record = record or default_record()
    seen = recorded(source, record)
    if seen:
        return seen
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(record.with_name(f".{record.name}.lock")):
            content = _read(record)
            if source not in content:
                content[source] = value
                _write(content, record)
            return content[source]
    except (OSError, NotImplementedError) as error:  # the latter: no locks on that file system
        log.warning("%s is not recorded as first seen: %s", source, error)
        return value


def recorded(source: str, record: Path | None = None) -> str:
    """Return what is recorded of `source`, or ""."""
    return _read(record or default_record()).get(source, "")


def default_record() -> Path:
    """Return where the record is."""
    from fetch.places import weights_folder

    return weights_folder("") / "first_seen.json"


def _read(record: Path) -> dict[str, str]:
    if not record.is_file():
        return {}
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(_damaged(record, str(error))) from error
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise ValueError(_damaged(record, "expected an object of texts"))
    return content


def _damaged(record: Path, why: str) -> str:
    return (
        f"{record} is damaged ({why}): delete it, then what is here now is recorded as first seen"
    )


def _write(content: dict[str, str], record: Path) -> None:
    """Write the record whole or not at all."""
    part = record.with_name(f"{record.name}.part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    part.replace(record)
