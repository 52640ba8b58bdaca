"""Compare anomaly scores with the labels: AUC and pAUC per machine and over machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from detect import metrics
from detect.fitting import Array, ClipTable, FitPer, Scores

POOLED_APART = "scores of separate models are pooled"


SUMMARIES = ("mean", "hmean", "pooled")


TOTAL = "total"
"""The machine type of the averages over several types."""


DOMAIN_COLUMNS = ("auc_source", "auc_target", "pauc_source", "pauc_target")


@dataclass(frozen=True)
class Result:
    """One row of the table: a machine, or a summary over a type's machines."""

    machine_type: str
    machine_id: str
    n_train: int
    n_normal: int
    n_anomalous: int
    auc: float | None = None
    auc_low: float | None = None
    auc_high: float | None = None
    pauc: float | None = None
    pauc_low: float | None = None
    pauc_high: float | None = None
    auc_source: float | None = None
    auc_target: float | None = None
    pauc_source: float | None = None
    pauc_target: float | None = None
    n_unlabelled: int = 0
    note: str = ""

    @property
    def is_summary(self) -> bool:
        return self.machine_id in SUMMARIES


@dataclass(frozen=True)
class _Rated:
    """A machine's labelled test clips and their resamples."""

    truth: NDArray[np.bool_]
    scores: Array
    resampled: metrics.Resampled | None


