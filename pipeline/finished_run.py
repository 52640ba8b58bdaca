"""Finished runs, read back from their folders: what was asked, every test clip, the results.

Neither the recordings nor the vectors are needed.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ground.text import one_line
from pipeline.run_files import Remarks, read_results

if TYPE_CHECKING:
    from detect.results import Result
    from detect.thresholds import MachineDecisions
    from report.ranking import RankedClip

NO_METHOD = (
    *("data", "machine", "ids", "out", "quiet", "json", "scores", "workers", "device"),
    *("batch_size", "offline", "cache_dir", "seed", "seeds", "sweep", "trust_classes"),
)
"""Settings that are no part of a method: runs that differ in them only have the same one."""
BY_VALUE = ("system", "encoder", "pooling", "detector", "fuse", "set")
"""Settings whose value says enough; others are written as `name=value`."""
LONGEST_NAME = 48
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-")


@dataclass(frozen=True)
class FinishedRun:
    """A run folder with its results."""

    folder: Path
    settings: Mapping[str, Any]
    """Those of its config.toml, with encoder, pooling and detector as they were used."""
    asked: Mapping[str, Any]
    """Those of its config.toml alone."""
    provenance: Mapping[str, Any]
    fit_per: str
    year: int
    results: Sequence[Result]
    remarks: Remarks
    clips: Sequence[RankedClip]
    members: Sequence[str] = ()
    """`encoder/pooling/detector` of each; empty where its model is not there."""

    @property
    def method(self) -> dict[str, str]:
        """The settings that say how it judged, as texts, without those that are not set."""
        texts = {
            name: ",".join(map(str, value)) if isinstance(value, list) else str(value)
            for name, value in self.settings.items()
            if name not in NO_METHOD and value not in ("", None, [], False)
        }
        return {name: text for name in (*BY_VALUE, *texts) if (text := texts.get(name))}

    def decided(self) -> list[MachineDecisions]:
        """Gather the verdicts on the test clips, as `decide_machines` gave them."""
        from detect.thresholds import Decisions, MachineDecisions, Threshold

        found = []
        for row in self.results:
            clips = [c for c in self.clips if c.machine == (row.machine_type, row.machine_id)]
            if not row.decided or row.decided.threshold is None or not clips:
                continue
            rate = row.decided.promised_false_alarms or 0.0
            threshold = Threshold(
                row.decided.threshold,
                rate,
                self.settings.get("confidence"),
                row.decided.n_calibration,
                0,
                self.settings.get("threshold", "conformal"),
                row.decided.note,
            )
            decisions = Decisions(
                threshold,
                np.array([clip.p_value for clip in clips]),
                tuple(clip.verdict for clip in clips),  # type: ignore[misc]
                rate * len(clips),
            )
            keys = tuple(clip.key for clip in clips)
            found.append(MachineDecisions(row.machine_type, row.machine_id, keys, decisions))
        return found


@dataclass(frozen=True)
class FoundRuns:
    """The runs in a folder: itself, or the combinations of a grid."""

    runs: Sequence[FinishedRun]
    is_grid: bool = False
    unfinished: Sequence[tuple[str, str]] = ()
    """Folders of a grid without results, each with the reason."""
    without_results: Sequence[Mapping[str, str]] = ()
    """Combinations of a grid that were refused or failed: their names, and `error`, the reason."""


def is_run(folder: Path) -> bool:
    """Whether a folder is one that a run or a grid writes."""
    return (folder / "config.toml").exists() or (folder / "results.json").exists()


def holds_runs(folder: Path) -> bool:
    """Whether a folder is a run, or a folder of runs such as a grid."""
    return is_run(folder) or any(folder.glob("*/config.toml"))


def find_runs(folder: Path) -> FoundRuns:
    """Read a run folder, or all combinations of a grid that have results.

    Raises ValueError for a folder that is neither, or that a run has not finished.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; name a run folder, such as runs/<time>-<name>")
    parts = sorted(path.parent for path in folder.glob("*/config.toml"))
    is_grid = not (folder / "results.json").exists() and bool(parts)
    if not is_grid:
        return FoundRuns([read_finished_run(folder)])
    runs, unfinished = [], []
    for part in parts:
        try:
            runs.append(read_finished_run(part))
        except ValueError as error:
            unfinished.append((part.name, one_line(error)))
    if not runs:
        raise ValueError(f"{folder}: no run in it can be read; first {unfinished[0][1]}")
    return FoundRuns(runs, is_grid, unfinished, _without_results(folder, unfinished))


