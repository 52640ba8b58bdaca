"""What a store holds, and whether it is intact: the answers of `ls`, `show` and `verify`.

Stores may come from a stranger or be damaged, so they are looked at by a child process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cache.sandbox import ask

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
    damaged: list[str]
    not_finite: list[str]
    zero: list[str]
    misnamed: list[str]
    absent: list[str]
    changed: list[str]
    counts: dict[str, int]

    @property
    def intact(self) -> bool:
        from cache.store import WRONG

        return not any(self.counts[kind] for kind in WRONG)

    @property
    def current(self) -> bool:
        """Tell whether every row belongs to a file that is there, as it is."""
        return not any(self.counts[kind] for kind in ("absent", "changed"))


def describe(paths: Sequence[Path]) -> list[Description | ValueError]:
    """Describe stores, in order; what cannot be described is its ValueError."""
    try:
        messages = ask("cache.inspection:_answer_describe", 0, paths=[str(path) for path in paths])
        return [Description(**facts) for facts in _plain(messages)]
    except ValueError as error:
        if len(paths) == 1:
            return [ValueError(f"{paths[0]} cannot be read: {error}")]
        return [described for path in paths for described in describe([path])]


def _plain(messages: Any) -> list[dict[str, Any]]:
    return [dict(json.loads(data)) for _, data in messages]


def verify(path: Path, data: Path | None = None) -> Verification:
    """Check every row of a store; with `data`, also against the recordings there.

    Raises ValueError if the file is too damaged to be read at all.
    """
    from cache.store import EmbeddingStore

    size = sum(
        p.stat().st_size for p in (path, *path.with_suffix(".parts").glob("*")) if p.exists()
    )
    try:
        (facts,) = _plain(ask("cache.inspection:_answer_verify", size, path=str(path)))
    except ValueError as error:
        raise ValueError(f"{path} cannot be verified: {error}") from None
    absent: list[str] = []
    changed: list[str] = []
    if data is not None and facts["clips"]:
        store = EmbeddingStore.at(path)
        if store.identity.source != "computed":
            raise ValueError(
                f"{path} was imported, so its rows carry no hash of a recording; verify it "
                "without --data"
            )
        for key, (stored_size, _, sha256) in store.contents().items():
            file = data / key
            if not file.is_file():
                absent.append(key)
            elif file.stat().st_size != stored_size or _sha256(file) != sha256:
                changed.append(key)
    counts = {**facts.pop("counts"), "absent": len(absent), "changed": len(changed)}
    return Verification(
        **facts, absent=absent[:_EXAMPLES], changed=changed[:_EXAMPLES], counts=counts
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- the child --------------------------------------------------------------------------------


def _answer_describe(send: Any, paths: Sequence[str]) -> None:
    from cache.store import EmbeddingStore

    for path in paths:
        store = EmbeddingStore.at(Path(path))
        about = store.about()
        facts = asdict(store.identity)
        facts["configuration"] = json.loads(store.identity.configuration)
        facts.update(asdict(about), path=path, row_shape=list(about.row_shape))
        send({}, json.dumps(facts).encode())


def _answer_verify(send: Any, path: str) -> None:
    from cache.store import EmbeddingStore

    store = EmbeddingStore.at(Path(path))
    kinds = store.faults()
    facts = {
        "path": path,
        "clips": len(store),
        "unmerged_parts": store.about().unmerged_parts,
        **{kind: keys[:_EXAMPLES] for kind, keys in kinds.items()},
        "counts": {kind: len(keys) for kind, keys in kinds.items()},
    }
    send({}, json.dumps(facts).encode())
