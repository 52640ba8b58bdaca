"""Point it at recordings of machines; it tells, per machine, how anomalous each clip is.

    find_clips -> load_recording -> encode -> append | read -> fit -> anomaly_scores -> auc, pauc

The only file that knows all three rooms: `embed` makes vectors, `cache` keeps them, `detect`
judges them. Heavy imports happen where they are used, so that `--help` is fast.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from detect import DETECTORS, check_detector, trains_on_device
from embed import ENCODERS, POOLINGS, encoder_row, make_encoder, make_pooling
from pipeline.run_folder import RunFolder, slug, version_here
from pipeline.screen import messages, progress, relay, results_screen, say
from pipeline.settings import (
    OUT,
    EmbedSettings,
    Settings,
    UsageError,
    assignment,
    flag,
    names_of,
    set_options,
    value_of,
    with_flags,
)
from pipeline.systems import SYSTEMS

if TYPE_CHECKING:
    import numpy as np

    from cache.foreign import Report
    from cache.store import EmbeddingStore
    from detect.evaluate import ClipTable, DetectorChoice, FitPer, FitUnit, Result, Scores
    from detect.training_clips import UnlikeClip
    from embed.encoder import Encoder
    from embed.pooling import Pooling
    from embed.recordings.audio import Preprocessing
    from embed.recordings.clips import DataSet

DONE, FAILED, USAGE, CLIPS_LEFT_OUT, INTERRUPTED = 0, 1, 2, 3, 130

PROMISE = (
    "Tell, per machine, how anomalous each clip is.\n\n"
    "Embeds the clips of --data with a frozen encoder, keeps the vectors, fits a detector to the "
    "normal training clips of each machine and reports AUC and pAUC on its test clips."
)

KINDS = ("encoder", "pooling", "detector")
SECONDS_ALONE = 3.0
STACKED_AT_ONCE = 16

T = TypeVar("T")


def _resumable(command: Callable[..., None]) -> Callable[..., None]:
    """End a command that is interrupted with a word on how to go on."""

    @wraps(command)
    def told(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt:
            messages.print(
                "interrupted; what is finished is kept, the same command goes on from here"
            )
            raise typer.Exit(INTERRUPTED) from None

    return told


app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(version_here())  # noqa: T201
        raise typer.Exit()


@app.callback(invoke_without_command=True, help=PROMISE)
@with_flags(Settings)
@_resumable
def run(
    settings: Settings,
    context: typer.Context,
    list_: Annotated[
        bool, flag("--list", OUT, "List encoders, poolings, detectors and systems.")
    ] = False,
    show_version: Annotated[
        bool, flag("--version", OUT, "Print the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Run the whole job, or hand over to a command."""
    if context.invoked_subcommand is not None:
        return
    if list_:
        _print_registries(settings.json)
        return
    raise typer.Exit(_whole_job(settings))


@app.command("embed")
@with_flags(EmbedSettings)
@_resumable
def embed_command(settings: EmbedSettings) -> None:
    """Fill the cache only: embed the clips of --data, and stop there."""
    relay("embed", quiet=settings.quiet)
    relay("fetch", quiet=settings.quiet)
    pairs = [
        (encoder, pooling or _encoder_class(encoder).default_pooling)
        for encoder in names_of(settings.encoder, ENCODERS, "encoder")
        for pooling in names_of(settings.pooling, POOLINGS, "pooling") or [""]
    ]
    with RunFolder.new(f"embed-{slug(settings.encoder)}", settings) as folder:
        sources, unusable = _embed_all(settings, _find_clips(settings), pairs, folder)
        for source in sources.values():
            messages.print(f"{len(source.keys)} vectors in {source.path}")
        failed = FAILED if unusable else DONE
        raise typer.Exit(failed or (CLIPS_LEFT_OUT if folder.left_out else DONE))


@app.command("evaluate")
def evaluate_command(
    folder: Annotated[Path, typer.Argument(help="A folder of anomaly_score_*.csv files.")],
    json: Annotated[bool, flag("--json", OUT, "Print results as JSON.")] = False,
) -> None:
    """Compute AUC and pAUC of the official DCASE score files of any system."""
    from report.score_files import evaluate_score_files

    rows, year = evaluate_score_files(folder)
    _print_tables(rows, str(folder), year=year, as_json=json)


def main() -> int:
    """Run the command line; every error that a user can cause is one line."""
    try:
        return int(app(standalone_mode=False) or DONE)
    except typer.TyperException as error:
        return _failed(error.format_message(), error.exit_code)
    except UsageError as error:
        return _failed(str(error), USAGE)
    except (OSError, ValueError) as error:
        return _failed(str(error), FAILED)


