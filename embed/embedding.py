"""The loop from files to vectors: one pass over the clips for any number of encoders.

    files -> decode (threads) -> batches -> encode (one thread per device) -> write (one thread)

Every arrow is bounded, so memory is flat in the number of clips, and each stage works while the
others do, so the loop is as fast as its slowest stage. An encoder that is `concurrent` encodes each
clip in the thread that decoded it.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np

from embed.recordings.audio import Need, Recording, load_for
from embed.recordings.dataset import ClipError
from embed.recordings.preprocessing import Preprocessing

if TYPE_CHECKING:
    from embed.encoder import Encoder
    from embed.pooling import Pooling

Content = tuple[int, int, str]
"""Size in bytes, modification time in ns and sha256 of the file a vector was computed from."""

Write = Callable[[list[str], list[np.ndarray], list[Content]], None]
"""Keep rows for good: keys, one array `(n_clips, ...)` per pooling, contents."""

OnClip = Callable[[str, str], None]
"""Hear of a clip: its key, and what is to be said."""

ROWS_PER_WRITE = 256
SECONDS_PER_WRITE = 5.0
FIRST_BATCH = 4
"""Clips of a pass's first batch: a slow network is soon seen to work, and soon interrupted."""
LONGEST_BATCH_S = 60.0  # a batch holds at most batch_size times this much sound


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What one encoder has to do in a pass: its poolings, its clips, and where its rows go.

    `encoders` are equal but for their device, one per device. `keys` are the clips that it lacks,
    or None for all. `on_bad_clip(key, reason)` hears of each clip that this encoder cannot use,
    `on_note(key, note)` of one that was altered to be usable.
    """

    encoders: Sequence[Encoder]
    poolings: Sequence[Pooling]
    write: Write
    on_bad_clip: OnClip
    on_note: OnClip = lambda key, note: None
    keys: Container[str] | None = None

    @property
    def need(self) -> Need:
        """What its encoder takes."""
        return Need(self.encoders[0].sample_rate, self.encoders[0].min_samples)

    @property
    def concurrent(self) -> bool:
        """Whether its clips are encoded by the threads that decode."""
        return self.encoders[0].concurrent


@dataclass(frozen=True)
class Encoded:
    """What one forward pass gave: aligned keys, arrays (one per pooling) and contents."""

    keys: list[str]
    vectors: list[np.ndarray]
    contents: list[Content]


Encoding = Callable[[], Encoded]
"""Waits for a batch that a device has been given."""


def embed_clips(
    tasks: Sequence[Task],
    preprocessing: Preprocessing,
    files: Iterable[tuple[str, Path]],
    *,
    batch_size: int = 0,
    workers: int = 0,
) -> dict[int, Exception]:
    """Encode files, `(key, path)` each, and hand the rows of each task to its `write`.

    A clip is read and decoded once and resampled once per sample rate, however many tasks want it.
    A batch size or a number of workers of 0 means automatic. On an interrupt or an error, what was
    encoded so far is still written.

    The error of a task ends that task only; returns these errors by the number of the task. When
    every task has failed, the first one's error is raised. Callbacks but `write` are called in the
    caller's thread.
    """
    workers = workers or min(16, os.cpu_count() or 1)
    writer = ThreadPoolExecutor(1, "write")
    decoders = ThreadPoolExecutor(workers, "decode")
    devices = _Devices(max((len(t.encoders) for t in tasks if not t.concurrent), default=1))
    runs = [_TaskRun(task, batch_size, writer, devices) for task in tasks]
    ahead = workers + max((run.batch_size for run in runs), default=0)
    try:
        with _blas_in_one_thread(any(task.concurrent for task in tasks)):
            for key, loaded in _load_ahead(decoders, runs, preprocessing, files, ahead):
                for run, result in loaded:
                    run.take(key, result)
                if all(run.error for run in runs):
                    break
            for run in runs:
                run.encode_rest()
    finally:
        decoders.shutdown(wait=False, cancel_futures=True)
        devices.close()
        for run in runs:
            run.close()
        writer.shutdown()
    errors = {i: run.error for i, run in enumerate(runs) if run.error is not None}
    if tasks and len(errors) == len(tasks):
        raise errors[0]
    return errors


@dataclass(frozen=True)
class _Loaded:
    """A clip for one task; of a `concurrent` encoder with its vectors, or the encoder's error."""

    recording: Recording | ClipError
    vectors: list[np.ndarray] | Exception | None = None


