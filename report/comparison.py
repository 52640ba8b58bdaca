"""Runs compared on the clips they share: paired differences per machine, type and over all.

The first run is the one that the others are compared with. Each figure has its p-value adjusted
(Holm) over all comparisons of its level: machines, types, or all together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detect import metrics
from detect.metrics import FEWEST_FOR_PAUC
from detect.paired import (
    FEWEST,
    Difference,
    auc_difference,
    holm,
    mean_difference,
    pauc_difference,
)
from report.ranking import RankedClip
from report.score_files import Machine

Level = Literal["machine", "type", "all"]
SURE = 0.05
"""Adjusted p-value up to which a difference is called one."""
FEW = 20
"""Clips of a class below which DeLong's interval holds in 87 to 100 % of the cases."""
LISTED = 4
"""As many machines as one sentence names."""
ALL = "all machines"


@dataclass(frozen=True)
class Entrant:
    """A method to compare: one run, or several that differ in their seed."""

    name: str
    runs: Sequence[Sequence[RankedClip]]
    n_train: Mapping[Machine, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """AUC or pAUC of two methods, and their difference with interval and p-value."""

    own: float
    first: float
    difference: float
    low: float
    high: float
    p_value: float
    adjusted: float = 1.0
    """The p-value over all comparisons of the level, by Holm."""
    note: str = ""

    @property
    def is_sure(self) -> bool:
        return self.adjusted <= SURE


@dataclass(frozen=True)
class Comparison:
    """One method against the first one, on a machine, a type or all machines."""

    level: Level
    machine: str
    name: str
    first: str
    n_machines: int
    n_normal: int
    n_anomalous: int
    auc: Figure | None = None
    """None where a class has fewer than two clips."""
    pauc: Figure | None = None
    """None where a class has fewer than ten clips."""
    note: str = ""


@dataclass(frozen=True)
class Compared:
    """All comparisons, and what a reader must know of the clips behind them."""

    names: Sequence[str]
    rows: Sequence[Comparison]
    remarks: Sequence[str]

    def of(self, name: str) -> list[Comparison]:
        """Return the rows of one method."""
        return [row for row in self.rows if row.name == name]

    @property
    def sentences(self) -> list[str]:
        """Say of each method what the data tell, in plain words."""
        return [_sentence(self.of(name)) for name in self.names[1:]]


@dataclass(frozen=True)
class _Shared:
    """The labelled clips of one machine that every run rates."""

    machine: Machine
    truth: NDArray[np.bool_]
    scores: NDArray[np.float64]
    """(n_runs, n_clips), the runs of all methods one after the other."""

    @property
    def name(self) -> str:
        return " ".join(self.machine).strip()


def compare(entrants: Sequence[Entrant]) -> Compared:
    """Compare every method with the first one.

    Clips that not every run rates, or that have no label, are left out, and it is said. Raises
    ValueError where runs disagree about a label, and where nothing can be compared.
    """
    labels = _labels(entrants)
    runs = [
        {(*clip.machine, clip.key): clip.score for clip in run if np.isfinite(clip.score)}
        for entrant in entrants
        for run in entrant.runs
    ]
    shared = sorted(set.intersection(*map(set, runs)))
    if not shared:
        raise ValueError(
            "the runs share no test clip: "
            + ", ".join(f"{entrant.name} has {_machines_in(entrant)}" for entrant in entrants)
        )
    labelled = [clip for clip in shared if labels[clip] != "unknown"]
    if not labelled:
        raise ValueError(
            f"none of the {len(shared)} test clips that the runs share has a label, so AUC cannot "
            "be compared; give labels with --labels manifest.csv"
        )
    machines = []
    for machine in dict.fromkeys(clip[:2] for clip in labelled):
        clips = [clip for clip in labelled if clip[:2] == machine]
        truth = np.array([labels[clip] == "anomalous" for clip in clips])
        scores = np.array([[run[clip] for clip in clips] for run in runs])
        machines.append(_Shared(machine, truth, scores))
    rows = [
        row
        for number in range(1, len(entrants))
        for row in _against_first(entrants, number, machines)
    ]
    remarks = [*_remarks(entrants, shared, len(labelled)), *_trained_apart(entrants)]
    return Compared([entrant.name for entrant in entrants], _adjusted(rows), remarks)


def _labels(entrants: Sequence[Entrant]) -> dict[tuple[str, str, str], str]:
    """Label of each clip by machine and key; ValueError where two runs contradict each other."""
    labels: dict[tuple[str, str, str], str] = {}
    said_by: dict[tuple[str, str, str], str] = {}
    for entrant in entrants:
        for run in entrant.runs:
            for clip in run:
                place = (*clip.machine, clip.key)
                known = labels.get(place, "unknown")
                if "unknown" not in (known, clip.label) and known != clip.label:
                    raise ValueError(
                        f"the runs disagree about {clip.key!r} of {' '.join(clip.machine)}: "
                        f"{known} in {said_by[place]}, {clip.label} in {entrant.name}; run both "
                        "on the same labels, or give the right ones with --labels manifest.csv"
                    )
                if known == "unknown":
                    labels[place], said_by[place] = clip.label, entrant.name
    return labels


def _against_first(
    entrants: Sequence[Entrant], number: int, machines: Sequence[_Shared]
) -> Iterator[Comparison]:
    """Compare one method with the first: machines, then types, then all."""
    weights = _weights(entrants, number)
    names = entrants[number].name, entrants[0].name
    found = [_of_machine(machine, names, weights, seed) for seed, machine in enumerate(machines)]
    yield from (row for row, _, _ in found)
    types = Counter(machine.machine[0] for machine in machines)
    for machine_type, n_machines in types.items():
        if n_machines > 1 and len(types) > 1:
            own = [
                each
                for each, machine in zip(found, machines, strict=True)
                if machine.machine[0] == machine_type
            ]
            yield _mean("type", f"{machine_type} mean", own)
    if len(machines) > 1:
        yield _mean("all", ALL, found)


def _weights(entrants: Sequence[Entrant], number: int) -> NDArray[np.float64]:
    """Weigh all runs: those of the method share 1, those of the first -1, others are out."""
    parts = []
    for i, entrant in enumerate(entrants):
        share = (i == number) - (i == 0)
        parts.append(np.full(len(entrant.runs), share / len(entrant.runs)))
    return np.concatenate(parts)


_Found = tuple[Comparison, Difference | None, Difference | None]
"""A machine's row, and its differences of AUC and pAUC."""


def _of_machine(
    shared: _Shared, names: tuple[str, str], weights: NDArray[np.float64], seed: int
) -> _Found:
    """Compare on one machine, as far as it has enough clips of both classes."""
    n_anomalous = int(shared.truth.sum())
    n_normal = len(shared.truth) - n_anomalous
    row = Comparison("machine", shared.name, *names, 1, n_normal, n_anomalous)
    fewest = min(n_normal, n_anomalous)
    used = weights != 0
    scores, contrast = shared.scores[used], weights[used]
    if fewest < FEWEST:
        note = f"{n_normal} normal and {n_anomalous} anomalous clips; a comparison needs 2 of each"
        return replace(row, note=note), None, None
    auc = auc_difference(shared.truth, scores, contrast)
    few = f"fewer than {FEW} clips of a class, so the interval is approximate"
    notes = [auc.note or (few if fewest < FEW else "")]
    figure = _figure(auc, _means(metrics.auc, shared.truth, scores, contrast))
    if fewest < FEWEST_FOR_PAUC:
        notes.append("pAUC is not compared, since that needs 10 normal and 10 anomalous clips")
        return replace(row, auc=figure, note="; ".join(filter(None, notes))), auc, None
    pauc = pauc_difference(shared.truth, scores, contrast, seed=seed)
    of_pauc = _figure(pauc, _means(metrics.pauc, shared.truth, scores, contrast))
    return replace(row, auc=figure, pauc=of_pauc, note=notes[0]), auc, pauc


def _means(
    metric: Callable[..., float],
    truth: NDArray[np.bool_],
    scores: NDArray[np.float64],
    contrast: NDArray[np.float64],
) -> tuple[float, float]:
    """Mean figure over the runs of the method, and of the first."""
    values = np.array([metric(truth, own) for own in scores])
    return float(values[contrast > 0].mean()), float(values[contrast < 0].mean())


def _figure(difference: Difference, of_methods: tuple[float, float]) -> Figure:
    return Figure(
        *of_methods,
        difference.value,
        *difference.interval,
        difference.p_value,
        note=difference.note,
    )


def _mean(level: Level, name: str, found: Sequence[_Found]) -> Comparison:
    """Mean of the differences of machines, of those that have one."""
    rows = [row for row, _, _ in found]
    row = Comparison(
        level,
        name,
        rows[0].name,
        rows[0].first,
        len(rows),
        sum(each.n_normal for each in rows),
        sum(each.n_anomalous for each in rows),
    )
    figures: dict[str, Any] = {}
    for i, figure in enumerate(("auc", "pauc")):
        differences = [each for _, *pair in found if (each := pair[i]) is not None]
        own = [value for each in rows if (value := getattr(each, figure)) is not None]
        if own:
            of_methods = (
                float(np.mean([value.own for value in own])),
                float(np.mean([value.first for value in own])),
            )
            figures[figure] = _figure(mean_difference(differences), of_methods)
        if len(own) < len(rows) and own:
            lacking = f"{len(rows) - len(own)} of {len(rows)} machines have too few clips"
            label = "AUC" if figure == "auc" else "pAUC"
            figures["note"] = f"{label}: {lacking}"
    return replace(row, **figures)


def _adjusted(rows: Sequence[Comparison]) -> list[Comparison]:
    """Adjust the p-values of each figure over all rows of a level."""
    adjusted = list(rows)
    for level in ("machine", "type", "all"):
        for name in ("auc", "pauc"):
            own = [i for i, row in enumerate(rows) if row.level == level and getattr(row, name)]
            p_values = holm([getattr(rows[i], name).p_value for i in own])
            for i, p_value in zip(own, p_values, strict=True):
                figure = replace(getattr(rows[i], name), adjusted=p_value)
                adjusted[i] = replace(adjusted[i], **{name: figure})
    return adjusted


def _remarks(
    entrants: Sequence[Entrant], shared: Sequence[tuple[str, str, str]], n_labelled: int
) -> Iterator[str]:
    """Say which machines and clips are left out, and why."""
    common = {clip[:2] for clip in shared}
    for entrant in entrants:
        own = {(*clip.machine, clip.key) for run in entrant.runs for clip in run}
        absent = sorted({clip[:2] for clip in own} - common)
        if absent:
            yield f"only some runs have {_listed(' '.join(m).strip() for m in absent)}; left out"
        n_more = sum(clip[:2] in common for clip in own - set(shared))
        if n_more:
            yield f"{n_more} clips of {entrant.name} are not rated by every run; left out"
    seeds: dict[int, list[str]] = {}
    for entrant in entrants:
        seeds.setdefault(len(entrant.runs), []).append(entrant.name)
    for n_seeds, names in seeds.items():
        if n_seeds > 1:
            mean = f"mean over {n_seeds} seeds; intervals are over clips, not over seeds"
            yield f"{_listed(names)}: {mean}"
    if n_labelled < len(shared):
        yield f"{len(shared) - n_labelled} clips without label are left out"


def _trained_apart(entrants: Sequence[Entrant]) -> Iterator[str]:
    """Say which pairs of runs were trained on different numbers of clips."""
    for one, other in combinations(entrants, 2):
        for machine in one.n_train.keys() & other.n_train.keys():
            counts = one.n_train[machine], other.n_train[machine]
            if counts[0] != counts[1]:
                yield (
                    f"{one.name} was trained on {counts[0]} clips of {' '.join(machine)}, "
                    f"{other.name} on {counts[1]}: the difference is one of data, too"
                )
                break


def _machines_in(entrant: Entrant) -> str:
    found = sorted({" ".join(clip.machine).strip() for run in entrant.runs for clip in run})
    return _listed(found)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _sentence(rows: Sequence[Comparison]) -> str:
    """Say what the AUCs of one method tell: over all machines, then where it differs."""
    name, first = rows[0].name, rows[0].first
    over_all = [row for row in rows if row.level == "all" and row.auc]
    apart = [row for row in rows if row.level == "machine"]
    parts = []
    if over_all:
        n = over_all[0].n_machines
        parts.append(_told(over_all[0], f" on average over {n} machines", name, first))
    better = [row for row in apart if row.auc and row.auc.is_sure and row.auc.difference > 0]
    worse = [row for row in apart if row.auc and row.auc.is_sure and row.auc.difference < 0]
    unsure = [row for row in apart if row not in better and row not in worse]
    if len(apart) == 1:
        return _told(apart[0], f" on {apart[0].machine}", name, first) + "."
    for kind, sure in (("better", better), ("worse", worse)):
        if sure:
            where = _listed(f"{row.machine} by {_by(row.auc)}" for row in sure if row.auc)
            parts.append(f"it is {kind} on {where}")
    if unsure:
        parts.append(f"on {_listed(row.machine for row in unsure)} the data cannot tell")
    return "; ".join(parts) + "."


def _told(row: Comparison, where: str, name: str, first: str) -> str:
    if row.auc is None:
        return f"{name} and {first} cannot be compared{where}: {row.note}"
    if row.auc.is_sure:
        kind = "better" if row.auc.difference > 0 else "worse"
        return f"{name} is {kind} than {first} by {_by(row.auc)}{where}"
    low, high = row.auc.low, row.auc.high
    return (
        f"The data cannot tell {name} from {first}{where}: their AUCs differ by "
        f"{rounded(row.auc.difference, '+')} ({rounded(low, '+')} to {rounded(high, '+')})"
    )


def _by(figure: Figure) -> str:
    """Write how much better or worse: `0.03 (0.01 to 0.05)`."""
    ends = (figure.low, figure.high) if figure.difference > 0 else (-figure.high, -figure.low)
    return f"{abs(figure.difference):.2f} ({rounded(ends[0])} to {rounded(ends[1])})"


def rounded(value: float, sign: str = "") -> str:
    """Write a difference with two decimals, and never -0.00."""
    return f"{round(value, 2) + 0.0:{sign}.2f}"
