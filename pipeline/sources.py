"""The clips of a run and their vectors, computed here where the cache lacks them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground.files import sha256_of
from ground.registry import split_name
from ground.text import one_line
from pipeline.exits import UsageError
from pipeline.interrupts import stopping_after_a_batch
from pipeline.journal import Journal
from pipeline.many_devices import encode_on_devices
from pipeline.many_machines import LOCAL, encode_on_cluster
from pipeline.names import Choice
from pipeline.parts import devices_of, encoder_class, encoder_of, pooling_of
from pipeline.portions import ClipPass, StoreRows
from pipeline.screen import messages, progress, say
from pipeline.settings import EmbedSettings, Settings

if TYPE_CHECKING:
    import numpy as np

    from cache.store import EmbeddingStore
    from embed.embedding import Task
    from embed.encoder import Encoder
    from embed.pooling import Pooling
    from embed.recordings.dataset import DataSet
    from embed.recordings.preprocessing import Preprocessing

Pair = tuple[Choice, Choice]
"""An encoder and a pooling: what vectors are kept under."""


@dataclass(frozen=True)
class Source:
    """The vectors of one encoder and pooling: where they are, and of which clips."""

    encoder: str
    pooling: str
    path: Path
    read: Callable[[Sequence[str]], np.ndarray]
    """Reads the rows of keys, `(n_clips, ...)`."""
    keys: frozenset[str]
    sha256_of_clips: Callable[[], Mapping[str, str]] = dict
    """Hashes of the recordings that the rows were computed from, by clip key."""
    warning: str = ""
    """What a reader of figures from these vectors must know."""
    configuration: Mapping[str, Any] = field(default_factory=dict)
    """What decides the vectors, and suffices to compute others; empty for another tool's."""
    narrowed: Callable[[Sequence[str]], Callable[[Sequence[str]], np.ndarray]] | None = None
    """Returns `read` for some keys only, where `read` holds something of every clip."""

    def reader_of(self, keys: Sequence[str]) -> Callable[[Sequence[str]], np.ndarray]:
        """Return what reads the rows of these keys, and is small when sent to another process."""
        return self.read if self.narrowed is None else self.narrowed(keys)


def find_dataset(settings: EmbedSettings | Settings) -> DataSet:
    """Find the clips of --data, and say what was remarkable about them."""
    from embed.recordings.clips import find_clips
    from embed.recordings.dataset import UnknownMachine
    from embed.recordings.ground_truth import read_ground_truth, with_labels

    root, named = _data_root(settings)
    try:
        dataset = find_clips(
            root,
            _split(settings.machine) or named,
            _split(settings.ids),
            settings.supplemental,
        )
        if isinstance(settings, Settings) and settings.labels:
            dataset = with_labels(dataset, read_ground_truth(settings.labels))
    except (FileNotFoundError, UnknownMachine) as error:
        raise UsageError(str(error)) from None
    for remark in dataset.remarks:
        messages.print(remark)
    return dataset


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _data_root(settings: EmbedSettings | Settings) -> tuple[Path, list[str]]:
    """Have the data in a folder; return it, and the machine types that its name asks for."""
    if settings.data == "demo":
        return _demo_data(quiet=settings.quiet), []
    from fetch.datasets import fetch_data_set, is_data_set, wanted

    if is_data_set(settings.data):
        try:
            year = wanted(settings.data).year
        except ValueError as error:
            raise UsageError(str(error)) from None
        folder = Path(f"dcase{year}")
        return folder, [fetch_data_set(settings.data, folder, offline=settings.offline)]
    if settings.data:
        return Path(settings.data), []
    folder = Path("dev_data")
    if not folder.is_dir():
        raise UsageError(
            "no data: give --data FOLDER (a folder per machine, or a DCASE or MIMII layout), "
            "--data manifest.csv or --data demo, or put the recordings in ./dev_data"
        )
    return folder, []


