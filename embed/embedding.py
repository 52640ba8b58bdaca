"""The loop from files to vectors: decode threads, batches of equal length, a writer.

    files -> decode (threads) -> batches -> encode (one thread per device) -> write (one thread)

Every arrow is bounded, so memory is flat in the number of clips, and each stage works while the
others do, so the loop is as fast as its slowest stage.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import torch

from embed.encoder import Encoder
from embed.pooling import Pooling
from embed.recordings.audio import ClipError, Preprocessing, Recording, load_recording

Content = tuple[int, int, str]
"""Size in bytes, modification time in ns and sha256 of the file a vector was computed from."""

Write = Callable[[list[str], list[np.ndarray], list[Content]], None]
"""Keep rows for good: keys, one array `(n_clips, ...)` per pooling, contents."""

ROWS_PER_WRITE = 256
SECONDS_PER_WRITE = 5.0
LONGEST_BATCH_S = 60.0  # a batch holds at most batch_size times this much sound


@dataclass(frozen=True)
class Encoded:
    """What one forward pass gave: aligned keys, arrays (one per pooling) and contents."""

    keys: list[str]
    vectors: list[np.ndarray]
    contents: list[Content]


def embed_clips(
    encoders: Sequence[Encoder],
    preprocessing: Preprocessing,
    poolings: Sequence[Pooling],
    files: Iterable[tuple[str, Path]],
    *,
    write: Write,
    refuse: Callable[[str, str], None],
    remark: Callable[[str, str], None],
    batch_size: int = 0,
    workers: int = 0,
) -> None:
    """Encode files, `(key, path)` each, and hand the rows to `write` as they come.

    `encoders` are equal but for their device, one per device. `refuse(key, reason)` hears of each
    clip that cannot be used, `remark(key, note)` of one that was altered to be usable. A batch
    size or a number of workers of 0 means automatic. On an interrupt or an error, what was
    encoded so far is still written.
    """
    encoder = encoders[0]
    workers = workers or min(16, os.cpu_count() or 1)
    batch_size = batch_size or encoder.batch_size[encoder.device.split(":")[0]]

    def load(path: Path) -> Recording:
        return load_recording(path, encoder.sample_rate, encoder.min_samples, preprocessing)

    idle: SimpleQueue[Encoder] = SimpleQueue()
    for each in encoders:
        idle.put(each)

    def encode(batch: list[tuple[str, Recording]]) -> list[Encoded]:
        mine = idle.get()
        try:
            return _encode(mine, poolings, batch)
        finally:
            idle.put(mine)

    decoders = ThreadPoolExecutor(workers, "decode")
    devices = ThreadPoolExecutor(len(encoders), "encode")
    rows = _Rows(write, refuse)
    encoding: deque[Future[list[Encoded]]] = deque()
    try:
        recordings = _load_ahead(decoders, load, files, workers + batch_size)
        good = _without_errors(recordings, refuse, remark)
        longest = int(LONGEST_BATCH_S * encoder.sample_rate)
        for batch in _equal_lengths(good, batch_size, longest):
            encoding.append(devices.submit(encode, batch))
            if len(encoding) > len(encoders):
                rows.add(encoding.popleft().result())
    finally:
        decoders.shutdown(wait=False, cancel_futures=True)
        try:
            while encoding:
                rows.add(encoding.popleft().result())
        finally:
            devices.shutdown(cancel_futures=True)
            rows.close()


def _load_ahead(
    decoders: ThreadPoolExecutor,
    load: Callable[[Path], Recording],
    files: Iterable[tuple[str, Path]],
    ahead: int,
) -> Iterator[tuple[str, Future[Recording]]]:
    waiting: deque[tuple[str, Future[Recording]]] = deque()
    for key, path in files:
        waiting.append((key, decoders.submit(load, path)))
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting


def _without_errors(
    recordings: Iterable[tuple[str, Future[Recording]]],
    refuse: Callable[[str, str], None],
    remark: Callable[[str, str], None],
) -> Iterator[tuple[str, Recording]]:
    for key, future in recordings:
        try:
            recording = future.result()
        except ClipError as error:
            refuse(key, str(error))
            continue
        if recording.note:
            remark(key, recording.note)
        yield key, recording


def _equal_lengths(
    recordings: Iterable[tuple[str, Recording]], batch_size: int, longest: int
) -> Iterator[list[tuple[str, Recording]]]:
    """Group recordings by length, since padding would change the vectors."""
    waiting: dict[int, list[tuple[str, Recording]]] = {}
    n_waiting = 0
    for key, recording in recordings:
        n_samples = len(recording.waveform)
        waiting.setdefault(n_samples, []).append((key, recording))
        n_waiting += 1
        full = min(batch_size, max(1, batch_size * longest // max(n_samples, 1)))
        if len(waiting[n_samples]) >= full:
            batch = waiting.pop(n_samples)
        elif n_waiting >= 4 * batch_size:  # many lengths: the one that waits longest goes alone
            batch = waiting.pop(next(iter(waiting)))
        else:
            continue
        n_waiting -= len(batch)
        yield batch
    yield from waiting.values()


def _encode(
    encoder: Encoder, poolings: Sequence[Pooling], batch: list[tuple[str, Recording]]
) -> list[Encoded]:
    """Encode one batch of equal lengths, in halves where the device's memory is too small."""
    try:
        vectors = encoder.encode(np.stack([r.waveform for _, r in batch]), poolings)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
        torch.cuda.empty_cache()
        half = len(batch) // 2
        return [
            *_encode(encoder, poolings, batch[:half]),
            *_encode(encoder, poolings, batch[half:]),
        ]
    contents = [(r.size, r.mtime_ns, r.sha256) for _, r in batch]
    return [Encoded([key for key, _ in batch], vectors, contents)]


