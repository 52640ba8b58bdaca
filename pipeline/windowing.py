"""Windows of long recordings as training clips; their vectors stay in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground.text import one_line
from pipeline.journal import Journal
from pipeline.new_vectors import joined, window_vectors
from pipeline.parts import devices_of, encoder_class, encoder_of, pooling_of
from pipeline.screen import progress
from pipeline.settings import LearnSettings
from pipeline.sources import Pair, Source, preprocessing_of

if TYPE_CHECKING:
    import numpy as np

    from detect.fitting import ClipTable
    from embed.recordings.dataset import DataSet


def embed_windows(
    settings: LearnSettings, dataset: DataSet, pairs: Iterable[Pair], journal: Journal
) -> tuple[ClipTable, dict[Pair, Source]]:
    """Cut the training recordings into windows and compute the vectors of each.

    A window's key is `<key of the recording>@<start in seconds>`, and its group the recording, so
    that no recording is split over folds. A recording that cannot be used is left out.
    """
    from detect.fitting import ClipTable
    from embed.fingerprint import configuration

    if settings.window is None:
        raise TypeError("there are no windows without --window")
    wanted = list(dict.fromkeys(pairs))
    preprocessing = preprocessing_of(settings)
    built = []
    for encoder, pooling in wanted:
        device = "cpu" if encoder_class(encoder.name).concurrent else devices_of(settings)[0]
        built.append((encoder_of(settings, encoder, device), preprocessing, pooling_of(pooling)))
    parts = joined(built)
    rows: dict[str, dict[int, np.ndarray]] = {}
    columns: list[tuple[str, ...]] = []
    clips = [clip for clip in dataset.clips if (clip.split, clip.label) == ("train", "normal")]
    with progress("embed windows of", len(clips), "recordings", quiet=settings.quiet) as advance:
        for clip in clips:
            hop = settings.hop or settings.window / 2
            stream = window_vectors(parts, dataset.path(clip.key), settings.window, hop)
            try:
                for window, vectors in stream:
                    key = f"{clip.key}@{window.start_s:g}"
                    rows[key] = vectors
                    group = clip.group or clip.key
                    columns.append((key, *clip.machine, "train", "normal", clip.domain, group))
            except (OSError, ValueError) as error:
                journal.leave_out(clip.key, one_line(error))
            advance()
    if not columns:
        raise ValueError(f"{dataset.root} has no recording that can be cut into windows")
    table = ClipTable(*(tuple(column) for column in zip(*columns, strict=True)))
    sources = {}
    for number, pair in enumerate(wanted):
        facts = json.loads(json.dumps(configuration(*built[number])))
        sources[pair] = Source(
            encoder=pair[0].name,
            pooling=pair[1].name,
            path=Path(dataset.root),
            read=partial(_rows, rows, number),
            keys=frozenset(rows),
            warning=built[number][0].warning,
            configuration=facts,
        )
    return table, sources


def _rows(rows: dict[str, dict[int, np.ndarray]], number: int, keys: Iterable[str]) -> Any:
    import numpy as np

    return np.stack([rows[key][number] for key in keys])