def _failed(message: str, code: int) -> int:
    say("error", " ".join(message.split()), "red")
    return code


# ---------------------------------------------------------------------------------------------
# From flags to what is to be done
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Combination:
    """One way to judge the clips: a row of the leaderboard and a run folder of its own."""

    encoder: str
    pooling: str
    detector: str
    options: tuple[tuple[str, Any], ...] = ()
    seed: int | None = None

    @property
    def names(self) -> frozenset[str]:
        """What --set may call its parts."""
        family = self.encoder.partition(":")[0]
        return frozenset({*KINDS, family, self.pooling, self.detector})

    @property
    def name(self) -> str:
        swept = [f"{option}={value}" for option, value in self.options]
        seed = [] if self.seed is None else [f"seed={self.seed}"]
        return slug("-".join([self.encoder, self.pooling, self.detector, *swept, *seed]))

    def alone(self, settings: Settings) -> Settings:
        """Return the settings that run this combination without its grid."""
        swept = [f"{self.detector}.{name}={value}" for name, value in self.options]
        return replace(
            settings,
            encoder=settings.encoder if settings.embeddings else self.encoder,
            pooling=self.pooling,
            detector=self.detector,
            set=[text for text in settings.set if text.partition(".")[0] in self.names] + swept,
            sweep=[],
            seed=settings.seed if self.seed is None else self.seed,
            seeds=1,
        )


def _combinations(
    settings: Settings, imported: Import | None = None
) -> tuple[list[Combination], list[Outcome]]:
    """Return what is to be run, and what cannot be, each with its reason."""
    encoders = [imported.name] if imported else names_of(settings.encoder, ENCODERS, "encoder")
    poolings = names_of(settings.pooling, POOLINGS, "pooling")
    preset = SYSTEMS.get(settings.system)
    if imported and preset and poolings == [preset.pooling] and not imported.offers(poolings[0]):
        poolings = []  # of the preset's encoder, which is not the one that made these
    detectors = names_of(settings.detector, DETECTORS, "detector")
    for text in settings.sweep:
        if (target := assignment("--sweep", text)[0]) not in ("detector", *detectors):
            names_of(target, DETECTORS, "detector")
            raise UsageError(f"--sweep {text}: {target} is not in --detector {settings.detector}")
    seeds = [None] if settings.seeds == 1 else range(settings.seed, settings.seed + settings.seeds)
    wanted: list[Combination] = []
    refused: list[Outcome] = []
    for encoder, detector in itertools.product(encoders, detectors):
        for pooling in poolings or [_natural_pooling(encoder, detector, imported)]:
            for options, seed in itertools.product(_swept(settings, detector), seeds):
                combination = Combination(encoder, pooling, detector, options, seed)
                if reason := _refusal(settings, combination, imported):
                    refused.append(Outcome(combination, reason=reason))
                else:
                    wanted.append(combination)
    if not wanted:
        raise UsageError(refused[0].reason)
    return wanted, refused


def _natural_pooling(encoder: str, detector: str, imported: Import | None) -> str:
    """Pick the pooling that a detector takes, or else the encoder's own."""
    takes = DETECTORS[detector].takes
    if imported is not None and imported.gives == "vectors":
        return "clip"
    if takes == "vectors":
        return "mean" if imported else _encoder_class(encoder).default_pooling
    return {"sequences": "frames", "bands": "bands"}[takes]


def _refusal(settings: Settings, made: Combination, imported: Import | None) -> str:
    """Say why its three parts do not go together, or "" where they do."""
    detector = made.detector
    if options := {**set_options(settings, "detector", detector), **dict(made.options)}:
        try:
            check_detector(detector, options)
        except ValueError as error:
            raise UsageError(str(error)) from None
    gives = {"frames": "sequences", "bands": "bands"}.get(made.pooling, "vectors")
    takes = DETECTORS[detector].takes
    if gives != takes:
        return f"--detector {detector} takes {takes}, --pooling {made.pooling} gives {gives}"
    pooling = _make_pooling(settings, made.pooling)
    if imported is None:
        return _make_encoder(settings, made.encoder, "cpu").refuses(pooling)
    if not imported.offers(pooling.name):
        if imported.gives == "vectors":
            return f"{settings.embeddings} holds one vector per clip; --pooling needs frames"
        return f"{settings.embeddings} holds frames; there is no {pooling.source!r} output"
    if pooling.name == "fluctuation" and imported.report.row_shape[-1] % 64:
        return f"fluctuation needs a width that is a multiple of 64, {settings.embeddings} has not"
    return ""


