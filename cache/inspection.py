"""What a store holds, and whether it is intact: the answers of `ls`, `show` and `verify`."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cache.format import other_forms, parse_json, same_form
from cache.reader import FAULTS, WRONG
from cache.store import EmbeddingStore
from ground.files import sha256_of
from ground.text import one_line

_EXAMPLES = 20
"""How many keys of a kind are named."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """One store: what it holds, and where that came from."""

    path: str
    encoder: str
    pooling: str
    fingerprint: str
    configuration: dict[str, Any]
    data_name: str
    data_root: str
    source: str
    warning: str
    dtype: str
    created: str
    merged: str
    clips: int
    row_shape: list[int]
    bytes: int
    unmerged_parts: int
    notes: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What is wrong with a store; counts, and the first keys of each kind."""

    path: str
    clips: int
    unmerged_parts: int
    structure: str
    """What is damaged in the file besides rows; "" if nothing is."""
    damaged: list[str]
    not_finite: list[str]
    zero: list[str]
    misnamed: list[str]
    absent: list[str]
    changed: list[str]
    counts: dict[str, int]

    @property
    def intact(self) -> bool:
        return not self.structure and not any(self.counts[kind] for kind in WRONG)


def describe(path: Path) -> Description:
    """Describe a store; ValueError says why it cannot be read."""
    try:
        store = EmbeddingStore.at(path)
        about = store.about()
        facts = asdict(store.header)
        facts["configuration"] = dict(parse_json(store.header.configuration))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {_reason(error, path)}") from None
    facts.update(asdict(about), path=str(path), row_shape=list(about.row_shape))
    return Description(**facts)


def verify(path: Path, data: Path | None = None) -> Verification:
    """Check every row of a store; with `data`, also against the recordings there.

    Raises ValueError if the file is too damaged to be read at all.
    """
    try:
        store = EmbeddingStore.at(path)
        kinds = store.faults()
        structure = store.structure_problem()
        clips, unmerged_parts = len(store), store.about().unmerged_parts
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be verified: {_reason(error, path)}") from None
    kinds.update(absent=[], changed=[])
    if data is not None and clips:
        kinds.update(_compare(store, data))
    return Verification(
        path=str(path),
        clips=clips,
        unmerged_parts=unmerged_parts,
        structure=structure,
        counts={kind: len(keys) for kind, keys in kinds.items()},
        **{kind: kinds[kind][:_EXAMPLES] for kind in (*FAULTS, "absent", "changed")},
    )


def _compare(store: EmbeddingStore, data: Path) -> dict[str, list[str]]:
    """Find the keys whose recordings under `data` are absent or have other content."""
    if store.header.source != "computed":
        raise ValueError(
            f"{store.path} was imported, so its rows carry no hash of a recording; verify it "
            "without --data"
        )
    found: dict[str, list[str]] = {"absent": [], "changed": []}
    for key, row in store.provenance().items():
        file = file_of(data, key)
        if file is None:
            found["absent"].append(key)
        elif file.stat().st_size != row.size or sha256_of(file) != row.sha256:
            found["changed"].append(key)
    return found


def file_of(data: Path, key: str) -> Path | None:
    """Find the recording of a key below `data`, whatever form of Unicode its name has there."""
    for spelling in (key, same_form(key), *other_forms(key)):
        if os.path.isfile(data / spelling):  # noqa: PTH113 - Path.is_file raises for long names
            return data / spelling
    return None


def _reason(error: Exception, path: Path) -> str:
    """Say why a store cannot be read; a file of it that is not the store itself is named."""
    if not isinstance(error, OSError) or error.filename is None:
        return one_line(error).removeprefix(f"{path} ")
    named = "" if Path(error.filename) == path.absolute() else f"{error.filename}: "
    return f"{named}{error.strerror}"
