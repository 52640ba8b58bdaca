"""Compare anomaly scores with the labels: AUC, pAUC and decisions per machine and over machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detect import metrics
from detect.detector import last_step
from detect.fitting import Array, ClipTable, FitPer, Scores
from detect.thresholds import MachineDecisions, few_clips_warning, proportion_interval

POOLED_APART = "scores of separate models are pooled"
SUMMARIES = ("mean", "hmean", "pooled")
TOTAL = "total"
"""The machine type of the averages over several types."""
DOMAIN_COLUMNS = ("auc_source", "auc_target", "pauc_source", "pauc_target")
EQUAL = 1e-12
"""Scores that differ by less than this share of the largest are equal."""
HUGE = 1e12
"""A column's deviation that no real embedding has."""


@dataclass(frozen=True)
class Decided:
    """What thresholds decided on some test clips; None where a rate has no cases."""

    promised_false_alarms: float | None
    """Where several thresholds decided: their mean, weighted by their normal clips."""
    n_decided_anomalous: int
    n_decided_suspicious: int
    threshold: float | None = None
    """None where several thresholds decided."""
    n_calibration: int = 0
    """Out-of-fold scores behind the thresholds."""
    false_alarms: float | None = None
    """Share of the normal clips that was decided anomalous."""
    false_alarms_low: float | None = None
    false_alarms_high: float | None = None
    recall: float | None = None
    precision: float | None = None
    f1: float | None = None
    f1_ev: float | None = None
    """Of the scores, whatever the threshold; None for scores of separate models."""
    note: str = ""


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
    decided: Decided | None = None
    decided_source: Decided | None = None
    decided_target: Decided | None = None

    def __post_init__(self) -> None:
        for name in ("decided", "decided_source", "decided_target"):
            value = getattr(self, name)
            if isinstance(value, Mapping):  # read from JSON
                object.__setattr__(self, name, Decided(**value))

    @property
    def name(self) -> str:
        return f"{self.machine_type} {self.machine_id}".strip()

    @property
    def is_summary(self) -> bool:
        return self.machine_id in SUMMARIES

    def decision_columns(self) -> dict[str, Any]:
        """Return the decisions as columns of a file; those of domains end in their name."""
        parts = {"": self.decided, "_source": self.decided_source, "_target": self.decided_target}
        return {
            f"{field.name}{suffix}": getattr(decided, field.name)
            for suffix, decided in parts.items()
            if decided is not None
            for field in fields(Decided)
        }


@dataclass(frozen=True)
class _Clips:
    """Test clips of a machine, or of several; one entry per clip in each array."""

    label: NDArray[np.str_]
    score: Array
    domain: NDArray[np.str_]
    verdict: NDArray[np.str_]
    """"" where nothing was decided."""
    promised: Array
    """False-alarm rate that the clip's threshold promised; NaN where nothing was decided."""

    def chosen(self, mask: NDArray[np.bool_]) -> _Clips:
        return _Clips(*(getattr(self, field.name)[mask] for field in fields(self)))

    @property
    def labelled(self) -> _Clips:
        return self.chosen((self.label == "normal") | (self.label == "anomalous"))

    @property
    def truth(self) -> NDArray[np.bool_]:
        return np.asarray(self.label == "anomalous")


@dataclass(frozen=True)
class _Machine:
    """What the rows of a machine come from."""

    machine_type: str
    machine_id: str
    n_train: int
    clips: _Clips
    decided: MachineDecisions | None
    why_equal: str


def results(
    table: ClipTable,
    scores: Sequence[Scores],
    fit_per: FitPer = "id",
    year: int = 2020,
    decided: Sequence[MachineDecisions] = (),
) -> list[Result]:
    """Compare scores with labels: a row per machine ID, then mean, hmean and pooled per type.

    Several types end with the `mean` and `hmean` over all their machine IDs, of type `total`.
    `decided` are the machines' decisions (`detect.thresholds.decide_machines`).
    """
    rows: list[Result] = []
    every: list[Result] = []
    machines = _machines(table, scores, decided)
    for machine_type in sorted({machine.machine_type for machine in machines}):
        of_type = [machine for machine in machines if machine.machine_type == machine_type]
        own = _with_intervals([_of_machine(machine, year) for machine in of_type])
        pooled = _with_intervals([_pooled(of_type, own, fit_per)])
        rows += [*own, *_averages(machine_type, own), *pooled]
        every += own
    if len({row.machine_type for row in every}) > 1:
        rows += _averages(TOTAL, every)
    return rows


