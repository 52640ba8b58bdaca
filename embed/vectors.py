"""Vectors of a few clips, in memory: what `Encoder.embed` does."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embed.embedding import Content, Task, embed_clips
from embed.recordings.preprocessing import Preprocessing

if TYPE_CHECKING:
    from embed.encoder import Encoder
    from embed.pooling import Pooling

Clips = np.ndarray | Sequence[str | PathLike[str] | np.ndarray]


def vectors_of(
    encoder: Encoder, clips: Clips, pooling: Pooling, preprocessing: Preprocessing | None = None
) -> np.ndarray:
    """Return one vector per clip, `(n_clips, dim)` float32; see `Encoder.embed`."""
    if reason := encoder.why_not(pooling):
        raise ValueError(reason)
    if isinstance(clips, str | PathLike):
        raise ValueError(f"expected a list of clips, got one: {clips}")
    if len(clips) == 0:
        raise ValueError("there are no clips to embed")
    paths = [Path(clip) for clip in clips if isinstance(clip, str | PathLike)]
    if not paths:
        if preprocessing is not None:
            raise ValueError("preprocessing applies to recordings, but these are waveforms")
        return _of_waveforms(encoder, [np.asarray(clip) for clip in clips], pooling)
    if len(paths) < len(clips):
        raise ValueError("expected paths or waveforms, got some of each")
    return _of_recordings(encoder, paths, pooling, preprocessing or Preprocessing())


def _of_recordings(
    encoder: Encoder, paths: Sequence[Path], pooling: Pooling, preprocessing: Preprocessing
) -> np.ndarray:
    rows: dict[int, np.ndarray] = {}

    def write(keys: list[str], vectors: list[np.ndarray], contents: list[Content]) -> None:
        rows.update(zip(map(int, keys), vectors[0], strict=True))

    def refuse(key: str, reason: str) -> None:
        raise ValueError(f"{paths[int(key)]}: {reason}")

    task = Task(encoders=[encoder], poolings=[pooling], write=write, on_bad_clip=refuse)
    embed_clips([task], preprocessing, ((str(i), path) for i, path in enumerate(paths)))
    return _stacked(rows, pooling)


def _of_waveforms(
    encoder: Encoder, waveforms: Sequence[np.ndarray], pooling: Pooling
) -> np.ndarray:
    """Encode waveforms in batches of one length; ValueError names the first unusable one."""
    by_length: dict[int, list[int]] = {}
    for i, waveform in enumerate(waveforms):
        if waveform.ndim != 1 or len(waveform) < encoder.min_samples:
            raise ValueError(
                f"clip {i} has the shape {waveform.shape}, expected (n_samples,) with at least "
                f"{encoder.min_samples} samples at {encoder.sample_rate} Hz"
            )
        if not np.issubdtype(waveform.dtype, np.floating):
            raise ValueError(f"clip {i} is of type {waveform.dtype}, expected floats from -1 to 1")
        if not np.isfinite(waveform).all():
            raise ValueError(f"clip {i} has samples that are NaN or infinite")
        by_length.setdefault(len(waveform), []).append(i)
    size = encoder.batch_size[encoder.device.split(":")[0]]
    rows: dict[int, np.ndarray] = {}
    for numbers in by_length.values():
        for start in range(0, len(numbers), size):
            batch = numbers[start : start + size]
            (vectors,) = encoder.encode(np.stack([waveforms[i] for i in batch]), [pooling])
            rows.update(zip(batch, vectors, strict=True))
    return _stacked(rows, pooling)


def _stacked(rows: dict[int, np.ndarray], pooling: Pooling) -> np.ndarray:
    if len({row.shape for row in rows.values()}) > 1:
        raise ValueError(
            f"clips of different lengths give {pooling.name} of different shapes; "
            "embed those of one length at a time"
        )
    return np.stack([rows[i] for i in range(len(rows))])
