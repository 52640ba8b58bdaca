"""The folder of a grid: going on with one that was interrupted, and its leaderboard."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ground.files import write_whole
from pipeline.exits import version_here
from pipeline.outcome import Outcome
from pipeline.plan import Combination
from pipeline.run_folder import RunFolder
from pipeline.screen import messages
from pipeline.settings import Settings, as_config

if TYPE_CHECKING:
    from embed.recordings.dataset import DataSet

UNIMPORTANT = ("out", "quiet", "json", "workers", "device", "batch_size", "offline", "cache_dir")
"""Settings that decide no figure: a grid goes on although they differ."""


def grid_folder(settings: Settings, dataset: DataSet, weights: Mapping[str, str]) -> RunFolder:
    """Go on in the folder of an interrupted grid of the same settings, clips, weights and version.

    `weights` are the hashes of the weights by encoder and detector. Otherwise a new folder.
    """
    identity = _identity(settings, dataset, weights)
    for config in sorted(settings.out.glob("*-grid*/config.toml"), reverse=True):
        if (config.parent / "leaderboard.csv").exists():
            continue
        if _identity_in(config) == identity:
            messages.print(f"going on with the interrupted grid in {config.parent}")
            return RunFolder(config.parent, settings, identity)
    return RunFolder.new("grid", settings, identity)


def _identity(settings: Settings, dataset: DataSet, weights: Mapping[str, str]) -> str:
    facts = [
        {k: v for k, v in as_config(settings).items() if k not in UNIMPORTANT},
        str(dataset.root),
        sorted(dataset.file_stats().items()),
        dict(weights),
        version_here(),
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _identity_in(config: Path) -> str:
    """Read what grid a folder is of; "" where its config.toml cannot be read."""
    try:
        provenance = tomllib.loads(config.read_text(encoding="utf-8"))["provenance"]
        return str(provenance["identity"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def read_outcome(combination: Combination, path: Path) -> Outcome | None:
    """Read what an interrupted grid had finished; None for what failed, or cannot be read."""
    from detect.results import Result

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["failed"]:
            return None
        return Outcome(
            combination,
            [Result(**row) for row in content["results"]],
            decisions=content["decisions"],
            warning=content["warning"],
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write_leaderboard(folder: Path, data_name: str, outcomes: Sequence[Outcome]) -> None:
    """Write a grid's leaderboard, and over several seeds their means.

    The CSV comes last, and says that the grid is finished.
    """
    import report

    entries = [outcome.entry for outcome in outcomes]
    names = [outcome.combination.name for outcome in outcomes]
    pages = [name if (folder / name / "report.html").exists() else "" for name in names]
    linked = [{**entry, "folder": name} for entry, name in zip(entries, pages, strict=True)]
    report.write_leaderboard(folder, linked, f"{data_name}: leaderboard")
    if any("seed" in entry for entry in entries):
        means = report.leaderboard_csv(report.over_seeds(entries))
        write_whole(folder / "leaderboard_over_seeds.csv", means)
    write_whole(folder / "leaderboard.csv", report.leaderboard_csv(entries))
