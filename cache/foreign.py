"""Embeddings that other programs left: read by a child process, kept in a store.

    file -> recognised layout -> blocks of (names, rows) -> store with source import:<sha256>

Layouts: a matrix and its names; a dataset per clip, nested by path; a group per clip; npz; a
folder of npy. Rows that are zero (placeholders of unfinished runs) or not finite are dropped and
counted. Files are read by a child process, see `cache.sandbox`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache.foreign_arrays import npy_files
from cache.foreign_layouts import Choices
from cache.format import Provenance, parse_json
from cache.sandbox import ask
from ground.files import sha256_of

if TYPE_CHECKING:
    from cache.store import EmbeddingStore

_ROWS_PER_APPEND = 4096
_NO_FILE = Provenance(0, 0, "")

RULES_VERSION = 1
"""Version of the rules of import. It is part of what identifies a store from 2 on, so that a
changed rule never uses rows of an older one."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found in a file, and what was left out of it."""

    recognised: str
    source: str
    rows: int = 0
    row_shape: tuple[int, ...] = ()
    """`(dim,)`, or `(longest, dim)` for frames."""
    placeholders: int = 0
    zero: int = 0
    not_finite: int = 0
    repeated: int = 0

    @property
    def frames(self) -> bool:
        return len(self.row_shape) > 1

    @property
    def left_out(self) -> str:
        """Say in one phrase what was dropped; "" if nothing was."""
        counts = {
            "placeholder": self.placeholders,
            "all-zero": self.zero,
            "not finite": self.not_finite,
            "repeated": self.repeated,
        }
        return ", ".join(f"{n} {what}" for what, n in counts.items() if n)


@dataclass(frozen=True)
class Imported:
    """Names and their rows: vectors `(n, dim)`, or frames `(n, longest, dim)` padded with NaN."""

    names: tuple[str, ...]
    vectors: np.ndarray
    report: Report


@dataclass
class _Tally:
    """Counts that fill up while the blocks are read."""

    report: Report
    seen: dict[str, bytes] = field(default_factory=dict)


def read_import(path: str | Path, choices: Choices | None = None) -> Imported:
    """Read all embeddings of another program's file or folder into memory.

    Raises ValueError that says what is wrong with the file and which flag would help.
    """
    path = Path(path)
    tally, blocks = _open(path, choices or Choices())
    names: list[str] = []
    pieces: list[np.ndarray] = []
    for names_here, rows in blocks:
        names.extend(names_here)
        pieces.append(rows)
    _check_has_rows(path, tally.report)
    if tally.report.frames:
        longest = tally.report.row_shape[0]
        pieces = [
            np.pad(
                piece,
                [(0, 0), (0, longest - piece.shape[1]), (0, 0)],
                constant_values=np.nan,
            )
            for piece in pieces
        ]
    return Imported(tuple(names), np.concatenate(pieces), tally.report)


def import_to_store(
    path: str | Path,
    directory: str | Path,
    choices: Choices | None = None,
    dtype: str = "float32",
    tell: Callable[[str], None] | None = None,
) -> tuple[EmbeddingStore, Report]:
    """Keep a file's embeddings under its own names in a store; memory stays flat.

    The store is named by the file's stem and the hash of its content and choices, so the same
    file read the same way is read once, and rows of two files never meet. `tell` hears that
    another run writes the store. Raises ValueError that says what is wrong with the file.
    """
    from cache.store import EmbeddingStore

    path, choices = Path(path), choices or Choices()
    source = _source(path)
    decisive = replace(choices, match=_basenames_only(choices))
    configuration: dict[str, Any] = {"source": source, **asdict(decisive)}
    if RULES_VERSION > 1:
        configuration["version"] = RULES_VERSION
    store = EmbeddingStore.open(
        directory,
        data_name=_stem(path),
        data_root=path,
        encoder="import",
        pooling="own",
        fingerprint=hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest(),
        configuration=configuration,
        source=source,
        dtype=dtype,
    )
    with store.lock(tell=tell, reading=True):
        if store.path.exists() and (report := _kept_report(store)) is not None:
            return store, report
        tally, blocks = _open(path, choices, source)
        waiting: list[tuple[list[str], np.ndarray]] = []
        for block in blocks:
            waiting.append(block)
            shapes_differ = block[1].shape[1:] != waiting[0][1].shape[1:]
            if shapes_differ or sum(len(names) for names, _ in waiting) >= _ROWS_PER_APPEND:
                _append(store, waiting)
                waiting = []
        _append(store, waiting)
        _check_has_rows(path, tally.report)
        store.merge(notes={"report": json.dumps(asdict(tally.report))})
        return store, tally.report


