"""What publishers do not fix is recorded when it is first seen, and compared ever after.

That is hashes of files whose publisher states none, and the commit that a branch was. The record
is `first_seen.json` in the folder of this project's weights, source -> sha256 or commit.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from fetch.places import locked, weights_folder
from ground.files import write_whole
from ground.text import one_line

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
    """Return what is recorded of `source`; where nothing is, record `value` and return it.

    A record that cannot be written, in a read-only cache, is a warning.
    """
    record = record or default_record()
    seen = recorded(source, record)
    if seen:
        return seen
    try:
        with locked(record):
            content = _read(record)
            if source not in content:
                content[source] = value
                write_whole(record, json.dumps(content, indent=1, sort_keys=True))
            return content[source]
    except (OSError, NotImplementedError) as error:  # the latter: no locks on that file system
        log.warning("%s is not recorded as first seen: %s", source, one_line(error))
        return value


def recorded(source: str, record: Path | None = None) -> str:
    """Return what is recorded of `source`, or ""."""
    return _read(record or default_record()).get(source, "")


def default_record() -> Path:
    """Return where the record is."""
    return weights_folder("") / "first_seen.json"


def _read(record: Path) -> dict[str, str]:
    if not record.is_file():
        return {}
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(_damaged(record, one_line(error))) from error
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise ValueError(_damaged(record, "expected an object of texts"))
    return content


def _damaged(record: Path, why: str) -> str:
    return (
        f"{record} is damaged ({why}): delete it, then what is here now is recorded as first seen"
    )