def _machines(
    table: ClipTable, scores: Sequence[Scores], decided: Sequence[MachineDecisions]
) -> list[_Machine]:
    """Gather each machine's test clips, in the order of types and IDs."""
    row_of = {key: i for i, key in enumerate(table.key)}
    decided_of = {(each.machine_type, each.machine_id): each for each in decided}
    found: dict[tuple[str, str], _Machine] = {}
    for fitted in scores:
        unit = fitted.unit
        ids, train_ids = np.array(unit.test_ids), np.array(unit.train_ids)
        for machine_id in set(unit.test_ids):
            own = np.flatnonzero(ids == machine_id)
            keys = [unit.test_keys[i] for i in own]
            name = (unit.machine_type, machine_id)
            decisions = decided_of.get(name)
            clips = _clips_of(table, [row_of[key] for key in keys], fitted.scores[own], decisions)
            n_train = int(np.sum(train_ids == machine_id))
            if name in found:  # DCASE 2021 has the scores of each domain apart
                clips = _together([found[name].clips, clips])
                n_train += found[name].n_train
            found[name] = _Machine(*name, n_train, clips, decisions, why_equal(fitted.detector))
    return [found[name] for name in sorted(found)]


def _clips_of(
    table: ClipTable, rows: Sequence[int], scores: Array, machine: MachineDecisions | None
) -> _Clips:
    """Put together what is known of a machine's test clips, which are these rows of the table."""
    verdict_of: dict[str, str] = {}
    promised = np.nan
    if machine is not None and machine.decisions is not None:
        verdict_of |= zip(machine.keys, machine.decisions.verdicts, strict=True)
        promised = machine.decisions.threshold.false_alarm_rate
    return _Clips(
        np.array([table.label[i] for i in rows], dtype=np.str_),
        np.asarray(scores, dtype=np.float64),
        np.array([table.domain[i] for i in rows], dtype=np.str_),
        np.array([verdict_of.get(table.key[i], "") for i in rows], dtype=np.str_),
        np.full(len(rows), promised),
    )


def _of_machine(machine: _Machine, year: int) -> Result:
    """Compute the row of one machine; figures stay empty where a class has no clips."""
    labelled = machine.clips.labelled
    truth, values = labelled.truth, labelled.score
    n_anomalous, n_normal = int(truth.sum()), int((~truth).sum())
    n_unlabelled = len(machine.clips.label) - len(truth)
    row = Result(
        machine.machine_type,
        machine.machine_id,
        machine.n_train,
        n_normal,
        n_anomalous,
        n_unlabelled=n_unlabelled,
        note="; ".join(_notes(machine, n_normal, n_anomalous, n_unlabelled)),
        **_decided_by_domain(machine),
    )
    if not n_anomalous or not n_normal or not np.isfinite(values).all():
        return row
    found = _figures(truth, values)
    if any(labelled.domain):
        by_domain = metrics.domain_aucs(truth, values, labelled.domain.tolist(), year)
        found |= {"auc_source": by_domain.auc_source, "auc_target": by_domain.auc_target}
        found |= {"pauc_source": by_domain.pauc_source, "pauc_target": by_domain.pauc_target}
    return replace(row, **found)


def _figures(truth: NDArray[np.bool_], values: Array) -> dict[str, Any]:
    """AUC and pAUC, as fields of a Result."""
    return {"auc": metrics.auc(truth, values), "pauc": metrics.pauc(truth, values)}


