"""Fit a detector per machine, rate its test clips, compare with the labels afterwards.

Labels and test clips never reach a fit: a unit is fitted on its normal training clips, and each
test clip is rated by itself. Only `results` looks at labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from detect import DETECTORS, make_detector, metrics
from detect.detector import Detector, anomaly_scores, last_step

Array = NDArray[np.float64]
Read = Callable[[Sequence[str]], NDArray[Any]]
FitPer = Literal["id", "type"]
Tell = Callable[[str], None]
"""Hears how a fit is getting on."""
POOLED_APART = "scores of separate models are pooled"
SUMMARIES = ("mean", "hmean", "pooled")
TOTAL = "total"
"""The machine type of the averages over several types."""
DOMAIN_COLUMNS = ("auc_source", "auc_target", "pauc_source", "pauc_target")
RATED_AT_ONCE = 2048
STACKED = ("mlp", "unet")


@dataclass(frozen=True)
class ClipTable:
    """What is known of every clip, one entry per clip in each column."""

    key: tuple[str, ...]
    machine_type: tuple[str, ...]
    machine_id: tuple[str, ...]
    split: tuple[str, ...]
    label: tuple[str, ...]
    domain: tuple[str, ...] = ()
    group: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.key)
        for name in ("domain", "group"):
            if not getattr(self, name):
                object.__setattr__(self, name, ("",) * n)
        for name in ("machine_type", "machine_id", "split", "label", "domain", "group"):
            if len(getattr(self, name)) != n:
                raise ValueError(f"{n} keys do not go with {len(getattr(self, name))} of {name}")


@dataclass(frozen=True)
class FitUnit:
    """Clips that share one model: of one machine ID, or of a whole type; in order of their keys."""

    machine_type: str
    machine_id: str
    """Empty where the model is fitted per type."""
    train_keys: tuple[str, ...]
    train_ids: tuple[str, ...]
    test_keys: tuple[str, ...]
    test_ids: tuple[str, ...]
    train_groups: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.machine_type} {self.machine_id}".strip()


@dataclass(frozen=True)
class DetectorChoice:
    """A detector by name, with what `make_detector` takes.

    `device` is where a network trains, the best there is by default.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    scaler: str = "standard"
    device: str = ""

    def make(self, seed: int) -> Detector:
        return make_detector(
            self.name, scaler=self.scaler, seed=seed, device=self.device, **self.options
        )


@dataclass(frozen=True)
class Scores:
    """A unit's anomaly scores of its test clips, and what was fitted."""

    unit: FitUnit
    scores: Array
    detector: Detector | None
    """None where only the scores are known."""
    seconds: float
    history: tuple[Any, ...] = ()
    """Losses per epoch (`detect.detectors.training.Epoch`), where a network was trained."""
    warnings: tuple[str, ...] = ()


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


def units(table: ClipTable, fit_per: FitPer = "id") -> list[FitUnit]:
    """List what is fitted on its own; test clips of a machine without training clips are refused.

    Machines without test clips are left out.
    """
    members: dict[tuple[str, str], list[int]] = {}
    for i in sorted(range(len(table.key)), key=table.key.__getitem__):
        machine_id = table.machine_id[i] if fit_per == "id" else ""
        members.setdefault((table.machine_type[i], machine_id), []).append(i)
    found = []
    for (machine_type, machine_id), rows in sorted(members.items()):
        test = [i for i in rows if table.split[i] == "test"]
        train = [i for i in rows if table.split[i] == "train" and table.label[i] == "normal"]
        if not test:
            continue
        missing = sorted({table.machine_id[i] for i in test} - {table.machine_id[i] for i in train})
        if missing:
            n = sum(table.machine_id[i] == missing[0] for i in test)
            raise ValueError(
                f"{machine_type} {missing[0]} has {n} test clips but no normal training clips; "
                "add some, or choose other machines with --ids"
            )
        found.append(
            FitUnit(
                machine_type,
                machine_id,
                tuple(table.key[i] for i in train),
                tuple(table.machine_id[i] for i in train),
                tuple(table.key[i] for i in test),
                tuple(table.machine_id[i] for i in test),
                tuple(table.group[i] for i in train),
            )
        )
    return found


