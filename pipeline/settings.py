"""The settings of a job: frozen dataclasses whose fields are the flags of the command line.

A run folder's config.toml holds the same fields by the same names.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_type_hints

from detect import DETECTORS
from embed import ENCODERS
from ground.options import check_options
from ground.text import nearest_hint, one_line
from pipeline.exits import UsageError
from pipeline.names import own_classes

IN, HOW, THEIRS, JUDGE, OUT = "Data", "Embed", "Other tools' embeddings", "Detect", "Output"


@dataclass(frozen=True)
class Flag:
    """How one field is a flag of the command line."""

    names: str
    panel: str
    about: str
    least: int | None = None
    """The least number that it takes."""
    makes_vectors: bool = False
    """Whether it counts only where vectors are computed here; with --embeddings it is unused."""


@dataclass(frozen=True, kw_only=True)
class EmbedFlags:
    """Which clips, and how they become vectors."""

    data: Annotated[
        str,
        Flag(
            "--data",
            IN,
            "A folder of recordings, a CSV manifest, [bold]demo[/] or "
            "[bold]dcase2020:slider[/] to [bold]dcase2026:sliderEmu[/]; ./dev_data if it is there.",
        ),
    ] = ""
    machine: Annotated[str, Flag("--machine", IN, "Only these machine types.")] = ""
    ids: Annotated[str, Flag("--ids", IN, "Only these machine IDs.")] = ""
    supplemental: Annotated[
        Literal["leave", "use"],
        Flag("--supplemental", IN, "use: DCASE's clips of a machine alone train it too."),
    ] = "leave"
    channel: Annotated[
        str,
        Flag(
            "--channel",
            IN,
            "Channel number, from 0, or mean of all; of stereo also near (0), far (1), mix (their "
            "mean) or w1 (near, with what the far microphone explains subtracted).",
            makes_vectors=True,
        ),
    ] = "0"
    normalize: Annotated[
        Literal["none", "rms", "peak"],
        Flag("--normalize", IN, "Level every clip, before all else.", makes_vectors=True),
    ] = "none"
    trim: Annotated[
        bool, Flag("--trim", IN, "Cut silence (-40 dB) off both ends.", makes_vectors=True)
    ] = False
    denoise: Annotated[
        bool, Flag("--denoise", IN, "Subtract each clip's median spectrum.", makes_vectors=True)
    ] = False
    short: Annotated[
        Literal["error", "pad", "repeat"],
        Flag(
            "--short",
            IN,
            "What is done with clips that are shorter than the encoder needs.",
            makes_vectors=True,
        ),
    ] = "error"

    encoder: Annotated[
        str,
        Flag(
            "--encoder -e",
            HOW,
            "Encoder of --list; several, comma-separated, are a grid. logmel if only --pooling or "
            "--detector is given.",
            makes_vectors=True,
        ),
    ] = ""
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
        Literal["fp32", "bf16"],
        Flag(
            "--precision", HOW, "bf16: faster networks, vectors about 1 % off.", makes_vectors=True
        ),
    ] = "fp32"
    backend: Annotated[
        Literal["torch", "compiled", "openvino", "onnxruntime", "auto"],
        Flag(
            "--backend", HOW, "What runs networks; auto: the fastest installed.", makes_vectors=True
        ),
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
    scores: Annotated[
        bool, Flag("--scores", OUT, "With --json, print the score of every clip too.")
    ] = False

    not_flags: ClassVar[frozenset[str]] = frozenset()
    """Settings that a command has no flag for."""


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

    labels: Annotated[
        str,
        Flag(
            "--labels",
            IN,
            "Labels of test clips whose names have none: DCASE's ground_truth_*.csv or a folder of "
            "them, eval_data_list_*.csv, or a manifest.",
        ),
    ] = ""
    detector: Annotated[
        str,
        Flag(
            "--detector -d",
            JUDGE,
            "Detector of --list; several, comma-separated, are a grid. mahalanobis by default.",
        ),
    ] = ""
    system: Annotated[
        str,
        Flag(
            "--system",
            JUDGE,
            "A preset of --list: encoder, pooling, detector and options; flags given here win. "
            "Several, comma-separated, are a grid. [bold]auto[/] where nothing else is named.",
        ),
    ] = ""
    fuse: Annotated[
        str,
        Flag(
            "--fuse",
            JUDGE,
            "Members encoder/pooling/detector, comma-separated, whose scores are fused.",
        ),
    ] = ""
    fit_per: Annotated[
        Literal["id", "type"] | None,
        Flag("--fit-per", JUDGE, "One model per machine ID (default), or per type."),
    ] = None
    scaler: Annotated[
        Literal["standard", "none"] | None,
        Flag("--scaler", JUDGE, "What stands before the detector; standard by default."),
    ] = None
    sweep: Annotated[
        list[str], Flag("--sweep", JUDGE, "NAME.option=a,b,c: one run per value. Repeatable.")
    ] = field(default_factory=list)
    false_alarms: Annotated[
        str,
        Flag(
            "--false-alarms",
            JUDGE,
            "Share of normal clips that may be called anomalous, such as 0.01; auto: 0.05, or the "
            "least that the training clips can promise; none: no thresholds. They cost at most 12 "
            "more fits per machine, 3 where a network is trained.",
        ),
    ] = "auto"
    confidence: Annotated[
        float | None,
        Flag("--confidence", JUDGE, "Keep that promise with this confidence, such as 0.95."),
    ] = None
    threshold: Annotated[
        Literal["conformal", "gamma", "domains"],
        Flag(
            "--threshold",
            JUDGE,
            "domains: keep the promise in source and target each, whose training clips are told "
            "apart; gamma: DCASE's fit at 90 %, for comparison.",
        ),
    ] = "conformal"
    trust_classes: Annotated[
        bool,
        Flag("--trust-classes", JUDGE, "Import the classes that a config.toml or a model names."),
    ] = False
    seed: Annotated[int, Flag("--seed", JUDGE, "Seed of all that is random.", least=0)] = 0
    seeds: Annotated[int, Flag("--seeds", JUDGE, "Run this many seeds.", least=1)] = 1


@dataclass(frozen=True, kw_only=True)
class EmbedSettings(OutputFlags, EmbedFlags):
    """Every flag of `embed`."""

    not_flags: ClassVar[frozenset[str]] = frozenset({"scores"})


@dataclass(frozen=True, kw_only=True)
class PageFlags:
    """What a run shows beside its numbers."""

    page_clips: Annotated[
        int | None,
        Flag(
            "--page-clips",
            OUT,
            "At most so many clips to hear per machine on the page; 10, and 2 in a grid; 0: none.",
            least=0,
        ),
    ] = None
    map: Annotated[
        Literal["pca", "umap"],
        Flag("--map", OUT, "How the page places embeddings; umap needs the extra umap."),
    ] = "pca"
    figures: Annotated[
        str,
        Flag(
            "--figures",
            OUT,
            "Write all figures as png, svg or pdf, comma-separated, or none; by default scores.png "
            "and roc.png, and none for the runs of a grid.",
        ),
    ] = ""


@dataclass(frozen=True, kw_only=True)
class Settings(PageFlags, OutputFlags, DetectFlags, ImportFlags, EmbedFlags):
    """Every flag of the whole job."""


@dataclass(frozen=True, kw_only=True)
class LearnSettings(Settings):
    """Every flag of `learn`: those of the whole job that make one model, and its own."""

    model: Annotated[Path, Flag("--model -m", OUT, "Folder of the model.")] = Path("model")
    window: Annotated[
        float | None, Flag("--window", IN, "Cut long recordings into windows of so many seconds.")
    ] = None
    hop: Annotated[
        float | None, Flag("--hop", IN, "Seconds from window to window; half a window by default.")
    ] = None
    add: Annotated[
        bool, Flag("--add", OUT, "Add these recordings to those that --model was learned from.")
    ] = False
    recalibrate: Annotated[
        bool,
        Flag("--recalibrate", OUT, "Keep the detectors; new thresholds from these recordings."),
    ] = False
    with_feedback: Annotated[
        Path | None,
        Flag(
            "--with-feedback",
            OUT,
            "With --recalibrate: use what feedback called normal in this folder of a watch too.",
        ),
    ] = None

    not_flags: ClassVar[frozenset[str]] = frozenset(
        {
            "data",
            "labels",
            "embeddings",
            "embeddings_key",
            "names_key",
            "match",
            "axes",
            "dequantise",
        }
        | {"sweep", "seeds", "out", "scores", "page_clips", "map", "figures"}
    )


@dataclass(frozen=True, kw_only=True)
class CheckSettings(OutputFlags):
    """Every flag of `check`."""

    model: Annotated[Path, Flag("--model -m", IN, "Folder of a model, or of a run.")] = Path(
        "model"
    )
    machine: Annotated[
        str, Flag("--machine", IN, "Machine of the recordings, where no folder says it.")
    ] = ""
    window: Annotated[
        float | None, Flag("--window", IN, "Cut long recordings into windows of so many seconds.")
    ] = None
    hop: Annotated[
        float | None, Flag("--hop", IN, "Seconds from window to window; half a window by default.")
    ] = None
    raw: Annotated[
        str, Flag("--raw", IN, "Standard input is raw samples, such as 16000:s16le:1.")
    ] = ""
    explain: Annotated[
        bool, Flag("--explain", OUT, "Say why: bands, seconds, the nearest normal clip.")
    ] = False
    csv: Annotated[Path | None, Flag("--csv", OUT, "Write the verdicts to this CSV file.")] = None
    page: Annotated[
        Path | None, Flag("--page", OUT, "Write a page with the reasons as pictures.")
    ] = None
    device: Annotated[str, Flag("--device", HOW, "cpu, cuda or cuda:0.")] = "cpu"
    workers: Annotated[int, Flag("--workers", HOW, "Decoding threads; 0: auto.", least=0)] = 0
    offline: Annotated[bool, Flag("--offline", HOW, "Never use the network.")] = False
    trust_classes: Annotated[
        bool, Flag("--trust-classes", JUDGE, "Import the classes that a model names.")
    ] = False

    not_flags: ClassVar[frozenset[str]] = frozenset({"out", "scores"})


AnySettings = TypeVar("AnySettings", bound=OutputFlags)
TEXTS = ("data", "labels", "embeddings", "weights", "channel", "false_alarms")
"""Settings that are texts, and may be given as paths or numbers from Python."""
PATHS = ("cache_dir", "out", "model", "csv", "page", "with_feedback")
NAMES = ("encoder", "pooling", "detector", "system", "fuse")
"""Settings that name entries of --list: not given, or not empty."""


def settings_of(
    kind: type[AnySettings], given: Mapping[str, Any], config: Path | None = None
) -> AnySettings:
    """Put the settings of a command together: `given` wins over those of a `config.toml`.

    Options of --set are kept from both, and those that are given come last and win. A system that
    is given replaces the encoder, pooling, detector and options of `config`. Raises UsageError for
    an unknown setting and for a value that a setting cannot have.
    """
    earlier = _read_config(config) if config else {}
    if not given.get("trust_classes"):
        refuse_classes(earlier, f"--config {config}")
    if "system" in given:
        replaced = {"encoder", "pooling", "detector", "fuse", "fit_per", "scaler", "set"}
        earlier = {k: v for k, v in earlier.items() if k not in replaced}
    names = {f.name for f in fields(kind)}
    _check_known(given, names, "")
    earlier = _checked(kind, earlier, f"--config {config}: ")
    given = _checked(kind, given, "")
    values = {**earlier, **given}
    if "set" in names:
        values["set"] = list(dict.fromkeys([*earlier.get("set", ()), *given.get("set", ())]))
    return kind(**values)


def _checked(kind: type[OutputFlags], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the settings that `kind` has, paths as paths; UsageError for a wrong value."""
    names = {f.name for f in fields(kind)}
    values = {
        name: Path(value) if name in PATHS and isinstance(value, str) else value
        for name, value in values.items()
        if name in names
    }
    try:
        check_options(kind, values)
    except ValueError as error:
        raise UsageError(f"{where}{error}") from None
    return values


