"""The folder of a grid: going on with one that was interrupted, and its leaderboard."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ground.files import sha256_of, write_whole
from ground.versions import installed_version
from pipeline.model import read_model
from pipeline.outcome import Outcome
from pipeline.parts import encoder_of, pooling_of
from pipeline.plan import Combination, Member
from pipeline.run_files import read_results
from pipeline.run_folder import RunFolder
from pipeline.screen import messages
from pipeline.settings import Settings, as_config
from pipeline.sources import preprocessing_of

if TYPE_CHECKING:
    from embed.recordings.dataset import DataSet

UNIMPORTANT = (
    *("out", "quiet", "json", "workers", "device", "batch_size", "offline", "cache_dir"),
    "engine",
    *("page_clips", "map", "figures"),
)
"""Settings that decide no figure: a grid goes on although they differ."""


def grid_folder(
    settings: Settings,
    dataset: DataSet,
    members: Sequence[Member],
    weights: Mapping[str, str],
    imported: str = "",
) -> RunFolder:
    """Go on in the folder of an interrupted grid, or name a new one.

    It goes on if settings, clips, the code's version, and what decides the vectors and the
    networks inside detectors are the same. `weights` are the paths of these networks, `imported`
    identifies the vectors of another tool.
    """
    facts = [
        {k: v for k, v in as_config(settings).items() if k not in UNIMPORTANT},
        str(dataset.root),
        sorted(dataset.file_stats().items()),
        _fingerprints(settings, members),
        _hashes(weights),
        imported,
        installed_version(),
    ]
    identity = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    for config in sorted(settings.out.glob("*-grid*/config.toml"), reverse=True):
        if (config.parent / "leaderboard.csv").exists():
            continue
        if _identity_in(config) == identity:
            messages.print(f"going on with the interrupted grid in {config.parent}")
            return RunFolder.resumed(config.parent, settings, identity)
    return RunFolder.new("grid", settings, identity)


def _hashes(weights: Mapping[str, str]) -> dict[str, str]:
    """Return the hash of each checkpoint by the name of its detector; random ones as they are."""
    from fetch.checkpoints import checkpoint_hash

    return {
        name: checkpoint_hash(Path(path)) if Path(path).exists() else path
        for name, path in weights.items()
    }


def _fingerprints(settings: Settings, members: Sequence[Member]) -> dict[str, str]:
    """Return what decides the vectors of each member, weights and versions of the code included.

    An encoder that cannot be had has none; what is wrong with it is said when it is used.
    """
    from embed.fingerprint import configuration, fingerprint

    found = {}
    for encoder, pooling in dict.fromkeys(member.source for member in members):
        with suppress(OSError, ValueError):
            facts = configuration(
                encoder_of(settings, encoder, "cpu"),
                preprocessing_of(settings),
                pooling_of(pooling),
            )
            found[f"{encoder}/{pooling}"] = fingerprint(facts)
    return found


def _identity_in(config: Path) -> str:
    """Read what grid a folder is of; "" where its config.toml cannot be read."""
    try:
        provenance = tomllib.loads(config.read_text(encoding="utf-8"))["provenance"]
        return str(provenance["identity"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def read_outcome(combination: Combination, folder: Path) -> Outcome | None:
    """Read what an interrupted grid had finished.

    Returns None for what failed, and for a folder with a file that is not as it was written.
    """
    try:
        rows, remarks = read_results(folder / "results.json")
        tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))["settings"]
        model = read_model(folder / "model")
        hashes = model.facts["files"].items()
        is_whole = all(sha256_of(model.path / name) == sha256 for name, sha256 in hashes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if remarks.failed or not is_whole:
        return None
    return Outcome(combination, rows, decisions=remarks.decisions, warning=remarks.warning)


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
