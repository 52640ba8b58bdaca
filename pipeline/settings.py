"""The settings of a job: frozen dataclasses whose fields are the flags of the command line.

A run folder's config.toml holds the same fields by the same names.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pipeline.exits import UsageError
from pipeline.names import names_of
from pipeline.systems import SYSTEMS

IN, HOW, THEIRS, JUDGE, OUT = "Data", "Embed", "Other tools' embeddings", "Detect", "Output"


@dataclass(frozen=True)
class Flag:
    """How one field is a flag: its names, its panel of --help, what it is for, its least value."""

    names: str
    panel: str
    about: str
    least: int | None = None


@dataclass(frozen=True, kw_only=True)
class EmbedFlags:
    """Which clips, and how they become vectors."""

    data: Annotated[
        str,
        Flag(
            "--data",
            IN,
            "A folder of recordings, a CSV manifest, [bold]demo[/] or "
            "[bold]dcase2020:slider[/]; ./dev_data if it is there.",
        ),
    ] = ""
    machine: Annotated[str, Flag("--machine", IN, "Only these machine types.")] = ""
    ids: Annotated[str, Flag("--ids", IN, "Only these machine IDs.")] = ""
    channel: Annotated[str, Flag("--channel", IN, "Channel number, from 0, or mean.")] = "0"
    normalize: Annotated[
        Literal["none", "rms", "peak"],
        Flag("--normalize", IN, "Level every clip, before all else."),
    ] = "none"
    trim: Annotated[bool, Flag("--trim", IN, "Cut silence (-40 dB) off both ends.")] = False
    denoise: Annotated[bool, Flag("--denoise", IN, "Subtract each clip's median spectrum.")] = False
    short: Annotated[
        Literal["error", "pad", "repeat"],
        Flag("--short", IN, "What becomes of clips below the encoder's minimum."),
    ] = "error"

    encoder: Annotated[
        str, Flag("--encoder -e", HOW, "Encoder of --list; several, comma-separated, are a grid.")
    ] = "logmel"
    pooling: Annotated[
        str, Flag("--pooling -p", HOW, "Pooling of --list; the encoder's own by default.")
    ] = ""
    weights: Annotated[
        str,
        Flag(
            "--weights",
            HOW,
            "random, a checkpoint or a save_pretrained folder; in a grid panns=PATH,ast=PATH; "
            "the published weights by default.",
        ),
    ] = ""
    offline: Annotated[bool, Flag("--offline", HOW, "Never use the network.")] = False
    device: Annotated[
        str, Flag("--device", HOW, "cpu, cuda, or cuda:0,cuda:1; the best there is by default.")
    ] = ""
    precision: Annotated[
        Literal["fp32", "bf16"], Flag("--precision", HOW, "bf16: networks faster, about 1 % off.")
    ] = "fp32"
    backend: Annotated[
        Literal["torch", "compiled", "openvino", "onnxruntime", "auto"],
        Flag("--backend", HOW, "What runs networks; auto: the fastest installed."),
    ] = "torch"
    batch_size: Annotated[
        int, Flag("--batch-size", HOW, "Clips per forward pass; 0: auto.", least=0)
    ] = 0
    workers: Annotated[
        int, Flag("--workers", HOW, "Decoding threads and fitting processes; 0: auto.", least=0)
    ] = 0
    cache_dir: Annotated[Path, Flag("--cache-dir", HOW, "Where vectors are kept.")] = Path(
        "embeddings"
    )
    set: Annotated[
        list[str],
        Flag(
            "--set",
            HOW,
            "NAME.option=value, NAME a name of --list, or encoder, pooling, detector. Repeatable.",
        ),
    ] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class OutputFlags:
    """Where results go, and how much is printed."""

    out: Annotated[Path, Flag("--out", OUT, "Where run folders go.")] = Path("runs")
    quiet: Annotated[bool, Flag("--quiet -q", OUT, "Print results and errors only.")] = False
    json: Annotated[bool, Flag("--json", OUT, "Print results as JSON.")] = False


@dataclass(frozen=True, kw_only=True)
class ImportFlags:
    """Vectors that another tool computed."""

    embeddings: Annotated[
        str,
        Flag(
            "--embeddings",
            THEIRS,
            "Vectors of another tool instead of --encoder: HDF5, npz or a folder of npy.",
        ),
    ] = ""
    embeddings_key: Annotated[
        str, Flag("--embeddings-key", THEIRS, "Where in that file the vectors are.")
    ] = ""
    names_key: Annotated[str, Flag("--names-key", THEIRS, "Where in that file the names are.")] = ""
    match: Annotated[
        str,
        Flag("--match", THEIRS, "Names are clips by path, name or stem; the strictest that fits."),
    ] = ""
    axes: Annotated[str, Flag("--axes", THEIRS, "Frames in that file are ntd or ndt.")] = ""
    dequantise: Annotated[
        bool, Flag("--dequantise", THEIRS, "Map uint8 vectors, quantised VGGish, to -2..2.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class DetectFlags:
    """How vectors are judged."""

    detector: Annotated[
        str,
        Flag("--detector -d", JUDGE, "Detector of --list; several, comma-separated, are a grid."),
    ] = "mahalanobis"
    system: Annotated[
        str,
        Flag(
            "--system",
            JUDGE,
            "A preset of --list: encoder, pooling, detector and options; flags given here win.",
        ),
    ] = ""
    fit_per: Annotated[
        Literal["id", "type"], Flag("--fit-per", JUDGE, "One model per machine ID, or per type.")
    ] = "id"
    scaler: Annotated[
        Literal["standard", "none"], Flag("--scaler", JUDGE, "What stands before the detector.")
    ] = "standard"
    sweep: Annotated[
        list[str], Flag("--sweep", JUDGE, "NAME.option=a,b,c: one run per value. Repeatable.")
    ] = field(default_factory=list)
    seed: Annotated[int, Flag("--seed", JUDGE, "Seed of all that is random.", least=0)] = 0
    seeds: Annotated[int, Flag("--seeds", JUDGE, "Run this many seeds.", least=1)] = 1


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


AnySettings = TypeVar("AnySettings", EmbedSettings, Settings)


def settings_of(
    kind: type[AnySettings], given: Mapping[str, Any], config: Path | None = None
) -> AnySettings:
    """Put the settings of a command together: `given` wins over a preset or a config.toml.

    A preset that is given wins over `config`; one that `config` names is its starting point. The
    options of a preset (`set`) are kept, and those that are given come after them and win.
    """
    earlier: dict[str, Any] = _read_config(kind, config) if config else {}
    name = given.get("system", earlier.get("system", ""))
    preset: dict[str, Any] = _preset(name) if name and issubclass(kind, DetectFlags) else {}
    options = [*preset.pop("set", ()), *earlier.pop("set", ()), *given.get("set", ())]
    layers = (earlier, preset) if "system" in given else (preset, earlier)
    values = {**layers[0], **layers[1], **given}
    return kind(**{**values, "set": list(dict.fromkeys(options))})


def _preset(name: str) -> dict[str, Any]:
    """Return the flags that a system stands for."""
    names_of(name, SYSTEMS, "system")
    return {k: v for k, v in asdict(SYSTEMS[name]).items() if k != "about"}


def _read_config(kind: type[OutputFlags], path: Path) -> dict[str, Any]:
    """Read the settings that a `config.toml` of an earlier run holds."""
    try:
        settings = dict(tomllib.loads(path.read_text(encoding="utf-8"))["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--config {path} is not a config.toml of a run: {error}") from None
    known = {f.name for f in fields(Settings)}
    if unknown := sorted(settings.keys() - known):
        close = get_close_matches(unknown[0], known, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"--config {path}: there is no setting {unknown[0]!r}{hint}")
    paths = {name: Path(settings[name]) for name in ("cache_dir", "out") if name in settings}
    return {k: v for k, v in {**settings, **paths}.items() if k in {f.name for f in fields(kind)}}