def _with_intervals(rows: Sequence[Result]) -> list[Result]:
    """Fill in the intervals of all rows at once, which is much faster than one by one."""
    valued = [[r.auc, r.pauc, r.n_normal, r.n_anomalous] for r in rows if r.auc is not None]
    auc, pauc, normal, anomalous = np.array(valued, dtype=np.float64).reshape(-1, 4).T
    limits = [
        *metrics.auc_interval(auc, normal, anomalous),
        *metrics.pauc_interval(pauc, normal, anomalous),
    ]
    limits_of_rows = iter(np.stack(limits, axis=1).tolist())
    filled = []
    for row in rows:
        found: dict[str, Any] = {}
        if row.auc is not None:
            names = ("auc_low", "auc_high", "pauc_low", "pauc_high")
            own = zip(names, next(limits_of_rows), strict=True)
            found = {name: limit if np.isfinite(limit) else None for name, limit in own}
        filled.append(replace(row, **found))
    return filled


def _notes(machine: _Machine, n_normal: int, n_anomalous: int, n_unlabelled: int) -> list[str]:
    """Say what a reader of the row must know."""
    notes = []
    scores = machine.clips.score
    rated = scores[np.isfinite(scores)]
    n_unrated = int(np.sum(~np.isfinite(machine.clips.labelled.score)))
    if not n_normal and not n_anomalous:
        notes.append("no labels")
    elif not n_normal or not n_anomalous:
        notes.append(f"{n_normal} normal, {n_anomalous} anomalous")
    elif n_unlabelled:
        notes.append(f"{n_unlabelled} clips without label")
    if n_unrated:
        notes.append(f"{n_unrated} labelled clips have no score, so there is no AUC")
    if len(rated) > 1 and np.ptp(rated) <= EQUAL * np.abs(rated).max():
        notes.append(f"all scores are equal{machine.why_equal and ': ' + machine.why_equal}")
    if n_normal and n_anomalous and min(n_normal, n_anomalous) < metrics.FEWEST_FOR_PAUC:
        notes.append(
            f"pAUC has no interval, since that needs {metrics.FEWEST_FOR_PAUC} normal and "
            f"{metrics.FEWEST_FOR_PAUC} anomalous test clips"
        )
    why, confidence = "", None
    if machine.decided is not None:
        decisions = machine.decided.decisions
        why = decisions.threshold.note if decisions else machine.decided.why_not
        confidence = decisions.threshold.confidence if decisions else None
    if why or machine.n_train:
        notes.append(why or few_clips_warning(machine.n_train, confidence))
    return [note for note in notes if note]


def why_equal(detector: Any) -> str:
    """Say why a fitted detector rates all clips alike, where its scaler shows it; "" otherwise."""
    last = last_step(detector)
    scaler = getattr(detector, "scaler", None) or next(
        (step for _, step in getattr(detector, "steps", ()) if step is not last), None
    )
    scale = getattr(scaler, "scale_", None)
    if scale is None:
        return ""
    if np.max(scale) > HUGE:
        return f"a training clip has values near {np.max(scale):.0e}, beside which others vanish"
    return "every feature of the training clips is constant" if np.all(scale == 1.0) else ""


def _decided_by_domain(machine: _Machine) -> dict[str, Any]:
    """Rate a machine's decisions, of all clips and of each domain."""
    decisions = machine.decided and machine.decided.decisions
    if not decisions:
        return {}
    clips = machine.clips
    found = {"decided": rate_decisions(clips.label, clips.score, clips.verdict, clips.promised)}
    for domain in ("source", "target"):
        within = clips.chosen(clips.domain == domain)
        if len(within.label):
            found[f"decided_{domain}"] = rate_decisions(
                within.label, within.score, within.verdict, within.promised
            )
    threshold = decisions.threshold
    own: dict[str, Any] = {
        "promised_false_alarms": threshold.false_alarm_rate,
        "threshold": threshold.value,
        "n_calibration": threshold.n,
        "note": threshold.note,
    }
    return {name: replace(each, **own) for name, each in found.items()}


