"""The folder of a run: what it was asked, what happened, and which clips were left out."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.exits import version_here
from pipeline.outcome import Outcome
from pipeline.plan import Combination
from pipeline.screen import messages, say
from pipeline.settings import Settings

if TYPE_CHECKING:
    from embed.recordings.clips import DataSet
    from pipeline.settings import EmbedSettings


class RunFolder:
    """Where a run leaves what it did; made when the first thing is written into it."""

    def __init__(
        self,
        path: Path,
        settings: EmbedSettings | Settings,
        identity: str = "",
        *,
        is_part: bool = False,
    ) -> None:
        self.path = path
        self.is_part = is_part
        """Whether it is one of a grid's."""
        self.identity = identity
        """What an interrupted grid is recognised by; empty where there is nothing to go on with."""
        self.left_out: list[tuple[str, str]] = []
        self._settings = settings

    @classmethod
    def new(cls, name: str, settings: EmbedSettings | Settings, identity: str = "") -> RunFolder:
        """Name a folder after the time and `name`; it is not made yet."""
        stem = f"{time.strftime('%Y-%m-%dT%H-%M-%S')}-{name}"
        names = itertools.chain([stem], (f"{stem}-{n}" for n in itertools.count(2)))
        paths = (settings.out / name for name in names)
        return cls(next(path for path in paths if not path.exists()), settings, identity)

    @classmethod
    def of_grid(cls, settings: Settings, dataset: DataSet) -> RunFolder:
        """Go on in the folder of an interrupted grid of the same settings and clips, or anew."""
        facts = json.dumps(
            [settings.identity, str(dataset.root), sorted(dataset.contents().items())]
        )
        identity = hashlib.sha256(facts.encode()).hexdigest()
        for config in sorted(settings.out.glob("*-grid*/config.toml"), reverse=True):
            finished = (config.parent / "leaderboard.csv").exists()
            if not finished and f'identity = "{identity}"' in config.read_text(encoding="utf-8"):
                messages.print(f"going on with the interrupted grid in {config.parent}")
                return cls(config.parent, settings, identity)
        return cls.new("grid", settings, identity)

    def inside(self, name: str, settings: Settings) -> RunFolder:
        """Name the folder of one combination of a grid; `settings` run it on its own."""
        return RunFolder(self.path / name, settings, is_part=True)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        if self.path.is_dir():
            self.log("end")

    @property
    def flags(self) -> dict[str, Any]:
        """The settings as `config.toml` holds them, what was read by its absolute path."""
        flags = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in asdict(self._settings).items()
        }
        if not flags["data"] and not flags.get("embeddings"):
            flags["data"] = "dev_data"
        for name in ("data", "embeddings", "weights"):
            given = flags.get(name)
            if given and given != "demo" and Path(given).exists():
                flags[name] = str(Path(given).absolute())
        flags["encoder"] = ",".join(map(_lasting, flags["encoder"].split(",")))
        return flags

    def make(self) -> Path:
        """Create the folder with its config.toml, re-runnable by --config."""
        import tomli_w

        if not (self.path / "config.toml").exists():
            self.path.mkdir(parents=True, exist_ok=True)
            provenance = {
                "version": version_here(),
                "command": " ".join(sys.argv),
                "python": sys.version.split()[0],
                "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "identity": self.identity,
            }
            (self.path / "config.toml").write_text(
                tomli_w.dumps({"settings": self.flags, "provenance": provenance}), encoding="utf-8"
            )
        return self.path

    def log(self, event: str, **facts: Any) -> None:
        self._append("log.jsonl", {"time": time.time(), "event": event, **facts})

    def leave_out(self, key: str, reason: str) -> None:
        """Note, and say, that a clip is left out."""
        self.left_out.append((key, reason))
        self._append("errors.jsonl", {"key": key, "reason": reason})
        say("left out", f"{key!r}: {reason}", "yellow")

    def _append(self, name: str, facts: dict[str, Any]) -> None:
        with (self.make() / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts, ensure_ascii=True) + "\n")


def _lasting(encoder: str) -> str:
    """Write the folder of a `hf:FOLDER` as an absolute path."""
    family, colon, model = encoder.partition(":")
    is_folder = bool(colon) and Path(model).is_dir()
    return f"{family}{colon}{Path(model).absolute()}" if is_folder else encoder


def write_leaderboard(
    folder: Path, data_name: str, names: Sequence[str], entries: Sequence[Mapping[str, Any]]
) -> None:
    """Write a grid's leaderboard, and with several seeds what they come to; the CSV comes last."""
    import report
    from ground.files import write_whole

    pages = [name if (folder / name / "report.html").exists() else "" for name in names]
    linked = [{**entry, "folder": name} for entry, name in zip(entries, pages, strict=True)]
    report.write_leaderboard(folder, linked, f"{data_name}: leaderboard")
    if any("seed" in entry for entry in entries):
        means = report.leaderboard_csv(report.over_seeds(entries))
        write_whole(folder / "leaderboard_over_seeds.csv", means)
    write_whole(folder / "leaderboard.csv", report.leaderboard_csv(entries))


def read_outcome(combination: Combination, path: Path) -> Outcome:
    """Read what an interrupted grid had finished."""
    from detect.results import Result

    content = json.loads(path.read_text(encoding="utf-8"))
    rows = [Result(**row) for row in content["results"]]
    return Outcome(combination, rows, content["failed"], content["decisions"], content["warning"])
