"""A pass over clips in other processes: portions of clips go out, rows into the stores' parts.

    clips -> portions -> Worker (decode, encode, write a part) -> reports -> the tasks of the pass

A worker is the same on another core, another card or another machine. It holds the encoders, and
each of its parts is whole before the report of it goes out, so that a worker that is killed costs
its portion at most.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ground.text import one_line

if TYPE_CHECKING:
    import numpy as np

    from cache.store import EmbeddingStore
    from embed.embedding import Task
    from embed.encoder import Encoder
    from embed.pooling import Pooling
    from embed.recordings.preprocessing import Preprocessing

LARGEST_PORTION, SMALLEST_PORTION = 256, 8
PORTIONS_PER_WORKER = 8
"""So many at least, where there are clips enough, so that workers end at about the same time."""


@dataclass(frozen=True)
class StoreRows:
    """Where the rows of a task go: a store per pooling, and the keys that each of them lacks."""

    stores: Sequence[EmbeddingStore]
    lacking: Sequence[frozenset[str]]
    n_lacking: Sequence[int]
    _with_space: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, stores: Iterable[EmbeddingStore], lacking: Sequence[frozenset[str]]) -> StoreRows:
        return cls(list(stores), lacking, [len(keys) for keys in lacking])

    @property
    def keys(self) -> frozenset[str]:
        """What any of the stores lacks."""
        return frozenset().union(*self.lacking)

    def without_keys(self) -> StoreRows:
        return replace(self, lacking=())

    def keep(
        self, keys: Sequence[str], vectors: Sequence[np.ndarray], files: Sequence[Any]
    ) -> None:
        """Append rows, one array `(n_clips, ...)` per store, to the stores that lack them.

        OSError where the disk is full, or has no space for all that are lacking.
        """
        for number, (store, lacking, rows) in enumerate(
            zip(self.stores, self.lacking, vectors, strict=True)
        ):
            if number not in self._with_space:
                store.check_space(self.n_lacking[number], rows.shape[1:])
                self._with_space.add(number)
            wanted = [i for i, key in enumerate(keys) if key in lacking]
            if wanted:
                store.append([keys[i] for i in wanted], rows[wanted], [files[i] for i in wanted])


@dataclass(frozen=True)
class ClipPass:
    """One pass over the clips that some store lacks."""

    tasks: Sequence[Task]
    rows: Sequence[StoreRows]
    """Where the rows of each task go."""
    preprocessing: Preprocessing
    files: Mapping[str, Path]
    """The clips that some store lacks, by key, in their order."""
    on_done: Callable[[str], None]
    """Hears of each clip whose row a task has kept."""
    batch_size: int
    workers: int

    def worker(self, *, device: int = 0, decoders: int = 0) -> Worker:
        """Make a worker on one of the devices of the encoders."""
        errands = [
            Errand(task.encoders[device % len(task.encoders)], task.poolings, rows.without_keys())
            for task, rows in zip(self.tasks, self.rows, strict=True)
        ]
        return Worker(errands, self.preprocessing, self.batch_size, decoders)

    def portions(self, n_workers: int) -> Iterator[list[ClipFile]]:
        """Cut the clips into portions, small enough that all workers end at about one time."""
        each = len(self.files) // (n_workers * PORTIONS_PER_WORKER)
        size = min(max(each, SMALLEST_PORTION), LARGEST_PORTION)
        lacking = [own for rows in self.rows for own in rows.lacking]
        keys = iter(self.files)
        while portion := list(islice(keys, size)):
            yield [
                ClipFile(
                    key,
                    str(self.files[key]),
                    f"{sum((key in own) << bit for bit, own in enumerate(lacking)):x}",
                )
                for key in portion
            ]

    def follow(self, reports: Iterable[Sequence[Report]]) -> dict[int, Exception]:
        """Tell the tasks what was reported; return the errors by the number of the task.

        When every task has failed, the first error is raised, as `embed_clips` does. OSError for
        what a worker refuses, and for a recording that is here and that a worker does not see.
        """
        errors: dict[int, Exception] = {}
        for report in chain.from_iterable(reports):
            self._take(report, errors)
            if len(errors) == len(self.tasks):
                raise next(iter(errors.values()))
        return errors

    def _take(self, report: Report, errors: dict[int, Exception]) -> None:
        """Tell a task what was reported, or note that it has failed."""
        kind, number, key, text, _ = report
        if kind == "refused":
            raise OSError(text)
        if kind == "not there" and (path := self.files[key]).exists():
            raise OSError(
                f"{path} is here, and the machine {report.machine} does not see it; every machine "
                "has to see the recordings under the same path"
            )
        if kind == "done":
            self.on_done(key)
        elif kind == "note":
            self.tasks[number].on_note(key, text)
        elif kind == "failed":
            errors.setdefault(number, ValueError(text))
        else:
            self.tasks[number].on_bad_clip(key, text)


@dataclass(frozen=True)
class Errand:
    """What a worker does for one task of a pass."""

    encoder: Encoder
    poolings: Sequence[Pooling]
    rows: StoreRows
    """Without keys: those of a portion come with it."""


class ClipFile(NamedTuple):
    """One clip of a portion."""

    key: str
    path: str
    lacking: str
    """The stores that lack it, as a hexadecimal number: one bit per store of all tasks."""


class Report(NamedTuple):
    """What became of one clip for one task, or of the task itself."""

    kind: str
    """`done`, `left out`, `not there`, `note`, `failed`, or `refused` by the worker itself."""
    task: int
    key: str
    text: str
    machine: str


@dataclass(frozen=True)
class Worker:
    """Encodes portions of clips; it pickles, and loads its networks where it is used."""

    errands: Sequence[Errand]
    preprocessing: Preprocessing
    batch_size: int
    decoders: int
    """Threads that decode recordings."""

    def encode(self, clips: Sequence[ClipFile]) -> list[Report]:
        """Encode a portion; its rows are in the stores' parts when this returns."""
        from embed.embedding import embed_clips

        reports: list[Report] = []
        tasks = self._tasks(clips, reports)
        files = [(clip.key, Path(clip.path)) for clip in clips]
        numbers = list(tasks)
        try:
            errors = embed_clips(
                list(tasks.values()),
                self.preprocessing,
                files,
                batch_size=self.batch_size,
                workers=self.decoders,
            )
        except Exception as failure:  # every task has failed, of whatever; the caller is told
            errors = dict.fromkeys(range(len(numbers)), failure)
        for i, error in errors.items():
            reports.append(Report("failed", numbers[i], "", one_line(error), platform.node()))
        return reports

    def _tasks(self, clips: Sequence[ClipFile], reports: list[Report]) -> dict[int, Task]:
        """Prepare the tasks that lack any of the clips, by their numbers."""
        tasks, first_bit = {}, 0
        for number, errand in enumerate(self.errands):
            bits = range(first_bit, first_bit + len(errand.rows.stores))
            first_bit = bits.stop
            lacking = [
                frozenset(clip.key for clip in clips if int(clip.lacking, 16) >> bit & 1)
                for bit in bits
            ]
            if any(lacking):
                tasks[number] = _task(number, errand, lacking, clips, reports)
        return tasks


def _task(
    number: int,
    errand: Errand,
    lacking: Sequence[frozenset[str]],
    clips: Sequence[ClipFile],
    reports: list[Report],
) -> Task:
    """Make a task that keeps the rows which the stores lack, and reports every clip."""
    from embed.embedding import Task

    rows = replace(errand.rows, lacking=lacking)
    paths = {clip.key: clip.path for clip in clips}
    machine = platform.node()

    def report(kind: str, key: str, text: str = "") -> None:
        reports.append(Report(kind, number, key, text, machine))

    def write(keys: list[str], vectors: list[np.ndarray], files: list[Any]) -> None:
        rows.keep(keys, vectors, files)
        for key in keys:
            report("done", key)

    def on_bad_clip(key: str, reason: str) -> None:
        report("left out" if Path(paths[key]).exists() else "not there", key, reason)

    return Task(
        encoders=[errand.encoder],
        poolings=errand.poolings,
        write=write,
        on_bad_clip=on_bad_clip,
        on_note=partial(report, "note"),
        keys=rows.keys,
    )