def refuse_empty(given: Mapping[str, Any]) -> None:
    """Raise UsageError for a flag that a person gave without any name in it."""
    for name in NAMES:
        if not str(given.get(name, name)).strip(" ,"):
            raise UsageError(f"--{name} names none; leave it out for the default")


def given_from_python(**flags: Any) -> dict[str, Any]:
    """Write the flags of a call from Python as the command line has them.

    Lists become comma-separated names, but for --set and --sweep; paths become texts; numbers that
    the command line reads as texts, such as false_alarms, become texts.
    """

    def written(name: str, value: Any) -> Any:
        if name in ("set", "sweep"):
            return [value] if isinstance(value, str) else list(value)
        if isinstance(value, list | tuple):
            return ",".join(map(str, value))
        return str(value) if name in TEXTS and not isinstance(value, str) else value

    given = {name: written(name, value) for name, value in flags.items()}
    refuse_empty(given)
    return given


def _check_known(values: Mapping[str, Any], known: set[str], where: str) -> None:
    for name in values:
        if name not in known:
            hint = nearest_hint(name, known)
            hint = f"; {hint}" if hint.startswith("did") else ""
            raise UsageError(f"{where}there is no setting {name!r}{hint}")


def _read_config(path: Path) -> dict[str, Any]:
    """Read the settings in a `config.toml` of an earlier run, or in its run folder."""
    file = path / "config.toml" if path.is_dir() else path
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))["settings"]
        if not isinstance(settings, dict):
            raise TypeError("its [settings] are not a table")
    except KeyError:
        raise UsageError(f"--config {file} is not a config.toml of a run: no [settings]") from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(
            f"--config {file} is not a config.toml of a run: {one_line(error)}"
        ) from None
    _check_known(settings, {f.name for f in fields(Settings)}, f"--config {file}: ")
    return dict(settings)


def refuse_classes(settings: Mapping[str, Any], origin: str) -> None:
    """Raise UsageError where settings of a file name a class from outside: importing runs it."""
    registries = {"encoder": ENCODERS, "detector": DETECTORS}
    named = [
        name
        for flag, registry in registries.items()
        for name in own_classes(str(settings.get(flag, "")), registry)
    ]
    members = str(settings.get("fuse", "")).replace(",", "/").split("/")
    named += [name for name in members if own_classes(name, {**ENCODERS, **DETECTORS})]
    if named:
        raise UsageError(
            f"{origin} names the class {named[0]}, whose code would be run; "
            "add --trust-classes if you know it"
        )


def as_config(settings: EmbedSettings | Settings) -> dict[str, Any]:
    """Return the settings as a config.toml holds them: plain values, none that is unset."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(settings).items()
        if value is not None
    }


def flag_of(name: str) -> Flag:
    """Return the flag of a setting."""
    hints = get_type_hints(Settings, include_extras=True)
    return next(each for each in get_args(hints[name]) if isinstance(each, Flag))