def _without_results(folder: Path, unfinished: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """List combinations without results by the leaderboard; by their folders where there is none.

    What was refused has no folder, and what failed has one.
    """
    from report.csv_files import read_csv

    board = folder / "leaderboard.csv"
    if not board.is_file():
        return [{"run": name, "error": reason} for name, reason in unfinished]
    listed = [
        {name: text for name, text in row.items() if text}
        for row in read_csv(board)
        if row.get("error") and not row.get("auc_mean")
    ]
    damaged = [
        {"run": name, "error": reason}
        for name, reason in unfinished
        if (folder / name / "results.json").exists()
    ]
    return listed + damaged


def read_finished_run(folder: Path) -> FinishedRun:
    """Read a run folder; ValueError where it is none, or where the run has not finished."""
    from report.ranking import read_ranking

    if not is_run(folder):
        raise ValueError(
            f"{folder} is no run folder: it has neither config.toml nor results.json; expected "
            "what a run leaves in runs/"
        )
    for name in ("config.toml", "results.json", "ranking.csv"):
        if not (folder / name).exists():
            raise ValueError(
                f"{folder} has no {name}: the run failed, was interrupted or was copied in part; "
                f"run it again with --config {folder}"
            )
    config = _read(folder / "config.toml", tomllib.loads)
    content = _read(folder / "results.json", json.loads)
    rows, remarks = read_results(folder / "results.json")
    model: Mapping[str, Any] = {}
    if (folder / "model" / "model.json").exists():
        model = _read(folder / "model" / "model.json", json.loads)
    settings = {**config.get("settings", {}), **model.get("settings", {})}
    year = content.get("year")
    return FinishedRun(
        folder,
        settings,
        config.get("settings", {}),
        config.get("provenance", {}),
        str(model.get("fit_per") or settings.get("fit_per") or "id"),
        year if isinstance(year, int) else 2020,
        rows,
        remarks,
        read_ranking(folder / "ranking.csv"),
        [str(member["name"]) for member in model.get("members", ())],
    )


def _read(file: Path, parse: Any) -> Mapping[str, Any]:
    """Parse a file of a run folder; ValueError, with the file, for one that is damaged."""
    try:
        content = parse(file.read_text(encoding="utf-8"))
        if not isinstance(content, Mapping):
            raise TypeError("it is no table")
        for table in (content.get("settings", {}), content.get("provenance", {})):
            if not isinstance(table, Mapping):
                raise TypeError("its settings are no table")
        for member in content.get("members", ()):
            if member["name"].count("/") < 2:
                raise ValueError(f"a member is called {member['name']!r}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read: {one_line(error)}") from None
    return content


def names_of(runs: Sequence[FinishedRun]) -> list[str]:
    """Name runs by the fewest settings that tell them apart, others after their folders.

    Runs of one method, such as seeds, have one name.
    """
    methods = [run.method for run in runs]
    telling = telling_apart(methods)
    names = []
    for run, method in zip(runs, methods, strict=True):
        words = [
            method[name] if name in BY_VALUE else f"{name}={method[name]}"
            for name in telling
            if name in method
        ]
        name = " ".join(words)
        names.append(name if name and len(name) <= LONGEST_NAME else stem_of(run.folder))
    return names


def columns_of(runs: Sequence[FinishedRun]) -> list[dict[str, str]]:
    """Name runs as a leaderboard does: system, parts, the options that differ, and the seed."""
    options = [
        {name: value for name, _, value in (t.partition("=") for t in run.settings.get("set", ()))}
        for run in runs
    ]
    swept = [
        name
        for name in dict.fromkeys(name for own in options for name in own)
        if len({own[name] for own in options if name in own}) > 1
    ]
    has_seeds = len({run.settings.get("seed") for run in runs}) > 1
    columns = []
    for run, own in zip(runs, options, strict=True):
        named = {"system": str(run.settings.get("system", ""))}
        members = [name.rsplit("/", 2) for name in run.members]
        for i, kind in enumerate(("encoder", "pooling", "detector")):
            parts = dict.fromkeys(parts[i] for parts in members)
            named[kind] = "+".join(parts) or str(run.settings.get(kind, ""))
        named |= {name.partition(".")[2]: own[name] for name in swept if name in own}
        named |= {"seed": str(run.settings.get("seed", 0))} if has_seeds else {}
        columns.append({name: text for name, text in named.items() if text or name != "system"})
    return columns


def telling_apart(methods: Sequence[Mapping[str, str]]) -> list[str]:
    """Choose the settings that tell methods apart; one that follows from earlier ones is none."""
    chosen: list[str] = []
    kinds = 1
    for name in dict.fromkeys(name for method in methods for name in method):
        finer = {tuple(method.get(n, "") for n in (*chosen, name)) for method in methods}
        if len(finer) > kinds:
            chosen.append(name)
            kinds = len(finer)
    return chosen


def stem_of(folder: Path) -> str:
    """Name a run folder, without the time in front."""
    return TIME.sub("", folder.resolve().name)