def _load_ahead(
    decoders: ThreadPoolExecutor,
    runs: Sequence[_TaskRun],
    preprocessing: Preprocessing,
    files: Iterable[tuple[str, Path]],
    ahead: int,
) -> Iterator[tuple[str, list[tuple[_TaskRun, _Loaded]]]]:
    """Load each clip for the tasks that want it, at most `ahead` clips before it is asked for."""
    waiting: deque[tuple[str, list[_TaskRun], Future[list[_Loaded]]]] = deque()

    def first() -> tuple[str, list[tuple[_TaskRun, _Loaded]]]:
        key, wanting, future = waiting.popleft()
        return key, list(zip(wanting, future.result(), strict=True))

    for key, path in files:
        wanting = [run for run in runs if run.wants(key)]
        if not wanting:
            continue
        wanted = [run.task for run in wanting]
        waiting.append((key, wanting, decoders.submit(_load, path, wanted, preprocessing)))
        if len(waiting) > ahead:
            yield first()
    while waiting:
        yield first()


def _load(path: Path, tasks: Sequence[Task], preprocessing: Preprocessing) -> list[_Loaded]:
    """Read one clip for several tasks, and encode it for those that are concurrent."""
    loaded = []
    for task, recording in zip(
        tasks, load_for(path, [task.need for task in tasks], preprocessing), strict=True
    ):
        vectors: list[np.ndarray] | Exception | None = None
        if task.concurrent and isinstance(recording, Recording):
            try:
                vectors = task.encoders[0].encode(recording.waveform[None], task.poolings)
            except Exception as error:
                vectors = error
        loaded.append(_Loaded(recording, vectors))
    return loaded


class _TaskRun:
    """A task during a pass: its batches, its rows, and the error that ended it."""

    def __init__(
        self, task: Task, batch_size: int, writer: ThreadPoolExecutor, devices: _Devices
    ) -> None:
        encoder = task.encoders[0]
        self.task = task
        self.error: Exception | None = None
        self.batch_size = batch_size or encoder.batch_size[encoder.device.split(":")[0]]
        self._batches = _Batches(self.batch_size, int(LONGEST_BATCH_S * encoder.sample_rate))
        self._rows = _Rows(task.write, task.on_bad_clip, writer)
        self._devices = devices

    def wants(self, key: str) -> bool:
        return self.error is None and (self.task.keys is None or key in self.task.keys)

    def take(self, key: str, loaded: _Loaded) -> None:
        """Go on with a clip that was loaded."""
        self._attempt(partial(self._take, key, loaded))

    def _take(self, key: str, loaded: _Loaded) -> None:
        recording, vectors = loaded.recording, loaded.vectors
        if isinstance(recording, ClipError):
            self.task.on_bad_clip(key, str(recording))
            return
        if recording.note:
            self.task.on_note(key, recording.note)
        if isinstance(vectors, Exception):
            raise vectors
        if vectors is not None:
            self._rows.add(Encoded([key], vectors, [_content(recording)]))
        elif batch := self._batches.add(key, recording):
            self._devices.encode(self, batch)

    def encode_rest(self) -> None:
        """Encode the batches that are not full."""
        for batch in self._batches.rest():
            if self.error is None:
                self._devices.encode(self, batch)

    def add(self, encoding: Future[Encoding]) -> None:
        """Keep the rows of a batch, as soon as it is encoded."""
        self._attempt(lambda: self._rows.add(encoding.result()()))

    def close(self) -> None:
        """Write what waits."""
        self._attempt(self._rows.close)

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:
            self.error = self.error or error


class _Devices:
    """One thread per device; a batch goes to the device that is idle.

    A GPU's thread is idle as soon as the GPU has been given a batch, so that the next one is
    ready when the GPU is. Two batches per device are under way at most.
    """

    def __init__(self, n_devices: int) -> None:
        self._n_devices = n_devices
        self._threads = ThreadPoolExecutor(n_devices, "encode")
        self._encoding: deque[tuple[_TaskRun, Future[Encoding]]] = deque()
        self._idle: SimpleQueue[int] = SimpleQueue()
        for device in range(n_devices):
            self._idle.put(device)

    def encode(self, run: _TaskRun, batch: list[tuple[str, Recording]]) -> None:
        """Begin with a batch; wait for the earliest one if every device has two."""
        self._encoding.append((run, self._threads.submit(self._begin, run.task, batch)))
        if len(self._encoding) >= 2 * self._n_devices:
            self._collect()

    def close(self) -> None:
        while self._encoding:
            self._collect()
        self._threads.shutdown(cancel_futures=True)

    def _collect(self) -> None:
        run, encoding = self._encoding.popleft()
        run.add(encoding)

    def _begin(self, task: Task, batch: list[tuple[str, Recording]]) -> Encoding:
        device = self._idle.get()
        try:
            encoder = task.encoders[device % len(task.encoders)]
            wait = encoder.begin([recording.waveform for _, recording in batch], task.poolings)
        finally:
            self._idle.put(device)
        keys = [key for key, _ in batch]
        contents = [_content(recording) for _, recording in batch]
        return lambda: Encoded(keys, wait(), contents)


