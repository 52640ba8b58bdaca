"""Fit a detector per machine on its normal training clips and rate its test clips."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detect import facts_of, make_detector
from detect.detector import Detector, anomaly_scores, facts_of_class, history_of, last_step
from detect.kept_detector import KeptDetector

Array = NDArray[np.float64]
Read = Callable[[Sequence[str]], NDArray[Any]]
FitPer = Literal["id", "type"]
Tell = Callable[[str], None]
"""Takes one line about the progress of a fit."""
RATED_AT_ONCE = 2048


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
    train_domains: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.machine_type} {self.machine_id}".strip()


@dataclass(frozen=True)
class DetectorChoice:
    """A detector by name, with the arguments of `make_detector`."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    scaler: str = "standard"
    device: str = ""

    def make(self, seed: int) -> Detector:
        """Build a fresh detector, without the boundary of `predict`: thresholds are not its."""
        return make_detector(
            self.name,
            scaler=self.scaler,
            seed=seed,
            device=self.device,
            flagged_share=None,
            **self.options,
        )


@dataclass(frozen=True)
class Scores:
    """A unit's anomaly scores of its test clips, and what was fitted."""

    unit: FitUnit
    scores: Array
    detector: Detector | KeptDetector | None
    """None where only the scores are known."""
    seconds: float
    history: tuple[Any, ...] = ()
    """Losses per epoch (`detect.detectors.training.Epoch`), where a network was trained."""
    warnings: tuple[str, ...] = ()

    def by_clip(self) -> Iterator[tuple[str, str, float]]:
        """Yield key, machine ID and score of each test clip."""
        yield from zip(self.unit.test_keys, self.unit.test_ids, self.scores.tolist(), strict=True)


def units(table: ClipTable, fit_per: FitPer = "id", *, tested_only: bool = True) -> list[FitUnit]:
    """Group the clips that share a model: per machine ID, or per type.

    Machines without test clips are left out if `tested_only`. Raises ValueError for a machine with
    test clips and no normal training clips.
    """
    members: dict[tuple[str, str], list[int]] = {}
    for i in sorted(range(len(table.key)), key=table.key.__getitem__):
        machine_id = table.machine_id[i] if fit_per == "id" else ""
        members.setdefault((table.machine_type[i], machine_id), []).append(i)
    fit_units = []
    for (machine_type, machine_id), rows in sorted(members.items()):
        test = [i for i in rows if table.split[i] == "test"]
        train = [i for i in rows if table.split[i] == "train" and table.label[i] == "normal"]
        if not (test if tested_only else train):
            continue
        missing = sorted({table.machine_id[i] for i in test} - {table.machine_id[i] for i in train})
        if missing:
            n = sum(table.machine_id[i] == missing[0] for i in test)
            raise ValueError(
                f"{machine_type} {missing[0]} has {n} test clips but no normal training clips; "
                "add some, or choose other machines with --ids"
            )
        fit_units.append(
            FitUnit(
                machine_type,
                machine_id,
                tuple(table.key[i] for i in train),
                tuple(table.machine_id[i] for i in train),
                tuple(table.key[i] for i in test),
                tuple(table.machine_id[i] for i in test),
                tuple(table.group[i] for i in train),
                tuple(table.domain[i] for i in train),
            )
        )
    return fit_units


def fit(
    unit: FitUnit, read: Read, choice: DetectorChoice, seed: int = 0, tell: Tell | None = None
) -> Detector:
    """Fit a fresh detector to the unit's normal training clips; `tell` hears of its epochs.

    Raises ValueError with the names of detector and unit where the clips cannot be fitted.
    """
    detector = choice.make(seed)
    X = read_for(choice.name, unit.train_keys, read)
    try:
        with _epochs_to(tell, detector, unit.name):
            if facts_of(choice.name).takes_domains and any(unit.train_domains):
                ids, domains = np.array(unit.train_ids), np.array(unit.train_domains)
                detector.fit(X, ids, domains)  # type: ignore[call-arg]
            else:
                detector.fit(X, np.array(unit.train_ids))
    except ValueError as error:
        raise ValueError(f"{choice.name} on {unit.name} ({len(X)} clips): {error}") from error
    return detector


@contextmanager
def _epochs_to(tell: Tell | None, detector: Detector, name: str) -> Iterator[None]:
    """Report every epoch inside to `tell`, where a network is trained."""
    network = last_step(detector)
    if tell is None or not facts_of_class(type(network)).trains_network:
        yield
        return

    def on_epoch(epoch: Any) -> None:
        loss = f"loss {epoch.held_out_loss:.3g}"
        tell(f"{name}: epoch {epoch.number} of {network.epochs}, {loss}")

    network.on_epoch = on_epoch
    try:
        yield
    finally:
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
    """Fit to the unit's training clips and rate its test clips; `read` gives embeddings by key."""
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
    scores = np.concatenate([*parts, np.empty(0)])
    if not np.isfinite(scores).all():
        bad = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(
            f"{choice.name} on {unit.name} rates {unit.test_keys[bad]!r} {scores[bad]}; "
            "its embedding or the fit is not usable"
        )
    return Scores(unit, scores, detector, seconds + perf_counter() - start, history_of(detector))


def read_for(detector: str, keys: Sequence[str], read: Read) -> NDArray[Any]:
    """Read embeddings as this detector takes them: float64 vectors, or float32 sequences or bands.

    Raises ValueError for another number of axes and for embeddings that are not finite.
    """
    X = np.asarray(read(keys))
    takes = facts_of(detector).takes
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
    return anomaly_scores(detector, X, ids if facts_of(name).needs_ids else None)