def fit(
    unit: FitUnit, read: Read, choice: DetectorChoice, seed: int = 0, tell: Tell | None = None
) -> Detector:
    """Fit a fresh detector to the unit's normal training clips; `tell` hears of its epochs."""
    row = DETECTORS[choice.name]
    detector = choice.make(seed)
    X = read_for(choice.name, unit.train_keys, read)
    try:
        with _epochs_told([detector], unit.name, tell):
            if row.needs_ids:
                detector.fit(X, np.array(unit.train_ids))
            else:
                detector.fit(X)
    except ValueError as error:
        raise ValueError(f"{choice.name} on {unit.name} ({len(X)} clips): {error}") from error
    return detector


@contextmanager
def _epochs_told(detectors: Sequence[Detector], name: str, tell: Tell | None) -> Iterator[None]:
    """Tell of every epoch inside, where networks are trained."""
    networks = [last for each in detectors if hasattr(last := last_step(each), "on_epoch")]
    if tell is None or not networks:
        yield
        return

    def on_epoch(epoch: Any) -> None:
        loss = f"loss {epoch.held_out_loss:.3g}"
        tell(f"{name}: epoch {epoch.number} of {networks[0].epochs}, {loss}")

    for network in networks:
        network.on_epoch = on_epoch
    try:
        yield
    finally:
        for network in networks:
            network.on_epoch = None


@contextmanager
def _warnings_kept() -> Iterator[list[str]]:
    """Collect the warnings inside, each once."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield messages
    messages += sorted({str(warning.message) for warning in caught})


def fit_and_score(
    unit: FitUnit, read: Read, choice: DetectorChoice, seed: int = 0, tell: Tell | None = None
) -> Scores:
    """Fit to the unit's training clips, rate its test clips; `read` gives embeddings by key."""
    from time import perf_counter

    start = perf_counter()
    with _warnings_kept() as messages:
        detector = fit(unit, read, choice, seed, tell)
        scored = _scored(unit, read, choice, detector, perf_counter() - start)
    return replace(scored, warnings=tuple(messages))


def _scored(
    unit: FitUnit, read: Read, choice: DetectorChoice, detector: Detector, seconds: float
) -> Scores:
    """Rate the unit's test clips, a part at a time."""
    from time import perf_counter

    start = perf_counter()
    parts = [
        _rate(detector, choice.name, X, ids)
        for X, ids in _in_parts(unit.test_keys, unit.test_ids, choice.name, read)
    ]
    scores = np.concatenate(parts)
    if not np.isfinite(scores).all():
        bad = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(
            f"{choice.name} on {unit.name} rates {unit.test_keys[bad]!r} {scores[bad]}; "
            "its embedding or the fit is not usable"
        )
    return Scores(unit, scores, detector, seconds + perf_counter() - start, history_of(detector))


def fit_and_score_together(
    units: Sequence[FitUnit],
    read: Read,
    choice: DetectorChoice,
    seed: int = 0,
    tell: Tell | None = None,
) -> list[Scores]:
    """Do what `fit_and_score` does for each unit; autoencoders train as one batched ensemble.

    Where stacking does not pay (`detect.detectors.ensemble.together_is_faster`), units are fitted one by
    one; the ensemble of small networks trains on the CPU, whatever `device` is. If one network
    diverges, none is returned; fitted one by one, only that unit fails.
    """
    from time import perf_counter

    start = perf_counter()
    if choice.name not in STACKED:
        return [fit_and_score(unit, read, choice, seed, tell) for unit in units]
    from detect.detectors.ensemble import fit_together, together_is_faster

    detectors = [choice.make(seed) for _ in units]
    X = [read_for(choice.name, unit.train_keys, read) for unit in units]
    networks = [last_step(detector) for detector in detectors]
    if not together_is_faster(networks[0], X[0].shape[1], len(units)):
        return [fit_and_score(unit, read, choice, seed, tell) for unit in units]
    name = f"{units[0].name} and {len(units) - 1} more"
    with _warnings_kept() as while_fitting, _epochs_told(detectors, name, tell):
        scaled = []
        for detector, clips in zip(detectors, X, strict=True):
            before = detector.steps[:-1]  # type: ignore[attr-defined]
            scaled.append(before[0][1].fit_transform(clips) if before else clips)
        fit_together(networks, scaled)
    spent = (perf_counter() - start) / len(units)
    found = []
    for unit, detector in zip(units, detectors, strict=True):
        with _warnings_kept() as while_rating:
            scored = _scored(unit, read, choice, detector, spent)
        messages = sorted({*while_fitting, *while_rating})
        found.append(replace(scored, warnings=tuple(messages)))
    return found


