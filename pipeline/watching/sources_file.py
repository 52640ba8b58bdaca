"""Several sources in one process: a TOML file with a table `[[source]]` for each.

[[source]]
folder = "/incoming/hall"         # or: microphone = "USB Audio", or: command = ["ffmpeg", ...]
name = "hall"                     # the folder, microphone or command by default
machine = "press7"                # where no folder says it
no_audio = "30m"
raw = "16000:s16le:1"             # of a command
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ground.text import nearest_hint, one_line
from pipeline.exits import UsageError
from pipeline.watching.amounts import seconds_of

NO_AUDIO_S = 600.0
STANDARD_INPUT, MICROPHONE = "-", "mic"
KINDS = ("folder", "microphone", "command")
KEYS = (*KINDS, "name", "machine", "no_audio", "raw")


@dataclass(frozen=True)
class SourceChoice:
    """A source that a person named. Exactly one of folder, stream and microphone is given."""

    name: str
    no_audio_s: float
    """Seconds without any sound that are told; 0: none."""
    machine: str = ""
    folder: Path | None = None
    microphone: str | None = None
    """Its name or number; "" for the default one."""
    command: tuple[str, ...] | None = None
    """What writes a stream; empty for standard input."""
    raw: str = ""


def sources_of(text: str, *, machine: str, raw: str, no_audio: str) -> list[SourceChoice]:
    """Read the argument of `watch`: a folder, `-`, `mic`, or a TOML file of several sources.

    UsageError for one that cannot be used, and for flags that it does not take.
    """
    seconds = seconds_of(no_audio, "--no-audio") if no_audio else None
    of_stream = NO_AUDIO_S if seconds is None else seconds
    if raw and text != STANDARD_INPUT:
        raise UsageError("--raw is for standard input; watch - reads it")
    if text == STANDARD_INPUT:
        return [SourceChoice(text, of_stream, machine, command=(), raw=raw)]
    if text == MICROPHONE:
        return [SourceChoice(text, of_stream, machine, microphone="")]
    path = Path(text)
    if path.suffix.lower() == ".toml" and not path.is_dir():
        if machine:
            raise UsageError(f"--machine is for one source; {path} names the machine of each")
        return read_sources(path, seconds)
    if path.is_file():
        raise UsageError(f"{text} is one recording; `check` judges it")
    if not path.is_dir():
        raise UsageError(f"there is no folder {text}; a source is a folder, -, mic or a TOML file")
    return [SourceChoice(text, seconds or 0.0, machine, folder=path)]


def read_sources(path: Path, no_audio_s: float | None = None) -> list[SourceChoice]:
    """Read a TOML file of sources; UsageError for what is wrong in it."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {one_line(error)}") from None
    tables = content.get("source")
    if not isinstance(tables, list) or not tables or set(content) != {"source"}:
        raise UsageError(f"{path}: expected a table [[source]] for each source, and nothing else")
    choices = [
        _choice(table, path.parent, no_audio_s, f"{path}, source {number}")
        for number, table in enumerate(tables, 1)
    ]
    names = [choice.name for choice in choices]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise UsageError(f"{path}: two sources have the name {twice!r}; give each a name")
    return choices


def _choice(table: Any, beside: Path, no_audio_s: float | None, where: str) -> SourceChoice:
    """Read one table; paths are relative to the folder of the file."""
    if not isinstance(table, Mapping):
        raise UsageError(f"{where}: expected a table [[source]]")
    for key, value in table.items():
        if key not in KEYS:
            raise UsageError(f"{where}: there is no {key!r}: {nearest_hint(key, KEYS)}")
        texts = value if key == "command" and isinstance(value, list) else [value]
        if not texts or not all(isinstance(text, str) for text in texts):
            kind = "a list of texts" if key == "command" else "a text"
            raise UsageError(f"{where}: {key} must be {kind}; got {value!r}")
    kinds = [kind for kind in KINDS if kind in table]
    if len(kinds) != 1:
        raise UsageError(f"{where}: expected one of folder, microphone and command")
    (kind,) = kinds
    if "raw" in table and kind != "command":
        raise UsageError(f"{where}: raw is for a command")
    command = table.get("command")
    if command is not None:
        command = (command,) if isinstance(command, str) else tuple(command)
    text = table.get("no_audio")
    default = NO_AUDIO_S if kind != "folder" else 0.0
    no_audio = seconds_of(text, f"{where}: no_audio") if text else no_audio_s
    return SourceChoice(
        name=table.get("name") or (command[0] if command else table[kind]) or kind,
        no_audio_s=default if no_audio is None else no_audio,
        machine=table.get("machine", ""),
        folder=beside / table["folder"] if kind == "folder" else None,
        microphone=table.get("microphone"),
        command=command,
        raw=table.get("raw", ""),
    )
