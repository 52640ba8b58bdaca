"""`compare`: runs and grids, compared on the clips they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ground.text import nearest_hint
from pipeline.exits import UsageError
from pipeline.finished_run import FinishedRun, find_runs, holds_runs, names_of
from pipeline.labels import Labels

if TYPE_CHECKING:
    from report.comparison import Compared, Entrant
    from report.ranking import RankedClip
    from report.score_files import Machine


@dataclass(frozen=True)
class RunsCompared:
    """What was compared, and what it tells."""

    compared: Compared
    folders: Sequence[tuple[str, Sequence[Path]]]
    """The run folders of each method, by its name."""
    unfinished: Sequence[tuple[str, str]] = ()
    """Combinations of a grid that have no results, each with the reason."""


@dataclass(frozen=True)
class _Method:
    """A run or its seeds, or the score files of another system."""

    folders: Sequence[Path]
    runs: Sequence[FinishedRun]
    """Empty for score files."""
    clips: Sequence[Sequence[RankedClip]]
    """Those of each run, or of the score files."""


def compare_runs(
    folders: Sequence[Path], *, against: str = "", labels: Path | None = None
) -> RunsCompared:
    """Compare run folders and the combinations of grids with the first one, or with `against`.

    Combinations of a grid that differ in their seed only are one method. A folder of
    `anomaly_score_*.csv` is a method too. `labels` is a manifest whose labels are used in place of
    those of the runs. Raises UsageError for a run that is given twice, and ValueError for a folder
    that is no run and for runs that cannot be compared.
    """
    from report.comparison import compare

    methods: list[_Method] = []
    unfinished: list[tuple[str, str]] = []
    for folder in folders:
        found, without_results = _methods(folder)
        methods += found
        unfinished += without_results
    _refuse_twice([folder for method in methods for folder in method.folders])
    if len(methods) < 2:
        raise UsageError(
            f"compare needs two runs, and there is one: {methods[0].folders[0]}; name another run "
            "folder, or a grid"
        )
    known = Labels(labels) if labels else None
    entrants = [
        _entrant(name, method, known)
        for name, method in zip(_names(methods), _with_one_key(methods), strict=True)
    ]
    order = _first(entrants, against)
    return RunsCompared(
        compare([entrants[i] for i in order]),
        [(entrants[i].name, methods[i].folders) for i in order],
        unfinished,
    )


def _methods(folder: Path) -> tuple[list[_Method], Sequence[tuple[str, str]]]:
    """Read the methods in a folder, and list the combinations of a grid without results."""
    from report.evaluation import clips_of_score_files
    from report.score_files import SCORES, score_files_in

    if not holds_runs(folder) and score_files_in(folder, SCORES):
        return [_Method([folder], [], [clips_of_score_files(folder)])], []
    found = find_runs(folder)
    groups: dict[tuple[tuple[str, str], ...], list[FinishedRun]] = {}
    for run in found.runs:
        groups.setdefault(tuple(run.method.items()), []).append(run)
    methods = [
        _Method([run.folder for run in runs], runs, [run.clips for run in runs])
        for runs in groups.values()
    ]
    return methods, found.unfinished


def _refuse_twice(folders: Sequence[Path]) -> None:
    """Raise UsageError for a folder that is given twice."""
    places = Counter(folder.resolve() for folder in folders)
    for folder in folders:
        if places[folder.resolve()] > 1:
            raise UsageError(f"{folder} is given twice; a run does not differ from itself")


def _with_one_key(methods: Sequence[_Method]) -> list[_Method]:
    """Call the clips of score files by their keys in the runs, where the file name is enough."""
    keys: dict[tuple[Machine, str], set[str]] = {}
    for method in methods:
        for clip in (clip for clips in method.clips for clip in clips if method.runs):
            keys.setdefault((clip.machine, PurePosixPath(clip.key).name), set()).add(clip.key)

    def renamed(clip: RankedClip) -> RankedClip:
        found = keys.get((clip.machine, clip.key), set())
        return replace(clip, key=next(iter(found))) if len(found) == 1 else clip

    return [
        method if method.runs else replace(method, clips=[[*map(renamed, method.clips[0])]])
        for method in methods
    ]


def _names(methods: Sequence[_Method]) -> list[str]:
    """Name each method; those that would share a name are called by their folders."""
    of_runs = iter(names_of([method.runs[0] for method in methods if method.runs]))
    names = [
        next(of_runs) if method.runs else method.folders[0].resolve().name for method in methods
    ]
    for part in (1, 2):
        counts = Counter(names)
        names = [
            name if counts[name] == 1 else "/".join(method.folders[0].resolve().parts[-part:])
            for name, method in zip(names, methods, strict=True)
        ]
    return names


def _entrant(name: str, method: _Method, labels: Labels | None) -> Entrant:
    from report.comparison import Entrant

    clips = [labels.given_to(own) if labels else own for own in method.clips]
    rows = method.runs[0].results if method.runs else ()
    n_train = {(row.machine_type, row.machine_id): row.n_train for row in rows}
    return Entrant(name, clips, n_train)


def _first(entrants: Sequence[Entrant], against: str) -> list[int]:
    """Order methods as they were given, with `against` first."""
    names = [entrant.name for entrant in entrants]
    order = list(range(len(names)))
    if not against:
        return order
    if against not in names:
        raise UsageError(f"--against {against}: {nearest_hint(against, names)}")
    order.remove(names.index(against))
    return [names.index(against), *order]


def comparison_facts(result: RunsCompared) -> dict[str, Any]:
    """Return a comparison as JSON-able values."""
    compared = result.compared
    return {
        "first": compared.names[0],
        "runs": [
            {"name": name, "folders": [str(folder) for folder in folders]}
            for name, folders in result.folders
        ],
        "sentences": compared.sentences,
        "comparisons": [asdict(row) for row in compared.rows],
        "remarks": list(compared.remarks),
        "unfinished": [{"name": name, "reason": reason} for name, reason in result.unfinished],
    }