class _Rows:
    """Gathers encoded batches and writes them in the background, a good handful at a time."""

    def __init__(self, write: Write, refuse: Callable[[str, str], None]) -> None:
        self._write = write
        self._refuse = refuse
        self._waiting: list[Encoded] = []
        self._since = time.monotonic()
        self._thread = ThreadPoolExecutor(1, "write")
        self._writing: Future[None] | None = None

    def add(self, encoded: Iterable[Encoded]) -> None:
        for part in map(self._finite, encoded):
            if self._waiting and _shapes(part) != _shapes(self._waiting[0]):
                self.flush()
            if part.keys:
                self._waiting.append(part)
        overdue = time.monotonic() - self._since > SECONDS_PER_WRITE
        if overdue or sum(len(part.keys) for part in self._waiting) >= ROWS_PER_WRITE:
            self.flush()

    def flush(self) -> None:
        """Start writing what waits; first wait for, and hear the errors of, the last write."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None
        if self._waiting:
            self._writing = self._thread.submit(
                self._write,
                [key for part in self._waiting for key in part.keys],
                [np.concatenate(a) for a in zip(*(p.vectors for p in self._waiting), strict=True)],
                [content for part in self._waiting for content in part.contents],
            )
        self._waiting, self._since = [], time.monotonic()

    def close(self) -> None:
        try:
            self.flush()
            self.flush()
        finally:
            self._thread.shutdown()

    def _finite(self, part: Encoded) -> Encoded:
        finite = np.ones(len(part.keys), dtype=bool)
        for vectors in part.vectors:
            finite &= np.isfinite(vectors).all(axis=tuple(range(1, vectors.ndim)))
        if finite.all():
            return part
        for key, good in zip(part.keys, finite, strict=True):
            if not good:
                self._refuse(key, "the encoder gave values that are not finite")
        return Encoded(
            [key for key, good in zip(part.keys, finite, strict=True) if good],
            [vectors[finite] for vectors in part.vectors],
            [content for content, good in zip(part.contents, finite, strict=True) if good],
        )


def _shapes(part: Encoded) -> list[tuple[int, ...]]:
    return [vectors.shape[1:] for vectors in part.vectors]
