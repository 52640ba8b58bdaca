"""The clips of a run and their vectors, computed here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.exits import UsageError
from pipeline.names import slug
from pipeline.parts import devices_of, encoder_of, pooling_of
from pipeline.run_folder import RunFolder
from pipeline.screen import messages, progress, say
from pipeline.settings import EmbedSettings, Settings

if TYPE_CHECKING:
    import numpy as np

    from cache.store import EmbeddingStore
    from embed.encoder import Encoder
    from embed.pooling import Pooling
    from embed.recordings.audio import Preprocessing
    from embed.recordings.clips import DataSet

# ---------------------------------------------------------------------------------------------
# Clips and vectors
# ---------------------------------------------------------------------------------------------


def find_dataset(settings: EmbedSettings | Settings) -> DataSet:
    """Find the clips of --data, and say what was remarkable about them."""
    from embed.recordings.clips import UnknownMachine, find_clips

    root, named = _data_root(settings)
    try:
        dataset = find_clips(root, _split(settings.machine) or named, _split(settings.ids))
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
        from embed.recordings.demo import N_CLIPS, is_written, write_demo_data

        folder = Path("demo_data")
        if not is_written(folder):
            with progress(
                "demo data to ./demo_data", N_CLIPS, "clips", quiet=settings.quiet
            ) as advance:
                write_demo_data(folder, on_clip=advance)
        return folder, []
    if settings.data.startswith("dcase2020:"):
        from fetch.datasets import fetch_data_set, wanted

        try:
            wanted(settings.data)
        except ValueError as error:
            raise UsageError(str(error)) from None
        folder = Path("dcase2020")
        return folder, [fetch_data_set(settings.data, folder, offline=settings.offline)]
    if settings.data:
        return Path(settings.data), []
    folder = Path("dev_data")
    if not folder.is_dir():
        raise UsageError(
            "no data: give --data FOLDER (DCASE or MIMII layout), --data manifest.csv or "
            "--data demo, or put the recordings in ./dev_data"
        )
    return folder, []


@dataclass(frozen=True)
class Source:
    """The vectors of one encoder and pooling: where they are, and of which clips."""

    encoder: str
    pooling: str
    path: Path
    read: Callable[[Sequence[str]], np.ndarray]
    keys: frozenset[str]
    warning: str = ""


def embed_all(
    settings: EmbedSettings | Settings,
    dataset: DataSet,
    pairs: Iterable[tuple[str, str]],
    folder: RunFolder,
) -> tuple[dict[tuple[str, str], Source], dict[str, str]]:
    """Compute the vectors that the cache lacks, one forward pass per encoder.

    Returns the sources by encoder and pooling, and why an encoder gave none; the only encoder of
    a run raises instead.
    """
    by_encoder: dict[str, list[str]] = {}
    for encoder, pooling in dict.fromkeys(pairs):
        by_encoder.setdefault(encoder, []).append(pooling)
    contents = dataset.file_stats()
    sources: dict[tuple[str, str], Source] = {}
    unusable: dict[str, str] = {}

    def give_up(encoder: str, error: OSError | ValueError) -> None:
        if len(by_encoder) == 1:
            raise error
        unusable[encoder] = " ".join(str(error).split())
        folder.log("encoder failed", encoder=encoder, reason=unusable[encoder])
        say("failed", f"{encoder}: {unusable[encoder]}", "red")

    for encoder in by_encoder:  # weights that are missing are told before hours of work
        try:
            encoder_of(settings, encoder, "cpu").weights_sha256  # noqa: B018
        except (OSError, ValueError) as error:
            give_up(encoder, error)
    for encoder, poolings in by_encoder.items():
        if encoder in unusable:
            continue
        try:
            for source in _embed(settings, dataset, contents, encoder, poolings, folder):
                sources[encoder, source.pooling] = source
        except (OSError, ValueError) as error:
            give_up(encoder, error)
    return sources, unusable


def _embed(
    settings: EmbedSettings | Settings,
    dataset: DataSet,
    contents: Mapping[str, tuple[int, int]],
    name: str,
    pooling_names: list[str],
    folder: RunFolder,
) -> list[Source]:
    """Fill the stores of one encoder, one per pooling, with what they lack."""
    from cache.store import EmbeddingStore
    from embed.encoder import configuration, fingerprint
    from embed.pretrained import PretrainedNetwork
    from embed.recordings.audio import Preprocessing

    encoders = [encoder_of(settings, name, device) for device in devices_of(settings)]
    if settings.backend == "auto" and not settings.quiet:
        for network in (e for e in encoders if isinstance(e, PretrainedNetwork)):
            backend, why = network.fastest_backend()
            if network.backend == backend:  # or else --set says another
                messages.print(f"--backend auto: {name} runs on {backend} ({why})")
    preprocessing = Preprocessing(
        normalize=settings.normalize,
        trim=settings.trim,
        denoise=settings.denoise,
        channel=_channel(settings.channel),
        short=settings.short,
    )
    stores: dict[Pooling, EmbeddingStore] = {}
    for pooling in (pooling_of(settings, each) for each in pooling_names):
        if reason := encoders[0].refuses(pooling):
            raise UsageError(f"--encoder {name} --pooling {pooling.name}: {reason}")
        facts = configuration(encoders[0], preprocessing, pooling)
        stores[pooling] = EmbeddingStore.open(
            settings.cache_dir,
            data_name=dataset.name,
            data_root=dataset.root,
            encoder=encoder_in_file_names(name),
            pooling=pooling.name,
            fingerprint=fingerprint(facts),
            configuration=facts,
            warning=encoders[0].warning,
        )
    with ExitStack() as locks:
        for store in sorted(stores.values(), key=lambda store: store.path):
            locks.enter_context(store.lock(tell=messages.print))
        sha256_of = partial(_sha256, dataset)
        missing = [frozenset(store.missing(contents, sha256_of)) for store in stores.values()]
        todo = [clip.key for clip in dataset.clips if any(clip.key in m for m in missing)]
        left_out = frozenset[str]()
        if todo:
            left_out = _fill(
                settings, dataset, todo, name, encoders, preprocessing, stores, missing, folder
            )
        elif not settings.quiet:
            n = len(dataset.clips)
            messages.print(f"{name}: all {n} clips are in the cache, nothing to embed")
        for store in stores.values():
            store.merge()
    folder.log("embedded", encoder=name, computed=len(todo) - len(left_out), left_out=len(left_out))
    keys = frozenset(clip.key for clip in dataset.clips) - left_out
    return [
        Source(name, pooling.name, store.path, store.read, keys, encoders[0].warning)
        for pooling, store in stores.items()
    ]


def encoder_in_file_names(encoder: str) -> str:
    """Call `hf:FOLDER` by the folder's own name, wherever it lies."""
    family, colon, model = encoder.partition(":")
    return slug(f"{family}{colon}{Path(model).name}" if Path(model).is_dir() else encoder)


