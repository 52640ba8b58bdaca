"""The settings of each command: flags, filled from what was given and from a config.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_type_hints

from detect import DETECTORS
from embed import ENCODERS
from ground.options import check_options
from ground.text import nearest_hint, one_line
from pipeline.exits import UsageError
from pipeline.flags import (
    HOW,
    IN,
    JUDGE,
    OUT,
    DetectFlags,
    EmbedFlags,
    Flag,
    ImportFlags,
    OutputFlags,
    PageFlags,
)
from pipeline.names import own_classes


@dataclass(frozen=True, kw_only=True)
class EmbedSettings(OutputFlags, EmbedFlags):
    """Every flag of `embed`."""

    not_flags: ClassVar[frozenset[str]] = frozenset({"scores"})


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
        | {"sweep", "seeds", "out", "scores", "page_clips", "map", "figures", "shard"}
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
