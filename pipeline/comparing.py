"""`compare`: runs and grids, compared on the clips they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground.text import nearest_hint
from pipeline.exits import UsageError
from pipeline.finished_run import FinishedRun, find_runs, names_of
from pipeline.labels import Labels

if TYPE_CHECKING:
    from report.comparison import Compared, Entrant


@dataclass(frozen=True)
class RunsCompared:
    """What was compared, and what it tells."""

    compared: Compared
    folders: Sequence[tuple[str, Sequence[Path]]]
    """The run folders of each method, by its name."""
    unfinished: Sequence[tuple[str, str]] = ()
    """Combinations of a grid that have no results, each with the reason."""


def compare_runs(
    folders: Sequence[Path], *, against: str = "", labels: Path | None = None
) -> RunsCompared:
    """Compare run folders and the combinations of grids with the first one, or with `against`.

    Combinations of a grid that differ in their seed only are one method. `labels` is a manifest
    whose labels are used in place of those of the runs. Raises UsageError for a run that is given
    twice, and ValueError for a folder that is no run and for runs that cannot be compared.
    """
    from report.comparison import compare

    groups: dict[tuple[int, tuple[tuple[str, str], ...]], list[FinishedRun]] = {}
    unfinished: list[tuple[str, str]] = []
    seen: set[Path] = set()
    for number, folder in enumerate(folders):
        found = find_runs(folder)
        unfinished += found.unfinished
        for run in found.runs:
            place = run.folder.resolve()
            if place in seen:
                raise UsageError(f"{run.folder} is given twice; a run does not differ from itself")
            seen.add(place)
            groups.setdefault((number, tuple(run.method.items())), []).append(run)
    if len(groups) < 2:
        what = next(iter(groups.values()))[0].folder
        raise UsageError(
            f"compare needs two runs, and there is one: {what}; name another run folder, or a grid"
        )
    methods = list(groups.values())
    known = Labels(labels) if labels else None
    entrants = [
        _entrant(name, runs, known) for name, runs in zip(_names(methods), methods, strict=True)
    ]
    order = _first(entrants, against)
    return RunsCompared(
        compare([entrants[i] for i in order]),
        [(entrants[i].name, [run.folder for run in methods[i]]) for i in order],
        unfinished,
    )


def _names(methods: Sequence[Sequence[FinishedRun]]) -> list[str]:
    """Name each method; those that would share a name are called by their folders."""
    first = [runs[0] for runs in methods]
    names = names_of(first)
    for part in (1, 2):
        counts = Counter(names)
        names = [
            name if counts[name] == 1 else "/".join(run.folder.resolve().parts[-part:])
            for name, run in zip(names, first, strict=True)
        ]
    return names


def _entrant(name: str, runs: Sequence[FinishedRun], labels: Labels | None) -> Entrant:
    from report.comparison import Entrant

    clips = [labels.given_to(run.clips) if labels else run.clips for run in runs]
    n_train = {(row.machine_type, row.machine_id): row.n_train for row in runs[0].results}
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
