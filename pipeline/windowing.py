"""Windows of long recordings as training clips; their vectors stay in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ground.text import one_line
from pipeline.journal import Journal
from pipeline.new_vectors import Rows, joined, stacked, window_vectors
from pipeline.parts import devices_of, encoder_class, encoder_of, pooling_of
from pipeline.screen import progress
from pipeline.settings import LearnSettings
from pipeline.sources import Pair, Source, preprocessing_of

if TYPE_CHECKING:
    import numpy as np

    from detect.fitting import ClipTable, Read
    from embed.recordings.dataset import Clip, DataSet

HOP_OF_WINDOW = 0.5
"""Hop of windows as a share of their length, where none is given."""
PARTS_OF_ONE_RECORDING = 10
"""Where a machine has one recording only, parts of it are held out in place of recordings."""


@dataclass(frozen=True)
class Windows:
    """How long recordings are cut, in seconds."""

    length_s: float
    hop_s: float

    @classmethod
    def of(cls, window: float | None, hop: float | None) -> Windows | None:
        """Read the flags; None where recordings are not cut."""
        return None if window is None else cls(window, hop or window * HOP_OF_WINDOW)


def window_key(recording: str, start_s: float) -> str:
    """Name the window of a recording that begins at a second."""
    return f"{recording}@{start_s:g}"


def recording_of(key: str) -> str:
    """Return the key of the recording of a window."""
    return key.rpartition("@")[0]


def embed_windows(
    settings: LearnSettings, dataset: DataSet, pairs: Iterable[Pair], journal: Journal
) -> tuple[ClipTable, dict[Pair, Source]]:
    """Cut the training recordings into windows and compute the vectors of each.

    A window's group is its recording, so that no recording is split over folds; see also
    `PARTS_OF_ONE_RECORDING`. A recording that cannot be used is left out. ValueError where no
    recording is left.
    """
    from embed.fingerprint import configuration

    windows = Windows.of(settings.window, settings.hop)
    if windows is None:
        raise TypeError("there are no windows without --window")
    wanted = list(dict.fromkeys(pairs))
    preprocessing = preprocessing_of(settings)
    built = []
    for encoder, pooling in wanted:
        device = "cpu" if encoder_class(encoder.name).concurrent else devices_of(settings)[0]
        built.append((encoder_of(settings, encoder, device), preprocessing, pooling_of(pooling)))
    parts = joined(built)
    rows: dict[str, Rows] = {}
    clips: list[Clip] = []
    with progress("embed windows of", len(dataset), "recordings", quiet=settings.quiet) as advance:
        for clip in dataset.clips:
            path = dataset.path(clip.key)
            try:
                for window in window_vectors(parts, path, windows.length_s, windows.hop_s):
                    key = window_key(clip.key, window.start_s)
                    rows[key] = window.rows
                    clips.append(replace(clip, key=key, group=clip.group or clip.key))
            except (OSError, ValueError) as error:
                journal.leave_out(clip.key, one_line(error))
            advance()
    if not clips:
        raise ValueError(f"{dataset.root} has no recording that can be cut into windows")
    sources = {}
    for number, pair in enumerate(wanted):

        def narrowed(keys: Sequence[str], number: int = number) -> Read:
            return partial(_read, {key: rows[key] for key in keys}, number)

        sources[pair] = Source(
            encoder=pair[0].name,
            pooling=pair[1].name,
            path=Path(dataset.root),
            read=partial(_read, rows, number),
            keys=frozenset(rows),
            narrowed=narrowed,
            warning=built[number][0].warning,
            configuration=json.loads(json.dumps(configuration(*built[number]))),
        )
    return _table(clips), sources


def _table(clips: Sequence[Clip]) -> ClipTable:
    """Turn windows into columns; the groups of a machine with one recording are parts of it."""
    from detect.fitting import ClipTable

    by_machine: dict[tuple[str, str], list[Clip]] = {}
    for clip in clips:
        by_machine.setdefault(clip.machine, []).append(clip)
    grouped = []
    for own in by_machine.values():
        if len({clip.group for clip in own}) > 1:
            grouped += own
            continue
        for i, clip in enumerate(own):
            part = PARTS_OF_ONE_RECORDING * i // len(own) + 1
            grouped.append(replace(clip, group=f"{clip.group} part {part}"))
    columns = ("key", "machine_type", "machine_id", "split", "label", "domain", "group")
    return ClipTable(**{name: tuple(getattr(c, name) for c in grouped) for name in columns})


def _read(rows: Mapping[str, Rows], number: int, keys: Iterable[str]) -> np.ndarray:
    return stacked([rows[key][number] for key in keys])