def _unused(settings: Settings, combinations: Sequence[Combination]) -> Iterator[str]:
    """Name the flags that change nothing in this run; those of a preset are not the user's."""
    preset = SYSTEMS.get(settings.system)
    names = frozenset[str]().union(*(made.names for made in combinations))
    for text in settings.set:
        target, _, _ = assignment("--set", text)
        if target not in names and not (preset and text in preset.set):
            yield f"--set {text}: {target} is not in this run"
    if not settings.embeddings:
        return
    how = [] if preset else ["encoder"]
    how += ["normalize", "trim", "denoise", "channel", "short", "precision", "backend"]
    for name in how:
        if getattr(settings, name) != getattr(Settings, name):
            value = getattr(settings, name)
            given = f"--{name}" if value is True else f"--{name} {value}"
            yield f"{given}: the vectors are those of --embeddings"


def _swept(settings: Settings, detector: str) -> list[tuple[tuple[str, Any], ...]]:
    """List the option values that --sweep gives a detector, each with each."""
    axes = []
    for text in settings.sweep:
        target, option, values = assignment("--sweep", text)
        if target in ("detector", detector):
            outside_brackets = re.split(r",(?![^\[(]*[\])])", values)
            axes.append([(option, value_of(value)) for value in outside_brackets])
    return list(itertools.product(*axes))


def _encoder_class(name: str) -> type[Encoder]:
    return encoder_row(name).resolve()  # type: ignore[no-any-return]