def _demo_data(*, quiet: bool) -> Path:
    """Write the demo's recordings to ./demo_data unless they are there."""
    from embed.recordings.demo import N_CLIPS, is_written, write_demo_data

    folder = Path("demo_data")
    if not is_written(folder):
        with progress("demo data to ./demo_data", N_CLIPS, "clips", quiet=quiet) as advance:
            write_demo_data(folder, on_clip=advance)
    return folder


def preprocessing_of(settings: EmbedSettings | Settings) -> Preprocessing:
    """Collect the settings that are fields of `Preprocessing`, by their names."""
    from embed.recordings.preprocessing import Preprocessing

    values = {f.name: getattr(settings, f.name) for f in fields(Preprocessing)}
    if str(values["channel"]).isdigit():
        values["channel"] = int(values["channel"])
    try:
        return Preprocessing(**values)
    except ValueError as error:
        raise UsageError(f"--{error}") from None


@dataclass(frozen=True)
class _Encoding:
    """One encoder of a run: a copy per device, and the store of each pooling."""

    choice: Choice
    encoders: Sequence[Encoder]
    stores: Mapping[Choice, EmbeddingStore]
    poolings: Sequence[Pooling]
    left_out: set[str] = field(default_factory=set)
    """Clips that this encoder cannot use."""

    def source(self, pooling: Choice, keys: frozenset[str]) -> Source:
        store = self.stores[pooling]
        return Source(
            encoder=self.choice.name,
            pooling=pooling.name,
            path=store.path,
            read=store.read,
            keys=keys - self.left_out,
            sha256_of_clips=partial(_sha256_of_rows, store),
            warning=self.encoders[0].warning,
            configuration=json.loads(store.header.configuration),
        )


@dataclass(frozen=True)
class _Work:
    """An encoder of a run, and the clips that the store of each of its poolings lacks."""

    encoding: _Encoding
    missing: Sequence[frozenset[str]]


class _Failures:
    """Encoders and poolings that give no vectors; the run goes on while any other may."""

    def __init__(self, n_pairs: int, journal: Journal) -> None:
        self.errors: dict[Pair, Exception] = {}
        self._n_pairs = n_pairs
        self._journal = journal

    def add(self, encoder: Choice, poolings: Sequence[Choice], error: Exception) -> None:
        """Note and say a failure; raise the first one once every pair has failed."""
        self.errors.update(((encoder, pooling), error) for pooling in poolings)
        if len(self.errors) == self._n_pairs:
            raise next(iter(self.errors.values()))
        names = f"{encoder} {', '.join(map(str, poolings))}"
        self._journal.log("not embedded", encoder_and_poolings=names, reason=one_line(error))
        say("failed", f"{names}: {one_line(error)}", "red")


def _sha256_of_rows(store: EmbeddingStore) -> dict[str, str]:
    return {key: row.sha256 for key, row in store.provenance().items()}