def rate_decisions(
    labels: Sequence[str] | NDArray[np.str_],
    scores: Array,
    verdicts: Sequence[str] | NDArray[np.str_],
    promised: Array,
) -> Decided:
    """Compare verdicts (n_clips,) with labels; unlabelled clips are counted and not rated.

    `promised` (n_clips,) is the false-alarm rate of each clip's threshold. The interval of the
    actual rate is Clopper and Pearson's, at 95 %.
    """
    label, verdict = np.asarray(labels), np.asarray(verdicts)
    flagged, normal, anomalous = verdict == "anomalous", label == "normal", label == "anomalous"
    n_normal, n_anomalous = int(normal.sum()), int(anomalous.sum())
    n_hits, n_false = int((flagged & anomalous).sum()), int((flagged & normal).sum())
    found: dict[str, Any] = {}
    if n_normal:
        low, high = proportion_interval(n_false, n_normal)
        found |= {"false_alarms": n_false / n_normal}
        found |= {"false_alarms_low": low, "false_alarms_high": high}
    if n_anomalous:
        found["recall"] = n_hits / n_anomalous
        found["f1"] = 2 * n_hits / (n_hits + n_false + n_anomalous)
    if n_normal and n_anomalous:
        rated = (normal | anomalous) & np.isfinite(scores)
        found["precision"] = n_hits / (n_hits + n_false) if n_hits + n_false else None
        if anomalous[rated].any() and normal[rated].any():
            found["f1_ev"] = metrics.f1_ev(anomalous[rated], np.asarray(scores)[rated])
    return Decided(
        float(np.mean(promised[normal] if n_normal else promised)),
        int(flagged.sum()),
        int((verdict == "suspicious").sum()),
        **found,
    )


def _averages(machine_type: str, own: Sequence[Result]) -> list[Result]:
    """Mean and harmonic mean over machine IDs."""
    valued = [row for row in own if row.auc is not None]
    left_out = len(own) - len(valued)
    note = f"{left_out} of {len(own)} machine IDs have no AUC" if left_out else ""
    averages: dict[str, tuple[Any, Any]] = {
        "mean": (np.mean, metrics.mean_interval),
        "hmean": (metrics.harmonic_mean, metrics.harmonic_mean_interval),
    }
    rows = []
    for name, (average, interval) in averages.items():
        found: dict[str, Any] = {}
        for column in ("auc", "pauc", *DOMAIN_COLUMNS):
            present = [value for row in valued if (value := getattr(row, column)) is not None]
            if present:
                found[column] = float(average(present))
        for column in ("auc", "pauc"):
            of_machines = [
                [getattr(row, f"{column}{end}") for end in ("", "_low", "_high")] for row in valued
            ]
            if of_machines and all(None not in figures for figures in of_machines):
                limits = interval(*np.array(of_machines).T)
                found[f"{column}_low"], found[f"{column}_high"] = limits
        rows.append(Result(machine_type, name, *_counts(own), note=note, **found))
    return rows


def _pooled(machines: Sequence[_Machine], own: Sequence[Result], fit_per: FitPer) -> Result:
    """One ROC over the clips of all machine IDs of a type, and all their decisions."""
    is_apart = fit_per == "id" and len(own) > 1
    row = Result(machines[0].machine_type, "pooled", *_counts(own))
    decided = [
        machine.clips for machine in machines if machine.decided and machine.decided.decisions
    ]
    if decided:
        clips = _together(decided)
        rated = rate_decisions(clips.label, clips.score, clips.verdict, clips.promised)
        row = replace(row, decided=replace(rated, f1_ev=None) if is_apart else rated)
    if all(each.auc is None for each in own):
        return replace(row, note="no machine ID has an AUC")
    labelled = _together([machine.clips for machine in machines]).labelled
    labelled = labelled.chosen(np.isfinite(labelled.score))
    note = POOLED_APART if is_apart else ""
    return replace(row, **_figures(labelled.truth, labelled.score), note=note)


def _together(parts: Sequence[_Clips]) -> _Clips:
    return _Clips(
        *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(_Clips))
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
