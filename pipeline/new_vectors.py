"""Vectors of recordings outside the cache: of new clips, and of windows of long recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pipeline.model import ModelMember

if TYPE_CHECKING:
    import numpy as np

    from embed.encoder import Encoder
    from embed.pooling import Pooling
    from embed.recordings.preprocessing import Preprocessing
    from embed.recordings.streams import RawFormat
    from embed.recordings.windows import Window

Rows = dict[int, "np.ndarray"]
"""The vectors of one clip or window by the number of the member."""

WINDOWS_AT_ONCE = 8


@dataclass(frozen=True)
class Part:
    """An encoder, and the poolings of the members that share it."""

    encoder: Encoder
    preprocessing: Preprocessing
    """The same for all parts of a model."""
    poolings: Sequence[Pooling]
    members: Sequence[int]
    """The number of the member that each pooling is for."""


@dataclass(frozen=True)
class EncodedWindow:
    """A window of a recording, as recorded and before any normalisation, and its vectors."""

    waveform: np.ndarray
    sample_rate: int
    start_s: float
    end_s: float
    rows: Rows


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
    """Join members that share an encoder or differ in its layer, so that it runs once for them.

    ValueError where they do not share the preprocessing, since a clip is read once.
    """
    parts: list[Part] = []
    for number, (encoder, preprocessing, pooling) in enumerate(built):
        if preprocessing != built[0][1]:
            raise ValueError("the members of the model prepare recordings in different ways")
        same = next((part for part in parts if part.encoder.shares_pass(encoder)), None)
        own = encoder.in_shared_pass(pooling)
        if same is None:
            parts.append(Part(encoder, preprocessing, [own], [number]))
        else:
            more = replace(same, poolings=[*same.poolings, own], members=[*same.members, number])
            parts[parts.index(same)] = more
    return parts


def clip_vectors(
    parts: Sequence[Part],
    files: Mapping[str, Path],
    *,
    on_bad_clip: Callable[[str, str], None],
    workers: int = 0,
) -> dict[str, Rows]:
    """Compute the vectors of whole clips, given by key, by key and member.

    A clip that an encoder cannot use lacks the members of that encoder; `on_bad_clip` hears of it.
    The error of an encoder is raised.
    """
    from embed.embedding import Task, embed_clips

    rows: dict[str, Rows] = {}

    def task(part: Part) -> Task:
        def write(keys: list[str], vectors: list[np.ndarray], _: Any) -> None:
            for number, matrix in zip(part.members, vectors, strict=True):
                for key, row in zip(keys, matrix, strict=True):
                    rows.setdefault(key, {})[number] = row

        return Task(
            encoders=[part.encoder], poolings=part.poolings, write=write, on_bad_clip=on_bad_clip
        )

    tasks = [task(part) for part in parts]
    errors = embed_clips(tasks, parts[0].preprocessing, files.items(), workers=workers)
    if errors:
        raise next(iter(errors.values()))
    return rows


def clip_window(parts: Sequence[Part], path: Path) -> EncodedWindow:
    """Compute the vectors of a whole clip, and keep its waveform, reading the file once.

    ClipError for what is wrong with the recording, for each of the model's encoders.
    """
    from embed.recordings.audio import Need, load_for
    from embed.recordings.dataset import ClipError
    from embed.recordings.windows import Window

    rates = sample_rates(parts)
    unaltered = replace(as_recorded(parts), trim=False)
    by_rate: dict[int, Window] = {}
    for rate, recording in zip(
        rates, load_for(path, [Need(rate, 1) for rate in rates], unaltered), strict=True
    ):
        if isinstance(recording, ClipError):
            raise recording
        by_rate[rate] = Window(recording.waveform, 0.0, len(recording.waveform) / rate)
    (window,) = encoded(parts, [by_rate])
    return window


def window_vectors(
    parts: Sequence[Part], path: Path, window_s: float, hop_s: float
) -> Iterator[EncodedWindow]:
    """Compute the vectors of the windows of one recording, a few at a time, in their order.

    ClipError for what is wrong with the recording, after the windows before it.
    """
    from embed.recordings.windows import windows_of

    unaltered = as_recorded(parts)
    streams = {
        rate: windows_of(path, rate, window_s, hop_s, unaltered) for rate in sample_rates(parts)
    }
    yield from _of_windows(parts, streams, WINDOWS_AT_ONCE)


def stream_vectors(
    parts: Sequence[Part],
    file: BinaryIO,
    raw: RawFormat | None,
    window_s: float,
    hop_s: float,
) -> Iterator[EncodedWindow]:
    """Compute the vectors of the windows of a stream, each as soon as it has come.

    ValueError for encoders of different sample rates, since a stream is read once.
    """
    from embed.recordings.windows import windows_of_stream

    rates = sample_rates(parts)
    if len(rates) > 1:
        raise ValueError(
            f"the model's encoders take {' and '.join(map(str, rates))} Hz, and a stream can be "
            "read at one rate only; check a file, or learn a model of one rate"
        )
    stream = windows_of_stream(file, raw, rates[0], window_s, hop_s, as_recorded(parts))
    yield from _of_windows(parts, {rates[0]: stream}, 1)


def sample_rates(parts: Sequence[Part]) -> list[int]:
    """List the sample rates that the encoders take, in Hz, ascending."""
    return sorted({part.encoder.sample_rate for part in parts})


def as_recorded(parts: Sequence[Part]) -> Preprocessing:
    """Return the preprocessing without what alters a window; that comes when it is encoded."""
    return replace(parts[0].preprocessing, normalize="none", denoise=False)


def _of_windows(
    parts: Sequence[Part], streams: Mapping[int, Iterator[Window]], at_once: int
) -> Iterator[EncodedWindow]:
    """Encode windows, one stream per sample rate, `at_once` at a time."""
    waiting: list[Mapping[int, Window]] = []
    try:
        for windows in zip(*streams.values(), strict=False):
            waiting.append(dict(zip(streams, windows, strict=True)))
            if len(waiting) == at_once:
                yield from encoded(parts, waiting)
                waiting = []
    except ValueError:
        yield from encoded(parts, waiting)
        raise
    yield from encoded(parts, waiting)


def encoded(
    parts: Sequence[Part], windows: Sequence[Mapping[int, Window]]
) -> Iterator[EncodedWindow]:
    """Prepare and encode some windows, each given by sample rate, as recorded."""
    import numpy as np

    from embed.recordings.preprocessing import lengthen, preprocess

    if not windows:
        return
    rows: list[Rows] = [{} for _ in windows]
    for part in parts:
        rate, need = part.encoder.sample_rate, part.encoder.min_samples
        short = part.preprocessing.short
        waveforms = [
            lengthen(preprocess(w[rate].waveform, part.preprocessing), rate, need, short)[0]
            for w in windows
        ]
        matrices = part.encoder.encode(np.stack(waveforms), part.poolings)
        for number, matrix in zip(part.members, matrices, strict=True):
            for own, row in zip(rows, matrix, strict=True):
                own[number] = row
    for by_rate, own in zip(windows, rows, strict=True):
        rate = max(by_rate)
        window = by_rate[rate]
        yield EncodedWindow(window.waveform, rate, window.start_s, window.end_s, own)


def stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Stack the vectors of clips; frames of different numbers are padded with NaN at the end.

    ValueError for other differences of shape.
    """
    import numpy as np

    shapes = {row.shape for row in rows}
    if len(shapes) > 1:
        if len({(row.ndim, row.shape[1:]) for row in rows}) > 1:
            raise ValueError(
                f"clips of different lengths have vectors of different shapes: {sorted(shapes)}"
            )
        longest = max(len(row) for row in rows)
        padding = [(0, 0)] * (rows[0].ndim - 1)
        rows = [
            np.pad(row, [(0, longest - len(row)), *padding], constant_values=np.nan) for row in rows
        ]
    return np.stack(rows)