def embed_all(
    settings: EmbedSettings | Settings,
    dataset: DataSet,
    pairs: Iterable[Pair],
    journal: Journal,
) -> tuple[dict[Pair, Source], dict[Pair, str]]:
    """Compute the vectors that the cache lacks, in one pass over the clips.

    Returns the sources by encoder and pooling, and the reason for each pair that gave none. If no
    pair gave any, the first one's OSError or ValueError is raised instead.
    """
    by_encoder: dict[Choice, list[Choice]] = {}
    for encoder, pooling in dict.fromkeys(pairs):
        by_encoder.setdefault(encoder, []).append(pooling)
    failures = _Failures(sum(map(len, by_encoder.values())), journal)

    preprocessing = preprocessing_of(settings)
    encodings = []
    for encoder, poolings in by_encoder.items():  # missing weights are said before hours of work
        try:
            encodings.append(_open(settings, dataset, encoder, poolings, preprocessing))
        except (OSError, ValueError) as error:
            failures.add(encoder, poolings, error)
    with ExitStack() as locks:
        stores = [store for encoding in encodings for store in encoding.stores.values()]
        is_locked = {}  # a complete cache on a read-only disk is read without a lock
        for store in sorted(stores, key=lambda store: store.path):
            lock = store.lock(tell=messages.print, reading=True)
            is_locked[store.path] = locks.enter_context(lock)
        failed = _fill(settings, dataset, encodings, preprocessing, journal)
        sources: dict[Pair, Source] = {}
        keys = frozenset(clip.key for clip in dataset.clips)
        for encoding in encodings:
            if encoding.choice in failed:
                failures.add(encoding.choice, list(encoding.stores), failed[encoding.choice])
                continue
            for pooling, store in encoding.stores.items():
                try:
                    if is_locked[store.path]:
                        store.merge()
                    sources[encoding.choice, pooling] = encoding.source(pooling, keys)
                except (OSError, ValueError) as error:
                    failures.add(encoding.choice, [pooling], error)
    return sources, {pair: one_line(error) for pair, error in failures.errors.items()}


def _open(
    settings: EmbedSettings | Settings,
    dataset: DataSet,
    choice: Choice,
    poolings: Sequence[Choice],
    preprocessing: Preprocessing,
) -> _Encoding:
    """Build an encoder on every device, and open the store of each pooling.

    UsageError for a pooling that the encoder does not go with.
    """
    from cache.store import EmbeddingStore
    from embed.fingerprint import configuration, fingerprint

    needs_device = not encoder_class(choice.name).concurrent
    devices = devices_of(settings) if needs_device else ["cpu"]
    encoders = [encoder_of(settings, choice, device) for device in devices]
    if settings.backend == "auto" and needs_device and not settings.quiet:
        _say_backends(choice, encoders)
    stores = {}
    built = [pooling_of(pooling) for pooling in poolings]
    for pooling_choice, pooling in zip(poolings, built, strict=True):
        if reason := encoders[0].why_not(pooling):
            raise UsageError(f"--encoder {choice} --pooling {pooling.name}: {reason}")
        facts = configuration(encoders[0], preprocessing, pooling)
        encoders[0].check()
        stores[pooling_choice] = EmbeddingStore.open(
            settings.cache_dir,
            data_name=dataset.name,
            data_root=dataset.root,
            encoder=encoder_in_file_names(choice.name),
            pooling=pooling.name,
            fingerprint=fingerprint(facts),
            configuration=facts,
            warning=encoders[0].warning,
        )
    return _Encoding(choice, encoders, stores, built)


def _say_backends(encoder: Choice, encoders: Sequence[Encoder]) -> None:
    from embed.pretrained import PretrainedNetwork

    for network in (each for each in encoders if isinstance(each, PretrainedNetwork)):
        backend, why = network.fastest_backend()
        if network.backend == backend:  # otherwise --set names another
            messages.print(f"--backend auto: {encoder} runs on {backend} ({why})")


def _fill(
    settings: EmbedSettings | Settings,
    dataset: DataSet,
    encodings: Sequence[_Encoding],
    preprocessing: Preprocessing,
    journal: Journal,
) -> dict[Choice, Exception]:
    """Embed the clips that some store lacks; return the errors by encoder."""
    stats = dataset.file_stats()
    work: list[_Work] = []
    for encoding in encodings:
        missing = [
            frozenset(store.missing(stats, lambda key: sha256_of(dataset.path(key))))
            for store in encoding.stores.values()
        ]
        if any(missing):
            work.append(_Work(encoding, missing))
        elif not settings.quiet:
            messages.print(
                f"{encoding.choice}: all {len(stats)} clips are in the cache, nothing to embed"
            )
    if not work:
        return {}
    passes = _passes(work)
    names = ", ".join(str(each.encoding.choice) for each in work)
    waiting = Counter(key for works in passes for key in _keys(works))
    with progress(f"embed with {names}", len(waiting), "clips", quiet=settings.quiet) as advance:

        def on_done(key: str) -> None:
            waiting[key] -= 1
            if not waiting[key]:
                advance()

        rows = [
            StoreRows.of(
                [store for each in works for store in each.encoding.stores.values()],
                [keys for each in works for keys in each.missing],
            )
            for works in passes
        ]
        clip_pass = ClipPass(
            [_task(*each, journal, on_done) for each in zip(passes, rows, strict=True)],
            rows,
            preprocessing,
            {c.key: dataset.path(c.key) for c in dataset.clips if c.key in waiting},
            on_done,
            settings.batch_size,
            settings.workers,
        )
        with stopping_after_a_batch():
            errors = _encode(clip_pass, settings)
    _log_embedded(work, journal)
    return {
        each.encoding.choice: error for number, error in errors.items() for each in passes[number]
    }