def _append(store: EmbeddingStore, waiting: Sequence[tuple[list[str], np.ndarray]]) -> None:
    for _, same in groupby(waiting, key=lambda block: block[1].shape[1:]):
        blocks = list(same)
        names = [name for names_here, _ in blocks for name in names_here]
        store.append(names, np.concatenate([rows for _, rows in blocks]), [_NO_FILE] * len(names))


def _kept_report(store: EmbeddingStore) -> Report | None:
    facts = parse_json(store.notes().get("report", "null"))
    if facts is None:
        return None
    return Report(**{**facts, "row_shape": tuple(facts["row_shape"])})


def _stem(path: Path) -> str:
    return path.stem if path.is_file() else path.name


def _source(path: Path) -> str:
    """Identify a file or folder by its content; FileNotFoundError if there is none."""
    if path.is_file():
        return f"import:{sha256_of(path)}"
    if not path.is_dir():
        raise FileNotFoundError(f"no embeddings at {path}: expected .h5, .npz or a folder of .npy")
    together = hashlib.sha256()
    for each in npy_files(path):
        together.update(f"{each.relative_to(path).as_posix()}\0{sha256_of(each)}\n".encode())
    return f"import:{together.hexdigest()}"


def _check_has_rows(path: Path, report: Report) -> None:
    if not report.rows:
        raise ValueError(
            f"{path} holds no usable embedding ({report.left_out or 'no rows'}); recognised as "
            f"{report.recognised}"
        )


def _basenames_only(choices: Choices) -> str:
    """Paths that leave the data root are no danger where only the last component is used."""
    return "name" if choices.match in ("name", "stem") else ""


def _open(
    path: Path, choices: Choices, source: str = ""
) -> tuple[_Tally, Iterator[tuple[list[str], np.ndarray]]]:
    """Recognise a file and get its blocks ready; the tally is complete when they are read."""
    source = source or _source(path)
    files = [path] if path.is_file() else npy_files(path)
    messages = ask(
        "cache.foreign_reader:answer",
        sum(file.stat().st_size for file in files),
        path=str(path.absolute()),
        choices=asdict(choices),
    )
    try:
        head, _ = next(messages)
    except (ValueError, StopIteration) as error:
        raise ValueError(f"{path} is not imported: {error}") from None
    tally = _Tally(Report(recognised=str(head.get("recognised", "")), source=source))
    return tally, _in_blocks(path, messages, tally)


def _in_blocks(
    path: Path, messages: Iterator[tuple[dict[str, Any], bytes]], tally: _Tally
) -> Iterator[tuple[list[str], np.ndarray]]:
    try:
        for message, data in messages:
            shape = tuple(int(n) for n in message["shape"])
            rows = np.frombuffer(data, dtype="<f4").reshape(shape)
            names = [str(name) for name in message["names"]]
            keep = _unrepeated(names, rows, tally)
            counts = {k: int(message[k]) for k in ("placeholders", "zero", "not_finite")}
            _count(tally, len(keep), shape[1:], len(names) - len(keep), counts)
            if len(keep):
                yield [names[i] for i in keep], rows[keep]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not imported: {error}") from None


def _count(
    tally: _Tally, rows: int, shape: tuple[int, ...], repeated: int, counts: Mapping[str, int]
) -> None:
    report = tally.report
    known = report.row_shape
    if known and rows and (len(known) != len(shape) or known[-1] != shape[-1]):
        raise ValueError(f"rows of shape {shape} after rows of shape {known}")
    longest = max(known, shape) if rows else known
    tally.report = replace(
        report,
        rows=report.rows + rows,
        row_shape=longest,
        repeated=report.repeated + repeated,
        **{what: getattr(report, what) + n for what, n in counts.items()},
    )


def _unrepeated(names: Sequence[str], rows: np.ndarray, tally: _Tally) -> list[int]:
    """Say which rows come for the first time; a name with two different rows is refused."""
    keep = []
    for i, name in enumerate(names):
        digest = hashlib.blake2b(rows[i].tobytes(), digest_size=8).digest()
        known = tally.seen.setdefault(name, digest)
        if known is digest:
            keep.append(i)
        elif known != digest:
            raise ValueError(
                f"the name {name!r} has two different rows; names must be unique, perhaps as "
                "paths below the data root"
            )
    return keep
