"""Vectors of recordings outside the cache: of new clips, and of windows of long recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pipeline.model import ModelMember

if TYPE_CHECKING:
    import numpy as np

    from embed.encoder import Encoder
    from embed.pooling import Pooling
    from embed.recordings.dataset import DataSet
    from embed.recordings.preprocessing import Preprocessing
    from embed.recordings.streams import RawFormat
    from embed.recordings.windows import Window

Rows = dict[int, "np.ndarray"]
"""The vector of one clip or window by the number of the member."""

WINDOWS_AT_ONCE = 8


@dataclass(frozen=True)
class Part:
    """An encoder, and the poolings of the members that share it."""

    encoder: Encoder
    preprocessing: Preprocessing
    poolings: Sequence[Pooling]
    members: Sequence[int]
    """The number of the member that each pooling is for."""


def parts_of_model(
    members: Sequence[ModelMember],
    *,
    device: str = "cpu",
    offline: bool = False,
    trust_classes: bool = False,
) -> list[Part]:
    """Build the encoders of a model; ValueError or OSError where one cannot be had."""
    from embed.fingerprint import encoder_from

    built = []
    for member in members:
        if not member.configuration:
            raise ValueError(
                f"{member.name} was learned from vectors of another tool, so the vector of a new "
                "recording cannot be computed here"
            )
        built.append(
            encoder_from(
                member.configuration, device=device, offline=offline, trust_classes=trust_classes
            )
        )
    return joined(built)


def joined(built: Sequence[tuple[Encoder, Preprocessing, Pooling]]) -> list[Part]:
    """Join members that share an encoder, so that it runs once for all of them."""
    parts: list[Part] = []
    for encoder, preprocessing, _ in built:
        if any(part.encoder == encoder and part.preprocessing == preprocessing for part in parts):
            continue
        same = [
            (number, pooling)
            for number, (other, other_preprocessing, pooling) in enumerate(built)
            if other == encoder and other_preprocessing == preprocessing
        ]
        parts.append(
            Part(encoder, preprocessing, [pooling for _, pooling in same], [n for n, _ in same])
        )
    return parts


def clip_vectors(
    parts: Sequence[Part],
    dataset: DataSet,
    *,
    on_bad_clip: Callable[[str, str], None],
    on_clip: Callable[[], None] = lambda: None,
    workers: int = 0,
) -> dict[str, Rows]:
    """Compute the vectors of whole clips, by key and member.

    A clip that an encoder cannot use lacks the members of that encoder; `on_bad_clip` hears of it.
    """
    from embed.embedding import Task, embed_clips

    rows: dict[str, Rows] = {}

    def task(part: Part) -> Task:
        def write(keys: list[str], vectors: list[np.ndarray], _: Any) -> None:
            for number, matrix in zip(part.members, vectors, strict=True):
                for key, row in zip(keys, matrix, strict=True):
                    rows.setdefault(key, {})[number] = row
            if part is parts[0]:
                for _key in keys:
                    on_clip()

        return Task(
            encoders=[part.encoder],
            poolings=part.poolings,
            write=write,
            on_bad_clip=on_bad_clip,
        )

    files = ((clip.key, dataset.path(clip.key)) for clip in dataset.clips)
    embed_clips([task(part) for part in parts], parts[0].preprocessing, files, workers=workers)
    return rows


def window_vectors(
    parts: Sequence[Part], path: Path, window_s: float, hop_s: float
) -> Iterator[tuple[Window, Rows]]:
    """Compute the vectors of the windows of one recording, a few at a time, in their order.

    ClipError for what is wrong with the recording, after the windows before it.
    """
    from embed.recordings.windows import windows_of

    rates = sorted({part.encoder.sample_rate for part in parts})
    streams = [windows_of(path, rate, window_s, hop_s, parts[0].preprocessing) for rate in rates]
    yield from _of_windows(parts, rates, streams, WINDOWS_AT_ONCE)


def stream_vectors(
    parts: Sequence[Part],
    file: BinaryIO,
    raw: RawFormat | None,
    window_s: float,
    hop_s: float,
) -> Iterator[tuple[Window, Rows]]:
    """Compute the vectors of the windows of a stream, each as soon as it has come.

    ValueError for encoders of different sample rates, since a stream is read once.
    """
    from embed.recordings.windows import windows_of_stream

    rates = sorted({part.encoder.sample_rate for part in parts})
    if len(rates) > 1:
        raise ValueError(
            f"the model's encoders take {' and '.join(map(str, rates))} Hz, and a stream can be "
            "read at one rate only; check a file, or learn a model of one rate"
        )
    stream = windows_of_stream(file, raw, rates[0], window_s, hop_s, parts[0].preprocessing)
    yield from _of_windows(parts, rates, [stream], 1)


def _of_windows(
    parts: Sequence[Part],
    rates: Sequence[int],
    streams: Sequence[Iterator[Window]],
    at_once: int,
) -> Iterator[tuple[Window, Rows]]:
    """Encode windows, one stream per sample rate, `at_once` at a time."""
    waiting: list[Mapping[int, Window]] = []
    try:
        for same in zip(*streams, strict=False):
            waiting.append(dict(zip(rates, same, strict=True)))
            if len(waiting) == at_once:
                yield from _encoded(parts, waiting)
                waiting = []
    except ValueError:
        yield from _encoded(parts, waiting)
        raise
    yield from _encoded(parts, waiting)


def _encoded(
    parts: Sequence[Part], windows: Sequence[Mapping[int, Window]]
) -> Iterator[tuple[Window, Rows]]:
    """Encode some windows by every part, and give each window its rows."""
    import numpy as np

    if not windows:
        return
    rows: list[Rows] = [{} for _ in windows]
    for part in parts:
        rate = part.encoder.sample_rate
        waveforms = np.stack([window[rate].waveform for window in windows])
        matrices = part.encoder.encode(waveforms, part.poolings)
        for number, matrix in zip(part.members, matrices, strict=True):
            for own, row in zip(rows, matrix, strict=True):
                own[number] = row
    for window, own in zip(windows, rows, strict=True):
        yield next(iter(window.values())), own