def _passes(work: Iterable[_Work]) -> list[list[_Work]]:
    """Put together the encoders that differ in their layer only: one pass serves them all."""
    passes: list[list[_Work]] = []
    for each in work:
        own = each.encoding.encoders[0]
        same = (works for works in passes if works[0].encoding.encoders[0].shares_pass(own))
        if (works := next(same, None)) is None:
            passes.append([each])
        else:
            works.append(each)
    return passes


def _keys(works: Iterable[_Work]) -> frozenset[str]:
    """Return the clips that some store lacks."""
    return frozenset().union(*(keys for each in works for keys in each.missing))


def _log_embedded(work: Iterable[_Work], journal: Journal) -> None:
    for each in work:
        n_left_out = len(each.encoding.left_out)
        journal.log(
            "embedded",
            encoder=str(each.encoding.choice),
            computed=len(_keys([each])) - n_left_out,
            left_out=n_left_out,
        )


def _encode(clip_pass: ClipPass, settings: EmbedSettings | Settings) -> dict[int, Exception]:
    """Encode the clips in this process, in one per device, or on a cluster."""
    if settings.engine != LOCAL:
        return encode_on_cluster(clip_pass, settings.engine, devices_of(settings)[0])
    n_devices = max(len(task.encoders) for task in clip_pass.tasks)
    if n_devices > 1:
        return encode_on_devices(clip_pass, n_devices)
    from embed.embedding import embed_clips

    return embed_clips(
        clip_pass.tasks,
        clip_pass.preprocessing,
        clip_pass.files.items(),
        batch_size=clip_pass.batch_size,
        workers=clip_pass.workers,
    )


def _task(
    works: Sequence[_Work], rows: StoreRows, journal: Journal, on_done: Callable[[str], None]
) -> Task:
    """Keep the rows of one pass in their stores, and note the clips that it cannot use."""
    from embed.embedding import Task

    def write(keys: list[str], vectors: list[np.ndarray], files: list[Any]) -> None:
        rows.keep(keys, vectors, files)
        for key in keys:
            on_done(key)

    def on_bad_clip(key: str, reason: str) -> None:
        for each in works:
            each.encoding.left_out.add(key)
        journal.leave_out(key, reason)
        on_done(key)

    return Task(
        encoders=works[0].encoding.encoders,
        poolings=[
            each.encoding.encoders[0].in_shared_pass(pooling)
            for each in works
            for pooling in each.encoding.poolings
        ],
        write=write,
        on_bad_clip=on_bad_clip,
        on_note=lambda key, note: journal.log("remark", key=key, note=note),
        keys=rows.keys,
    )


def encoder_in_file_names(encoder: str) -> str:
    """Call `hf:FOLDER` by the folder's own name, wherever it lies."""
    family, model = split_name(encoder)
    name = f"{family}:{Path(model).name}" if model and Path(model).is_dir() else encoder
    return "".join(c if c.isalnum() or c in "-_=." else "+" for c in name)[:80]
