"""The folder of a run: what was asked, what happened, and which clips were left out."""

from __future__ import annotations

import itertools
import json
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ground.files import naming, write_whole
from ground.registry import split_name
from ground.text import visible
from ground.versions import installed_version
from pipeline.journal import Journal
from pipeline.parts import shares_of
from pipeline.settings import EmbedSettings, Settings, as_config


class RunFolder(Journal):
    """Where a run leaves what it did; made when the first thing is written into it."""

    def __init__(
        self,
        path: Path,
        settings: EmbedSettings | Settings,
        identity: str = "",
        *,
        is_part: bool = False,
    ) -> None:
        super().__init__()
        self.path = path
        self.is_part = is_part
        """Whether it is the folder of one combination of a grid."""
        self.identity = identity
        """What an interrupted grid is recognised by; empty for anything else."""
        self.is_resumed = False
        """Whether it is the folder of an interrupted grid, with what that had finished."""
        self._settings = settings
        self._is_made = False

    @classmethod
    def new(cls, name: str, settings: EmbedSettings | Settings, identity: str = "") -> RunFolder:
        """Name a folder after the time and `name`; it is made with the first file in it."""
        stem = f"{time.strftime('%Y-%m-%dT%H-%M-%S')}-{name}"
        return cls(settings.out / stem, settings, identity)

    @classmethod
    def resumed(cls, path: Path, settings: Settings, identity: str) -> RunFolder:
        """Go on in the folder of an interrupted grid, whose config.toml is there."""
        folder = cls(path, settings, identity)
        folder.is_resumed = folder._is_made = True
        return folder

    def inside(self, name: str, settings: Settings) -> RunFolder:
        """Name the folder of one combination of a grid; `settings` run it on its own."""
        self.make()
        return RunFolder(self.path / name, settings, is_part=True)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_made:
            with suppress(OSError):  # whatever ended the run is said already
                self.log("end")

    @property
    def settings(self) -> Settings:
        """The settings of the whole job, or of the combination of a grid."""
        assert isinstance(self._settings, Settings)
        return self._settings

    @property
    def flags(self) -> dict[str, Any]:
        """The settings as `config.toml` holds them, paths as absolute ones."""
        flags = as_config(self._settings)
        if not flags["data"] and not flags.get("embeddings"):
            flags["data"] = "dev_data"
        for name in ("data", "embeddings"):
            if flags.get(name) and flags[name] != "demo":
                flags[name] = _absolute(flags[name])
        shares = shares_of(flags["weights"])
        flags["weights"] = (
            ",".join(f"{name}={_absolute(path)}" for name, path in shares.items())
            if shares
            else _absolute(flags["weights"])
        )
        flags["encoder"] = ",".join(map(_absolute_model, flags["encoder"].split(",")))
        return flags

    def make(self) -> Path:
        """Create the folder, which no other run has, and its config.toml for --config."""
        import tomli_w

        if self._is_made:
            return self.path
        if self.is_part:
            self.path.mkdir(parents=True, exist_ok=True)
        else:
            self.path = _new_folder(self.path)
        provenance = {
            "version": installed_version(),
            "command": visible(shlex.join(sys.argv)),
            "python": sys.version.split()[0],
            "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "identity": self.identity,
        }
        config = {"settings": self.flags, "provenance": provenance}
        write_whole(self.path / "config.toml", tomli_w.dumps(config))
        self._is_made = True
        return self.path

    def log(self, event: str, **facts: Any) -> None:
        """Append an event to log.jsonl."""
        self._append("log.jsonl", {"time": time.time(), "event": event, **facts})

    def leave_out(self, key: str, reason: str) -> None:
        """Note in errors.jsonl, and say once for each reason, that a clip is left out."""
        if not self.is_known(key, reason):
            self._append("errors.jsonl", {"key": key, "reason": reason})
        super().leave_out(key, reason)

    def _append(self, name: str, facts: dict[str, Any]) -> None:
        path = self.make() / name
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts, ensure_ascii=True) + "\n")


def _new_folder(path: Path) -> Path:
    """Create a folder under `path` or, where another run has that, under the next free number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for candidate in _numbered(path):
        try:
            candidate.mkdir()
        except FileExistsError:
            continue
        return candidate
    raise AssertionError("numbers do not end")


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.name}-{number}")


def _absolute(text: str) -> str:
    """Write what exists as a path by its absolute path."""
    return str(Path(text).absolute()) if text and Path(text).exists() else text


def _absolute_model(encoder: str) -> str:
    """Write the folder of `hf:FOLDER` by its absolute path."""
    family, model = split_name(encoder)
    return f"{family}:{_absolute(model)}" if model else encoder