def _fill(
    settings: EmbedSettings | Settings,
    dataset: DataSet,
    todo: Sequence[str],
    name: str,
    encoders: Sequence[Encoder],
    preprocessing: Preprocessing,
    stores: Mapping[Pooling, EmbeddingStore],
    missing: Sequence[frozenset[str]],
    folder: RunFolder,
) -> frozenset[str]:
    """Embed clips into the stores that miss them; return those that cannot be used."""
    from embed.embedding import embed_clips

    left_out: set[str] = set()
    is_room_checked = False
    with progress(f"embed with {name}", len(todo), "clips", quiet=settings.quiet) as advance:

        def write(
            keys: list[str], vectors: list[np.ndarray], files: list[tuple[int, int, str]]
        ) -> None:
            nonlocal is_room_checked
            parts = list(zip(stores.values(), missing, vectors, strict=True))
            if not is_room_checked:
                for store, wanted, rows in parts:
                    store.check_space(len(wanted), rows.shape[1:])
                is_room_checked = True
            for store, wanted, rows in parts:
                keep = [i for i, key in enumerate(keys) if key in wanted]
                if keep:
                    store.append([keys[i] for i in keep], rows[keep], [files[i] for i in keep])
            for _ in keys:
                advance()

        def refuse(key: str, reason: str) -> None:
            left_out.add(key)
            folder.leave_out(key, reason)
            advance()

        embed_clips(
            encoders,
            preprocessing,
            list(stores),
            ((key, dataset.path(key)) for key in todo),
            write=write,
            refuse=refuse,
            remark=lambda key, note: folder.log("remark", key=key, note=note),
            batch_size=settings.batch_size,
            workers=settings.workers,
        )
    return frozenset(left_out)


def _sha256(dataset: DataSet, key: str) -> str:
    with dataset.path(key).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _channel(text: str) -> int | Literal["mean"]:
    if text == "mean":
        return "mean"
    if not text.isdigit():
        raise UsageError(f"--channel {text}: expected a number from 0, or mean")
    return int(text)