class _Batches:
    """Gathers recordings of equal length, since padding would change the vectors."""

    def __init__(self, batch_size: int, longest: int) -> None:
        self._batch_size = batch_size
        self._longest = longest
        self._is_first = True
        self._waiting: dict[int, list[tuple[str, Recording]]] = {}
        self.n_waiting = 0

    def add(self, key: str, recording: Recording) -> list[tuple[str, Recording]]:
        """Take a recording; return a batch that is to be encoded now, or nothing."""
        n_samples = len(recording.waveform)
        self._waiting.setdefault(n_samples, []).append((key, recording))
        self.n_waiting += 1
        full = max(1, self._batch_size * self._longest // max(n_samples, 1))
        if self._is_first:
            full = min(full, FIRST_BATCH)
        if len(self._waiting[n_samples]) >= min(self._batch_size, full):
            return self._pop(n_samples)
        if self.n_waiting >= 4 * self._batch_size:  # many lengths: the one that waits longest goes
            return self._pop(next(iter(self._waiting)))
        return []

    def rest(self) -> Iterator[list[tuple[str, Recording]]]:
        """Give the batches that are not full."""
        while self._waiting:
            yield self._pop(next(iter(self._waiting)))

    def _pop(self, n_samples: int) -> list[tuple[str, Recording]]:
        self._is_first = False
        batch = self._waiting.pop(n_samples)
        self.n_waiting -= len(batch)
        return batch


class _Rows:
    """Gathers encoded batches and writes them in the background, a good handful at a time."""

    def __init__(self, write: Write, on_bad_clip: OnClip, writer: ThreadPoolExecutor) -> None:
        self._write = write
        self._on_bad_clip = on_bad_clip
        self._writer = writer
        self._waiting: list[Encoded] = []
        self._n_waiting = 0
        self._since = time.monotonic()
        self._writing: Future[None] | None = None

    def add(self, encoded: Encoded) -> None:
        part = self._finite(encoded)
        if self._waiting and _shapes(part) != _shapes(self._waiting[0]):
            self.flush()
        if part.keys:
            self._waiting.append(part)
            self._n_waiting += len(part.keys)
        overdue = time.monotonic() - self._since > SECONDS_PER_WRITE
        if overdue or self._n_waiting >= ROWS_PER_WRITE:
            self.flush()

    def flush(self) -> None:
        """Start writing what waits; first wait for, and hear the errors of, the last write."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()
        if self._waiting:
            self._writing = self._writer.submit(
                self._write,
                [key for part in self._waiting for key in part.keys],
                [np.concatenate(a) for a in zip(*(p.vectors for p in self._waiting), strict=True)],
                [content for part in self._waiting for content in part.contents],
            )
        self._waiting, self._n_waiting, self._since = [], 0, time.monotonic()

    def close(self) -> None:
        self.flush()
        self.flush()

    def _finite(self, part: Encoded) -> Encoded:
        """Leave out rows that are not finite, and tell of their clips."""
        finite = np.ones(len(part.keys), dtype=bool)
        for vectors in part.vectors:
            finite &= np.isfinite(vectors).all(axis=tuple(range(1, vectors.ndim)))
        if finite.all():
            return part
        for key, is_finite in zip(part.keys, finite, strict=True):
            if not is_finite:
                self._on_bad_clip(key, "the encoder gave values that are not finite")
        keep = np.flatnonzero(finite).tolist()
        return Encoded(
            [part.keys[i] for i in keep],
            [vectors[finite] for vectors in part.vectors],
            [part.contents[i] for i in keep],
        )


def _content(recording: Recording) -> Content:
    return recording.size, recording.mtime_ns, recording.sha256


def _shapes(part: Encoded) -> list[tuple[int, ...]]:
    return [vectors.shape[1:] for vectors in part.vectors]


def _blas_in_one_thread(wanted: bool) -> AbstractContextManager[object]:
    """Keep numpy's products to the thread that asks for them, where many threads ask."""
    if not wanted:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")  # type: ignore[no-any-return]