def history_of(detector: Any) -> tuple[Any, ...]:
    """Losses per epoch of a fitted detector; empty where nothing was trained."""
    return tuple(getattr(last_step(detector), "history_", ()))


def read_for(detector: str, keys: Sequence[str], read: Read) -> NDArray[Any]:
    """Read embeddings as this detector takes them: float64 vectors, or float32 sequences."""
    X = np.asarray(read(keys))
    takes = DETECTORS[detector].takes
    if takes == "vectors":
        if X.ndim != 2:
            raise ValueError(
                f"{detector} takes vectors (n, dim); got {X.shape}; choose a pooling over time, "
                "as --pooling mean"
            )
        X = X.astype(np.float64)
    else:
        if X.ndim != 3:
            kind = "frames" if takes == "sequences" else "bands"
            raise ValueError(
                f"{detector} takes {takes} (n, n_{kind}, dim); got {X.shape}; "
                f"choose --pooling {kind}"
            )
        X = X.astype(np.float32)
    usable = np.isfinite(X).reshape(len(X), -1)
    bad = np.flatnonzero(~(usable.any(axis=1) if takes == "sequences" else usable.all(axis=1)))
    if len(bad):
        raise ValueError(f"The embedding of {keys[bad[0]]!r} is not finite; embed it again")
    return X


def _in_parts(
    keys: Sequence[str], ids: Sequence[str], detector: str, read: Read
) -> Iterator[tuple[NDArray[Any], Sequence[str]]]:
    for start in range(0, len(keys), RATED_AT_ONCE):
        part = slice(start, start + RATED_AT_ONCE)
        yield read_for(detector, keys[part], read), ids[part]


def _rate(detector: Detector, name: str, X: NDArray[Any], ids: Sequence[str]) -> Array:
    return anomaly_scores(detector, X, ids if DETECTORS[name].needs_ids else None)


def out_of_fold(
    unit: FitUnit, read: Read, choice: DetectorChoice, *, n_folds: int = 5, seed: int = 0
) -> Array:
    """Rate every training clip by a model that has not seen it, nor another clip of its group."""
    groups = [group or key for group, key in zip(unit.train_groups, unit.train_keys, strict=True)]
    names = sorted(set(groups))
    n_folds = min(n_folds, len(names))
    if n_folds < 2:
        raise ValueError(
            f"{unit.name} has {len(names)} training recordings; out-of-fold scores need 2"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[j]: int(i % n_folds) for i, j in enumerate(order)}
    folds = np.array([fold_of[group] for group in groups])
    scores = np.empty(len(folds))
    for number in range(n_folds):
        kept, left = folds != number, np.flatnonzero(folds == number)
        part = FitUnit(
            unit.machine_type,
            unit.machine_id,
            tuple(compress(unit.train_keys, kept)),
            tuple(compress(unit.train_ids, kept)),
            (),
            (),
            tuple(compress(unit.train_groups, kept)),
        )
        detector = fit(part, read, choice, seed)
        keys = [unit.train_keys[i] for i in left]
        ids = [unit.train_ids[i] for i in left]
        X = read_for(choice.name, keys, read)
        scores[left] = _rate(detector, choice.name, X, ids)
    return scores


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
