"""The command line: frozen dataclasses whose fields are the flags, and what their texts mean.

`with_flags` gives a command the fields of a dataclass as its flags; a run folder's config.toml
holds the same fields by the same names.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from detect import DETECTORS
from embed import ENCODERS, POOLINGS
from pipeline.systems import SYSTEMS


class UsageError(ValueError):
    """A command line that cannot be meant: exit code 2."""


IN, HOW, THEIRS, JUDGE, OUT = "Data", "Embed", "Other tools' embeddings", "Detect", "Output"


def flag(names: str, panel: str, about: str, **more: Any) -> Any:
    """Describe one flag: its names, its panel of --help and what it is for."""
    return typer.Option(*names.split(), help=about, rich_help_panel=panel, **more)


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Let a `config.toml` of an earlier run stand in for the flags that are not given."""
    if path is not None:
        try:
            settings = dict(tomllib.loads(path.read_text(encoding="utf-8"))["settings"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"--config {path} is not a config.toml of a run: {error}") from None
        known = {f.name for f in fields(Settings)}
        if unknown := sorted(settings.keys() - known):
            close = get_close_matches(unknown[0], known, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UsageError(f"--config {path}: there is no setting {unknown[0]!r}{hint}")
        context.default_map = {**settings, **(context.default_map or {})}
    return path


def _read_system(context: typer.Context, name: str) -> str:
    """Let a preset stand in for the flags that are not given."""
    if name:
        names_of(name, SYSTEMS, "system")
        preset = {k: v for k, v in asdict(SYSTEMS[name]).items() if k != "set"}
        config = context.default_map or {}
        source = context.get_parameter_source("system")
        is_given = source is not None and source.name == "COMMANDLINE"
        context.default_map = {**config, **preset} if is_given else {**preset, **config}
    return name


@dataclass(frozen=True, kw_only=True)
class EmbedFlags:
    """Which clips, and how they become vectors."""

    data: Annotated[
        str,
        flag(
            "--data",
            IN,
            "A folder of recordings, a CSV manifest, [bold]demo[/] or "
            "[bold]dcase2020:slider[/]; ./dev_data if it is there.",
        ),
    ] = ""
    machine: Annotated[str, flag("--machine", IN, "Only these machine types.")] = ""
    ids: Annotated[str, flag("--ids", IN, "Only these machine IDs.")] = ""
    channel: Annotated[str, flag("--channel", IN, "Channel number, from 0, or mean.")] = "0"
    normalize: Annotated[
        Literal["none", "rms", "peak"],
        flag("--normalize", IN, "Level every clip, before all else."),
    ] = "none"
    trim: Annotated[bool, flag("--trim", IN, "Cut silence (-40 dB) off both ends.")] = False
    denoise: Annotated[bool, flag("--denoise", IN, "Subtract each clip's median spectrum.")] = False
    short: Annotated[
        Literal["error", "pad", "repeat"],
        flag("--short", IN, "What becomes of clips below the encoder's minimum."),
    ] = "error"

    encoder: Annotated[
        str, flag("--encoder -e", HOW, "Encoder of --list; several, comma-separated, are a grid.")
    ] = "logmel"
    pooling: Annotated[
        str, flag("--pooling -p", HOW, "Pooling of --list; the encoder's own by default.")
    ] = ""
    weights: Annotated[
        str,
        flag(
            "--weights",
            HOW,
            "random, a checkpoint or a save_pretrained folder; in a grid panns=PATH,ast=PATH; "
            "the published weights by default.",
        ),
    ] = ""
    offline: Annotated[bool, flag("--offline", HOW, "Never use the network.")] = False
    device: Annotated[
        str, flag("--device", HOW, "cpu, cuda, or cuda:0,cuda:1; the best there is by default.")
    ] = ""
    precision: Annotated[
        Literal["fp32", "bf16"], flag("--precision", HOW, "bf16: networks faster, about 1 % off.")
    ] = "fp32"
    backend: Annotated[
        Literal["torch", "compiled", "openvino", "onnxruntime", "auto"],
        flag("--backend", HOW, "What runs networks; auto: the fastest installed."),
    ] = "torch"
    batch_size: Annotated[
        int, flag("--batch-size", HOW, "Clips per forward pass; 0: auto.", min=0)
    ] = 0
    workers: Annotated[
        int, flag("--workers", HOW, "Decoding threads and fitting processes; 0: auto.", min=0)
    ] = 0
    cache_dir: Annotated[Path, flag("--cache-dir", HOW, "Where vectors are kept.")] = Path(
        "embeddings"
    )
    set: Annotated[
        list[str],
        flag(
            "--set",
            HOW,
            "NAME.option=value, NAME a name of --list, or encoder, pooling, detector. Repeatable.",
        ),
    ] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class OutputFlags:
    """Where results go, and how much is printed."""

    out: Annotated[Path, flag("--out", OUT, "Where run folders go.")] = Path("runs")
    quiet: Annotated[bool, flag("--quiet -q", OUT, "Print results and errors only.")] = False
    json: Annotated[bool, flag("--json", OUT, "Print results as JSON.")] = False


@dataclass(frozen=True, kw_only=True)
class ImportFlags:
    """Vectors that another tool computed."""

    embeddings: Annotated[
        str,
        flag(
            "--embeddings",
            THEIRS,
            "Vectors of another tool instead of --encoder: HDF5, npz or a folder of npy.",
        ),
    ] = ""
    embeddings_key: Annotated[
        str, flag("--embeddings-key", THEIRS, "Where in that file the vectors are.")
    ] = ""
    names_key: Annotated[str, flag("--names-key", THEIRS, "Where in that file the names are.")] = ""
    match: Annotated[
        str,
        flag("--match", THEIRS, "Names are clips by path, name or stem; the strictest that fits."),
    ] = ""
    axes: Annotated[str, flag("--axes", THEIRS, "Frames in that file are ntd or ndt.")] = ""
    dequantise: Annotated[
        bool, flag("--dequantise", THEIRS, "Map uint8 vectors, quantised VGGish, to -2..2.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class DetectFlags:
    """How vectors are judged."""

    detector: Annotated[
        str,
        flag("--detector -d", JUDGE, "Detector of --list; several, comma-separated, are a grid."),
    ] = "mahalanobis"
    system: Annotated[
        str,
        flag(
            "--system",
            JUDGE,
            "A preset of --list: encoder, pooling, detector and options; flags given here win.",
            is_eager=True,
            callback=_read_system,
        ),
    ] = ""
    fit_per: Annotated[
        Literal["id", "type"], flag("--fit-per", JUDGE, "One model per machine ID, or per type.")
    ] = "id"
    scaler: Annotated[
        Literal["standard", "none"], flag("--scaler", JUDGE, "What stands before the detector.")
    ] = "standard"
    sweep: Annotated[
        list[str], flag("--sweep", JUDGE, "NAME.option=a,b,c: one run per value. Repeatable.")
    ] = field(default_factory=list)
    seed: Annotated[int, flag("--seed", JUDGE, "Seed of all that is random.", min=0)] = 0
    seeds: Annotated[int, flag("--seeds", JUDGE, "Run this many seeds.", min=1)] = 1


@dataclass(frozen=True, kw_only=True)
class EmbedSettings(OutputFlags, EmbedFlags):
    """Every flag of `embed`."""


@dataclass(frozen=True, kw_only=True)
class Settings(OutputFlags, DetectFlags, ImportFlags, EmbedFlags):
    """Every flag of the whole job."""

    @property
    def identity(self) -> str:
        """Hash of what decides the results; an interrupted grid goes on under it."""
        how = {"out", "quiet", "json", "workers", "device", "batch_size", "offline"}
        facts = {k: str(v) for k, v in asdict(self).items() if k not in how}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def with_flags(
    kind: type[EmbedSettings] | type[Settings],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of `kind` as its flags, and `kind` itself as its argument."""
    hints = get_type_hints(kind, include_extras=True)
    config = Annotated[
        Path | None,
        flag(
            "--config",
            OUT,
            "config.toml of an earlier run; flags given here win.",
            is_eager=True,
            callback=_read_config,
        ),
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def with_flags(config: Path | None, **values: Any) -> None:
            names = {f.name for f in fields(kind)}
            if preset := SYSTEMS.get(values.get("system", "")):  # --set adds to it, and wins
                values["set"] = list(dict.fromkeys([*preset.set, *values["set"]]))
            settings = kind(**{k: values.pop(k) for k in list(values) if k in names})
            command(settings, **values)

        _, *own = inspect.signature(command, eval_str=True).parameters.values()
        keyword = inspect.Parameter.KEYWORD_ONLY
        flags = [
            inspect.Parameter(
                f.name,
                keyword,
                default=f.default if f.default is not MISSING else [],
                annotation=hints[f.name],
            )
            for f in fields(kind)
        ]
        flags.append(inspect.Parameter("config", keyword, default=None, annotation=config))
        parameters = [*flags, *(p.replace(kind=keyword) for p in own)]
        with_flags.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_flags.__annotations__ = {p.name: p.annotation for p in parameters}
        return with_flags

    return decorate


def names_of(text: str, registry: Mapping[str, Any], kind: str) -> list[str]:
    """Split comma-separated names; an unknown one is a UsageError with the nearest."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names and kind != "pooling":  # no pooling is the encoder's own
        raise UsageError(f"--{kind} {text!r} names none (--list shows all)")
    for name in names:
        family, colon, _ = name.partition(":")
        if family not in registry or (colon and family != "hf"):
            close = get_close_matches(name, registry, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"one of {', '.join(registry)}"
            raise UsageError(f"unknown {kind} {name!r}: {hint} (--list shows all)")
    return list(dict.fromkeys(names))


def set_options(
    settings: EmbedSettings | Settings, kind: str, name: str, texts: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Collect the --set options of one registry entry; those of `texts` stay as they are."""
    known = {"encoder", "pooling", "detector", *ENCODERS, *POOLINGS, *DETECTORS}
    options = {}
    for text in settings.set:
        target, option, value = assignment("--set", text)
        if target not in known:
            close = get_close_matches(target, known, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UsageError(f"--set {text}: {target!r} is no name of --list{hint}")
        if target in (kind, name.partition(":")[0]):
            options[option] = value if option in texts else value_of(value)
    return options


def assignment(flag: str, text: str) -> tuple[str, str, str]:
    """Split NAME.option=value."""
    target, dot, rest = text.partition(".")
    option, equals, value = rest.partition("=")
    if not (target and dot and option and equals):
        raise UsageError(f"{flag} {text}: expected NAME.option=value, such as knn.k=3")
    return target, option, value


def value_of(text: str) -> Any:
    """Read a number, a boolean, a list or else a plain word."""
    try:
        value = ast.literal_eval({"true": "True", "false": "False"}.get(text.lower(), text))
        return tuple(value) if isinstance(value, list) else value
    except (ValueError, SyntaxError):
        return text