def results(
    table: ClipTable,
    scores: Sequence[Scores],
    fit_per: FitPer = "id",
    year: int = 2020,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> list[Result]:
    """Compare scores with labels: a row per machine ID, then mean, hmean and pooled per type.

    Several types end with the `mean` and `hmean` over all their machine IDs, of type `total`.
    """
    row_of = {key: i for i, key in enumerate(table.key)}
    of_machine: dict[tuple[str, str], list[tuple[int, float]]] = {}
    n_train: dict[tuple[str, str], int] = {}
    for fitted in scores:
        unit = fitted.unit
        for key, machine_id, score in zip(
            unit.test_keys, unit.test_ids, fitted.scores, strict=True
        ):
            machine = (unit.machine_type, machine_id)
            of_machine.setdefault(machine, []).append((row_of[key], float(score)))
        for machine_id in unit.train_ids:
            machine = (unit.machine_type, machine_id)
            n_train[machine] = n_train.get(machine, 0) + 1

    rows: list[Result] = []
    every: list[Result] = []
    all_rated: list[_Rated] = []
    for machine_type in sorted({machine_type for machine_type, _ in of_machine}):
        machines = sorted(machine for machine in of_machine if machine[0] == machine_type)
        own: list[Result] = []
        rated: list[_Rated] = []
        for machine in machines:
            result, clips = _of_machine(
                table,
                machine,
                of_machine[machine],
                n_train.get(machine, 0),
                year,
                n_bootstrap,
                seed,
            )
            own.append(result)
            rated.append(clips)
        rows += [*own, *_averages(machine_type, own, rated)]
        rows.append(_pooled(machine_type, own, rated, fit_per, n_bootstrap, seed))
        every += own
        all_rated += rated
    if len({row.machine_type for row in every}) > 1:
        rows += _averages(TOTAL, every, all_rated)
    return rows


def _of_machine(
    table: ClipTable,
    machine: tuple[str, str],
    clips: Sequence[tuple[int, float]],
    n_train: int,
    year: int,
    n_bootstrap: int,
    seed: int,
) -> tuple[Result, _Rated]:
    labelled = [(i, score) for i, score in clips if table.label[i] in ("normal", "anomalous")]
    truth = np.array([table.label[i] == "anomalous" for i, _ in labelled], dtype=bool)
    values = np.array([score for _, score in labelled], dtype=np.float64)
    n_anomalous, n_normal = int(truth.sum()), int((~truth).sum())
    counts = (n_train, n_normal, n_anomalous)
    n_unlabelled = len(clips) - len(labelled)
    if not n_anomalous or not n_normal:
        note = "no labels" if not labelled else f"{n_normal} normal, {n_anomalous} anomalous"
        result = Result(*machine, *counts, n_unlabelled=n_unlabelled, note=note)
        return result, _Rated(truth, values, None)
    # machines resample apart, or their mean would not be steadier than each of them
    own_seed = [seed, crc32(" ".join(machine).encode())]
    drawn = metrics.resample(truth, values, n_resamples=n_bootstrap, seed=own_seed)
    by_domain: dict[str, Any] = {}
    domains = [table.domain[i] for i, _ in labelled]
    if any(domains):
        found = metrics.domain_aucs(truth, values, domains, year)
        by_domain = {"auc_source": found.auc_source, "auc_target": found.auc_target}
        by_domain |= {"pauc_source": found.pauc_source, "pauc_target": found.pauc_target}
    result = Result(
        *machine,
        *counts,
        metrics.auc(truth, values),
        *metrics.interval(drawn.auc),
        metrics.pauc(truth, values),
        *metrics.interval(drawn.pauc),
        n_unlabelled=n_unlabelled,
        note=f"{n_unlabelled} clips without label" if n_unlabelled else "",
    )
    return replace(result, **by_domain), _Rated(truth, values, drawn)


def _averages(machine_type: str, own: Sequence[Result], rated: Sequence[_Rated]) -> list[Result]:
    """Mean and harmonic mean over machine IDs."""
    valued = [r for r in own if r.auc is not None]
    drawn = [clips.resampled for clips in rated if clips.resampled is not None]
    left_out = len(own) - len(valued)
    note = f"{left_out} of {len(own)} machine IDs have no AUC" if left_out else ""
    averages: list[tuple[str, Callable[[Any], Array]]] = [
        ("mean", lambda values: np.mean(values, axis=0)),
        ("hmean", metrics.harmonic_mean),
    ]
    if not valued:
        return [Result(machine_type, name, *_counts(own), note=note) for name, _ in averages]
    rows = []
    for name, average in averages:
        row = Result(
            machine_type,
            name,
            *_counts(own),
            float(average([r.auc for r in valued])),
            *metrics.interval(average([d.auc for d in drawn])),
            float(average([r.pauc for r in valued])),
            *metrics.interval(average([d.pauc for d in drawn])),
            note=note,
        )
        for column in DOMAIN_COLUMNS:
            present = [value for r in valued if (value := getattr(r, column)) is not None]
            if present:
                averaged: dict[str, Any] = {column: float(average(present))}
                row = replace(row, **averaged)
        rows.append(row)
    return rows


def _pooled(
    machine_type: str,
    own: Sequence[Result],
    rated: Sequence[_Rated],
    fit_per: FitPer,
    n_bootstrap: int,
    seed: int,
) -> Result:
    """One ROC over the clips of all machine IDs of a type."""
    if all(r.auc is None for r in own):
        return Result(machine_type, "pooled", *_counts(own), note="no machine ID has an AUC")
    truth = np.concatenate([clips.truth for clips in rated])
    values = np.concatenate([clips.scores for clips in rated])
    pooled = metrics.resample(truth, values, n_resamples=n_bootstrap, seed=seed)
    return Result(
        machine_type,
        "pooled",
        *_counts(own),
        metrics.auc(truth, values),
        *metrics.interval(pooled.auc),
        metrics.pauc(truth, values),
        *metrics.interval(pooled.pauc),
        note=POOLED_APART if fit_per == "id" and len(own) > 1 else "",
    )


def _counts(own: Sequence[Result]) -> tuple[int, int, int]:
    return (
        sum(r.n_train for r in own),
        sum(r.n_normal for r in own),
        sum(r.n_anomalous for r in own),
    )


def official_score(rows: Sequence[Result], year: int) -> float | None:
    """DCASE's one figure: 2020 the mean of AUC and pAUC over IDs, later the harmonic mean."""
    machines = [r for r in rows if not r.is_summary and r.auc is not None]
    if not machines:
        return None
    if year <= 2020:
        return float(np.mean([[r.auc, r.pauc] for r in machines]))
    columns = ("auc_source", "auc_target") + (
        ("pauc_source", "pauc_target") if year == 2021 else ("pauc",)
    )
    values = [v for r in machines for c in columns if (v := getattr(r, c)) is not None]
    return float(metrics.harmonic_mean(values)) if values else None