def _make_encoder(settings: EmbedSettings | Settings, name: str, device: str) -> Encoder:
    """Build an encoder from the flags that it has fields for, and from --set."""
    flags = {
        "weights": _weights_of(settings.weights, name),
        "precision": settings.precision,
        "backend": settings.backend,
        "offline": settings.offline,
    }
    from detect.options import check_options

    cls = _encoder_class(name)
    own = {f.name for f in fields(cls)}
    options = {k: v for k, v in flags.items() if k in own}
    texts = frozenset(f.name for f in fields(cls) if f.type == "str")
    options |= set_options(settings, "encoder", name, texts)
    try:
        check_options(cls, options, name)
        return make_encoder(name, device=device, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None


def _make_pooling(settings: EmbedSettings | Settings, name: str) -> Pooling:
    from detect.options import check_options

    options = set_options(settings, "pooling", name)
    try:
        check_options(POOLINGS[name].resolve(), options, name)
        return make_pooling(name, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None


def _weights_of(text: str, encoder: str) -> str:
    """Pick an encoder's share of --weights: one value for all, or NAME=VALUE,NAME=VALUE."""
    shares = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    if shares and set(shares) <= set(ENCODERS):
        return shares.get(encoder.partition(":")[0], "")
    return text


def _devices(settings: EmbedSettings | Settings) -> list[str]:
    import torch

    if not settings.device:
        return ["cuda" if torch.cuda.is_available() else "cpu"]
    devices = settings.device.split(",")
    for device in devices:
        try:
            kind = torch.device(device).type
        except RuntimeError:
            raise UsageError(f"--device {device}: expected cpu, cuda or cuda:<number>") from None
        if kind not in ("cpu", "cuda"):
            raise UsageError(f"--device {device}: expected cpu, cuda or cuda:<number>")
        if kind == "cuda" and not torch.cuda.is_available():
            raise UsageError(f"--device {device}: torch sees no CUDA device here; try cpu")
    return devices


# ---------------------------------------------------------------------------------------------
# Clips and vectors
# ---------------------------------------------------------------------------------------------


def _find_clips(settings: EmbedSettings | Settings) -> DataSet:
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
        from embed.recordings.demo import N_CLIPS, write_demo_data

        folder = Path("demo_data")
        if not folder.is_dir():
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


def _embed_all(
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
    contents = dataset.contents()
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
            _make_encoder(settings, encoder, "cpu").weights_sha256  # noqa: B018
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

    encoders = [_make_encoder(settings, name, device) for device in _devices(settings)]
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
    for pooling in (_make_pooling(settings, each) for each in pooling_names):
        if reason := encoders[0].refuses(pooling):
            raise UsageError(f"--encoder {name} --pooling {pooling.name}: {reason}")
        facts = configuration(encoders[0], preprocessing, pooling)
        stores[pooling] = EmbeddingStore.open(
            settings.cache_dir,
            data_name=dataset.name,
            data_root=dataset.root,
            encoder=_in_file_names(name),
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


def _in_file_names(encoder: str) -> str:
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


@dataclass(frozen=True)
class Import:
    """Vectors of another tool, kept under that tool's own names."""

    name: str
    store: EmbeddingStore
    report: Report

    @property
    def gives(self) -> str:
        return "sequences" if self.report.frames else "vectors"

    def offers(self, pooling: str) -> bool:
        """Say whether these vectors or frames can be had with that pooling."""
        if self.gives == "vectors":
            return pooling == "clip"
        return POOLINGS[pooling].resolve().source == "frames"  # type: ignore[no-any-return]

    def read(
        self, names: Mapping[str, str], pooling: Pooling | None, keys: Sequence[str]
    ) -> np.ndarray:
        """Read the rows of clips, frames pooled over each clip's own length."""
        import numpy as np
        import torch

        rows = self.store.read([names[key] for key in keys])
        if pooling is None or pooling.name == "frames":
            return rows
        lengths = np.sum(~np.isnan(rows[:, :, 0]), axis=1)
        pooled: dict[int, np.ndarray] = {}
        for length in np.unique(lengths):
            of_length = np.flatnonzero(lengths == length)
            vectors = pooling(torch.from_numpy(rows[of_length, :length])).numpy()
            pooled.update(zip(of_length.tolist(), vectors, strict=True))
        return np.stack([pooled[i] for i in range(len(keys))])


def _import(settings: Settings) -> Import:
    """Keep the embeddings of another tool in the cache, and say what was recognised."""
    from cache.foreign import Choices, import_to_store

    path = Path(settings.embeddings)
    if not path.exists():
        raise UsageError(f"--embeddings {path}: no such file or folder")
    try:
        choices = Choices(
            embeddings_key=settings.embeddings_key,
            names_key=settings.names_key,
            axes=settings.axes,
            dequantise=settings.dequantise,
            match=settings.match,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    store, report = import_to_store(path, settings.cache_dir, choices)
    if not settings.quiet:
        messages.print(f"{path.name}: {report.recognised}; {report.rows} rows", end="")
        messages.print(f", left out {report.left_out}" if report.left_out else "")
    return Import(slug(path.stem), store, report)


def _imported_clips(settings: Settings, imported: Import) -> tuple[DataSet, dict[str, str]]:
    """Find the clips that imported names are of, from --data or from the names themselves.

    Returns the data set, its clips without a row among the skipped, and the name of each clip.
    """
    from cache.foreign import match
    from embed.recordings.clips import Skipped, clips_of_names

    names = imported.store.keys()
    if not settings.data:
        try:
            dataset = clips_of_names(names, Path(settings.embeddings).absolute())
        except ValueError as error:
            raise UsageError(f"{error}; give --data, the recordings they are of") from None
        return dataset, {clip.key: clip.key for clip in dataset.clips}
    dataset = _find_clips(settings)
    found = match(names, [clip.key for clip in dataset.clips], settings.match)
    if not settings.quiet:
        messages.print(found.summary)
    if not found.names:
        raise ValueError(
            f"no name in {settings.embeddings} is a clip of {dataset.root}: "
            f"{names[0]!r} against {dataset.clips[0].key!r}; see --match"
        )
    unmatched = [Skipped(key, "no row of that name") for key in found.unmatched_keys]
    return replace(dataset, skipped=(*dataset.skipped, *unmatched)), dict(found.names)


def _imported_sources(
    settings: Settings,
    imported: Import,
    names: Mapping[str, str],
    poolings: Iterable[str],
) -> dict[tuple[str, str], Source]:
    """Offer imported vectors as they are, or imported frames by every pooling asked for."""
    sources = {}
    for name in poolings:
        pooling = _make_pooling(settings, name) if imported.report.frames else None
        read = partial(imported.read, names, pooling)
        keys = frozenset(names)
        sources[imported.name, name] = Source(imported.name, name, imported.store.path, read, keys)
    return sources


def _sha256(dataset: DataSet, key: str) -> str:
    with dataset.path(key).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _channel(text: str) -> int | Literal["mean"]:
    if text == "mean":
        return "mean"
    if not text.isdigit():
        raise UsageError(f"--channel {text}: expected a number from 0, or mean")
    return int(text)


# ---------------------------------------------------------------------------------------------
# The whole job
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of one combination: its rows of results, or the reason why there are none."""

    combination: Combination
    results: Sequence[Result] = ()
    reason: str = ""
    decisions: Mapping[str, float] = field(default_factory=dict)
    warning: str = ""
    """What a reader of the figures must know, such as random weights."""

    @property
    def entry(self) -> dict[str, Any]:
        """Its line of the leaderboard."""
        from report.tables import leaderboard_entry

        made = self.combination
        seed = {} if made.seed is None else {"seed": str(made.seed)}
        names = {"encoder": made.encoder, "pooling": made.pooling, "detector": made.detector}
        options = {name: str(value) for name, value in made.options}
        entry = leaderboard_entry(self.results, **names, **options, **seed)
        entry |= self.decisions
        if self.warning:
            entry["note"] = "; ".join(filter(None, [self.warning, entry["note"]]))
        return {**entry, "error": self.reason} if self.reason else entry


def _whole_job(settings: Settings) -> int:
    """Embed, judge, report; return the exit code."""
    relay("embed", quiet=settings.quiet)
    relay("fetch", quiet=settings.quiet)
    imported = _import(settings) if settings.embeddings else None
    combinations, refused = _combinations(settings, imported)
    unused = _unused(settings, [*combinations, *(each.combination for each in refused)])
    for reason in () if settings.quiet else unused:
        say("unused", reason, "yellow")
    if imported:
        dataset, names = _imported_clips(settings, imported)
    else:
        dataset = _find_clips(settings)
    table, untrained = _table(dataset)
    is_grid = len(combinations) + len(refused) > 1
    weights, unusable = _handed_weights(settings, {c.detector for c in combinations})
    with (
        RunFolder.of_grid(settings, dataset)
        if is_grid
        else RunFolder.new(combinations[0].name, settings)
    ) as folder:
        for outcome in refused:
            say("skipped", f"{outcome.combination.name}: {outcome.reason}", "yellow")
        for skipped in dataset.skipped:
            folder.leave_out(skipped.key, skipped.reason)
        if imported:
            poolings = {c.pooling for c in combinations}
            sources = _imported_sources(settings, imported, names, poolings)
        else:
            pairs = [(c.encoder, c.pooling) for c in combinations if c.detector not in unusable]
            sources, without = _embed_all(settings, dataset, pairs, folder)
            unusable |= without
        outcomes = _judge(
            settings, dataset, table, sources, combinations, weights, unusable, folder
        )
        entries = [outcome.entry for outcome in [*outcomes, *refused]]
        if is_grid:
            made = [outcome.combination.name for outcome in [*outcomes, *refused]]
            _write_leaderboard(folder.path, dataset.name, made, entries)
        _print_outcomes(settings, dataset, outcomes, entries)
        for reason in untrained:
            say("no result", reason, "red")
        for warning in dict.fromkeys(each.warning for each in outcomes if each.warning):
            say("warning", warning, "bold red")
        if not settings.quiet:
            messages.print(f"written to {folder.path}")
        if untrained or any(outcome.reason for outcome in outcomes):
            return FAILED
        return CLIPS_LEFT_OUT if folder.left_out else DONE


def _write_leaderboard(
    folder: Path, data_name: str, names: Sequence[str], entries: Sequence[Mapping[str, Any]]
) -> None:
    """Write a grid's leaderboard, and with several seeds what they come to; the CSV comes last."""
    from report import page
    from report import tables as report

    pages = [name if (folder / name / "report.html").exists() else "" for name in names]
    linked = [{**entry, "folder": name} for entry, name in zip(entries, pages, strict=True)]
    page.write_leaderboard(folder, linked, f"{data_name}: leaderboard")
    if any("seed" in entry for entry in entries):
        means = report.leaderboard_csv(report.over_seeds(entries))
        report.write_whole(folder / "leaderboard_over_seeds.csv", means)
    report.write_whole(folder / "leaderboard.csv", report.leaderboard_csv(entries))


def _handed_weights(
    settings: Settings, detectors: set[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Find the weights of the frozen networks that some detectors hold, where --set names none.

    Returns a path per detector, and why a detector has none; the only detector of a run raises
    instead.
    """
    from fetch.weights import RANDOM, WEIGHTS, find_checkpoint

    handed: dict[str, str] = {}
    unusable: dict[str, str] = {}
    for detector in sorted(detectors):
        network = DETECTORS[detector].network
        if not network or "weights" in set_options(settings, "detector", detector):
            continue
        path = _weights_of(settings.weights, network)
        try:
            if path != RANDOM:
                row = WEIGHTS[network]
                path = str(find_checkpoint(path, row, offline=settings.offline).path)
        except (OSError, ValueError) as error:
            if len(detectors) == 1:
                raise
            unusable[detector] = " ".join(str(error).split())
            say("failed", f"{detector}: {unusable[detector]}", "red")
        else:
            handed[detector] = path
    return handed, unusable


def _table(dataset: DataSet) -> tuple[ClipTable, list[str]]:
    """Turn clips into columns, without the machines that nothing can be fitted to."""
    from detect.evaluate import ClipTable

    columns = ("key", "machine_type", "machine_id", "split", "label", "domain", "group")
    every = ClipTable(**{name: tuple(getattr(c, name) for c in dataset.clips) for name in columns})
    table, untrained = _trained(every)
    if "test" not in table.split:
        why = [*untrained, *(f"{s.key!r} is left out: {s.reason}" for s in dataset.skipped)]
        first = f"; {why[0]}" if why else ""
        raise ValueError(f"{dataset.root} has no test clip to judge{first}")
    return table, untrained


def _trained(table: ClipTable) -> tuple[ClipTable, list[str]]:
    """Leave out the machines that nothing can be fitted to, and say so of each."""
    rows = list(zip(table.machine_type, table.machine_id, table.split, table.label, strict=True))
    trained = {row[:2] for row in rows if row[2:] == ("train", "normal")}
    untrained = sorted({row[:2] for row in rows if row[2] == "test"} - trained)
    keys = frozenset(
        key for key, row in zip(table.key, rows, strict=True) if row[:2] not in untrained
    )
    reason = "it has test clips but no normal training clips; add some, or leave it out with --ids"
    return _only(table, keys), [f"{' '.join(machine)}: {reason}" for machine in untrained]


@dataclass(frozen=True)
class Work:
    """One combination to be fitted: its vectors, its clips and what shares a model."""

    combination: Combination
    source: Source
    table: ClipTable
    units: Sequence[FitUnit]
    untrained: Sequence[str]
    """Machines that lost all their training clips, each with the reason."""


def _judge(
    settings: Settings,
    dataset: DataSet,
    table: ClipTable,
    sources: Mapping[tuple[str, str], Source],
    combinations: Sequence[Combination],
    weights: Mapping[str, str],
    unusable: Mapping[str, str],
    folder: RunFolder,
) -> list[Outcome]:
    """Fit and score every combination on every machine.

    `weights` are those of the detectors that hold a network, `unusable` says why a detector or an
    encoder cannot be had.
    """
    from detect.evaluate import DetectorChoice, units

    is_grid = bool(folder.identity)
    outcomes: dict[Combination, Outcome] = {}
    work: list[Work] = []
    for combination in combinations:
        finished = folder.path / combination.name / "results.json"
        if reason := unusable.get(combination.detector) or unusable.get(combination.encoder):
            outcomes[combination] = Outcome(combination, reason=reason)
        elif is_grid and finished.exists():
            outcomes[combination] = _read_outcome(combination, finished)
        else:
            source = sources[combination.encoder, combination.pooling]
            own, untrained = _trained(_only(table, source.keys))
            many = units(own, _fit_per(settings, combination.detector))
            work.append(Work(combination, source, own, many, untrained))
    unlike = _unlike_the_rest(settings, work, folder)
    trains = any(trains_on_device(each.combination.detector) for each in work)
    device = _devices(settings)[0] if trains else ""
    # processes would each set up the same GPU anew
    workers = 1 if device.startswith("cuda") else settings.workers or os.cpu_count() or 1

    def options_of(made: Combination) -> dict[str, Any]:
        handed = {"weights": weights[made.detector]} if made.detector in weights else {}
        return {**handed, **set_options(settings, "detector", made.detector), **dict(made.options)}

    tasks = [
        partial(
            _attempt,
            some,
            each.source.read,
            DetectorChoice(
                each.combination.detector,
                options_of(each.combination),
                settings.scaler,
                device,
            ),
            settings.seed if each.combination.seed is None else each.combination.seed,
        )
        for each in work
        for some in _together(each)
    ]
    n_units = sum(len(each.units) for each in work)
    with progress("fit and score", n_units, "fits", quiet=settings.quiet) as advance:
        attempts = _in_order(tasks, workers, advance.tell)
        for each in work:
            fitted: list[Scores | str] = []
            for some in itertools.islice(attempts, len(_together(each))):
                fitted += some
                for _ in some:
                    advance()
            own_folder = (
                folder.inside(each.combination.name, each.combination.alone(settings))
                if is_grid
                else folder
            )
            odd = unlike[each.source.encoder, each.source.pooling]
            outcomes[each.combination] = _conclude(
                settings, dataset, each, fitted, own_folder, odd, folder.left_out
            )
    return [outcomes[combination] for combination in combinations]


def _fit_per(settings: Settings, detector: str) -> FitPer:
    """Say which clips share a model; a detector that tells IDs apart needs a type's."""
    return "type" if DETECTORS[detector].needs_ids else settings.fit_per


def _unlike_the_rest(
    settings: Settings, work: Sequence[Work], folder: RunFolder
) -> dict[tuple[str, str], list[UnlikeClip]]:
    """Compare training clips with each other, since a fault among them spoils everything."""
    from detect.training_clips import unlike_the_rest

    found: dict[tuple[str, str], list[UnlikeClip]] = {}
    for each in work:
        source = each.source
        if (source.encoder, source.pooling) in found:
            continue
        clips = [clip for unit in each.units for clip in unlike_the_rest(unit, source.read)]
        found[source.encoder, source.pooling] = clips
        for clip in clips:
            folder.log("training clip unlike the rest", **asdict(clip))
        if clips and not settings.quiet:
            messages.print(
                f"{len(clips)} training clips are unlike the rest by {source.encoder} "
                f"{source.pooling}, worth a listen: first {clips[0].key!r}, "
                f"{clips[0].distance:.1f} times the median distance to its nearest others"
            )
    return found


def _in_order(
    tasks: Sequence[Callable[..., T]], workers: int, tell: Callable[[str], None]
) -> Iterator[T]:
    """Run tasks and yield what they return, in their order; in parallel once that pays.

    Worker processes take seconds to start, so short grids never start them. Tasks of this
    process tell how they are getting on.
    """
    from joblib import Parallel, delayed

    started = time.monotonic()
    for n_done, task in enumerate(tasks):
        if workers > 1 and time.monotonic() - started > SECONDS_ALONE:
            rest = [delayed(task)() for task in tasks[n_done:]]
            yield from Parallel(n_jobs=min(workers, len(rest)), return_as="generator")(rest)
            return
        yield task(tell=tell)


def _together(work: Work) -> list[Sequence[FitUnit]]:
    """Group the machines that may be fitted in one go; the others are on their own."""
    from detect.evaluate import STACKED

    size = STACKED_AT_ONCE if work.combination.detector in STACKED else 1
    return [work.units[i : i + size] for i in range(0, len(work.units), size)]


def _attempt(
    units: Sequence[FitUnit],
    read: Callable[[Sequence[str]], Any],
    choice: DetectorChoice,
    seed: int,
    tell: Callable[[str], None] | None = None,
) -> list[Scores | str]:
    """Fit and score machines; a failure is the reason, so that the others go on."""
    from detect.evaluate import fit_and_score_together

    try:
        return list(fit_and_score_together(units, read, choice, seed, tell))
    except Exception as error:  # whatever a detector raises is this machine's row, with its reason
        if len(units) > 1:
            return [each for unit in units for each in _attempt([unit], read, choice, seed, tell)]
        reason = " ".join(str(error).split()) or type(error).__name__
        which = f"{choice.name} on {units[0].name}"
        return [reason if reason.startswith(which) else f"{which}: {reason}"]


def _conclude(
    settings: Settings,
    dataset: DataSet,
    work: Work,
    fitted: Sequence[Scores | str],
    folder: RunFolder,
    unlike: Sequence[UnlikeClip],
    left_out: Sequence[tuple[str, str]],
) -> Outcome:
    """Compare a combination's scores with the labels and write its files.

    Files that cannot be made are its reason, beside the figures, so that the others go on.
    """
    from detect.decisions import decisions
    from detect.detector import last_step
    from detect.evaluate import results

    combination, table = work.combination, work.table
    reasons = [*work.untrained, *(each for each in fitted if isinstance(each, str))]
    scores = [each for each in fitted if not isinstance(each, str)]
    with suppress(OSError):
        for reason in reasons:
            folder.log("failed", reason=reason)
    if not scores:
        return Outcome(combination, reason="; ".join(reasons) or "no test clip is left to judge")
    outcome = Outcome(combination)
    try:
        fit_per = _fit_per(settings, combination.detector)
        rows = results(table, scores, fit_per, dataset.year, seed=settings.seed)
        rated_by = (getattr(last_step(each.detector), "warning", "") for each in scores)
        outcome = Outcome(
            combination,
            rows,
            "; ".join(reasons),
            decisions(table, scores),
            "; ".join(dict.fromkeys(filter(None, [work.source.warning, *rated_by]))),
        )
        errors = [*left_out, *(("fit", reason) for reason in reasons)]
        _write(dataset, work, scores, outcome, folder, unlike, errors)
    except Exception as error:  # whatever it is, hours of other fits are worth more
        why = " ".join(str(error).split()) or type(error).__name__
        reasons.append(f"the results of {combination.name} are not complete: {why}")
        with suppress(OSError):
            folder.log("failed", reason=reasons[-1])
        return replace(outcome, reason="; ".join(reasons))
    return outcome


def _write(
    dataset: DataSet,
    work: Work,
    scores: Sequence[Scores],
    outcome: Outcome,
    folder: RunFolder,
    unlike: Sequence[UnlikeClip],
    errors: Sequence[tuple[str, str]],
) -> None:
    """Write the files of a combination; results.json comes last, and says that all are there."""
    from detect.saving import save_detector
    from report import figures, page
    from report import tables as report

    table, rows = work.table, outcome.results
    for each in scores:
        folder.log("fitted", unit=each.unit.name, seconds=each.seconds, warnings=each.warnings)
        for epoch in each.history:
            folder.log("epoch", unit=each.unit.name, **asdict(epoch))
    path = folder.make()
    report.write_scores(path, table, scores, dataset.year)
    report.write_ranking(path, table, scores)
    for each in scores:
        if each.detector is not None:
            name = slug(each.unit.name.replace(" ", "_"))
            save_detector(each.detector, path / "detectors" / name)
    if not folder.is_part:  # the page has the same figures, and a grid would draw for minutes
        machines = figures.machine_scores(table, scores, rows)
        figures.draw_scores(path / "scores.png", machines)
        figures.draw_roc(path / "roc.png", machines)
    told = page.Run(
        title=f"{dataset.name}: {outcome.combination.name}",
        table=table,
        scores=scores,
        results=rows,
        settings=folder.flags,
        facts={
            "version": version_here(),
            "date": time.strftime("%Y-%m-%d %H:%M"),
            "vectors": work.source.path,
        },
        unlike=unlike,
        warnings=list(filter(None, [outcome.warning])),
        errors=errors,
        data_root=dataset.root,
    )
    page.write_report(path, told)
    more = {
        "decisions": outcome.decisions,
        "failed": outcome.reason,
        "warning": outcome.warning,
    }
    report.write_results(path, rows, year=dataset.year, more=more)


def _only(table: ClipTable, keys: frozenset[str]) -> ClipTable:
    """Leave out the clips that have no vector."""
    kept = [i for i, key in enumerate(table.key) if key in keys]
    columns = {f.name: getattr(table, f.name) for f in fields(table)}
    return replace(table, **{name: tuple(c[i] for i in kept) for name, c in columns.items()})


def _read_outcome(combination: Combination, path: Path) -> Outcome:
    """Read what an interrupted grid had finished."""
    from detect.evaluate import Result

    content = json.loads(path.read_text(encoding="utf-8"))
    rows = [Result(**row) for row in content["results"]]
    return Outcome(combination, rows, content["failed"], content["decisions"], content["warning"])


def _print_outcomes(
    settings: Settings,
    dataset: DataSet,
    outcomes: Sequence[Outcome],
    entries: Sequence[Mapping[str, Any]],
) -> None:
    """Print the leaderboard of a grid, or one table per machine type."""
    from report import tables as report

    if settings.json:
        runs = [
            {
                "run": outcome.combination.name,
                "results": [asdict(row) for row in outcome.results],
                "error": outcome.reason,
                "warning": outcome.warning,
            }
            for outcome in outcomes
        ]
        print(json.dumps({"data": str(dataset.root), "runs": runs}))  # noqa: T201
    elif len(entries) > 1:
        if settings.seeds > 1:
            entries = report.over_seeds(entries)
        if not settings.sweep:  # leaderboard.csv has the rates of decisions all the same
            entries = [{k: v for k, v in entry.items() if "_at_" not in k} for entry in entries]
        title = f"{dataset.name}, in an oracle's order: by the AUC of its test clips"
        results_screen().print(report.leaderboard_table(entries, title=title))
    else:
        name, warning = outcomes[0].combination.name, outcomes[0].warning
        title = f"{name} ({warning})" if warning else name
        _print_tables(outcomes[0].results, title, year=dataset.year)
        if outcomes[0].reason:
            say("error", outcomes[0].reason, "red")


def _print_tables(
    rows: Sequence[Result], name: str, *, year: int = 2020, as_json: bool = False
) -> None:
    """Print one table per machine type."""
    from report.tables import results_table

    if as_json:
        print(json.dumps([asdict(row) for row in rows]))  # noqa: T201
        return
    for machine_type in dict.fromkeys(row.machine_type for row in rows):
        of_type = [row for row in rows if row.machine_type == machine_type]
        table = results_table(of_type, title=f"{machine_type}, {name}", year=year)
        results_screen().print(table)


def _print_registries(as_json: bool) -> None:
    """Print every name that a flag takes, with a line on each."""
    registries: dict[str, Mapping[str, Any]] = {
        "encoders": ENCODERS,
        "poolings": POOLINGS,
        "detectors": DETECTORS,
        "systems": SYSTEMS,
    }
    if as_json:
        entries = {
            kind: [{"name": name, "about": row.about} for name, row in registry.items()]
            for kind, registry in registries.items()
        }
        print(json.dumps(entries, indent=2))  # noqa: T201
        return
    for kind, registry in registries.items():
        print(kind)  # noqa: T201
        for name, row in registry.items():
            print(f"  {name:<20} {row.about}")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
