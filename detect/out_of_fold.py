"""Rate every training clip by a detector that has not seen it, nor its recording.

Scores of clips that were fitted are too low, so that a threshold from them flags far too many new
normal clips. Out-of-fold scores are what thresholds, p-values and fusions are calibrated by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detect import facts_of
from detect.detector import scores_out_of_fold
from detect.fitting import Array, DetectorChoice, FitUnit, Read, fit_and_score, read_for

FEWEST = 3
"""Training clips below which nothing is held out: a fit needs two that remain."""
MOST_FOLDS = 12
"""With fewer recordings than 13, each is held out on its own."""
MOST_TRAININGS = 3
"""Folds of detectors that train a network, whose fits take long."""
CLIPS_AT_ONCE = 1024


@dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold anomaly scores of a unit's training clips, in the order of its keys."""

    keys: tuple[str, ...]
    machine_ids: tuple[str, ...]
    scores: Array
    """(n_clips,), higher is more anomalous."""
    n_recordings: int
    n_folds: int
    notes: tuple[str, ...] = ()
    """What weakens a promise that is made from these scores."""
    domains: tuple[str, ...] = ()
    """The domain of each clip, or nothing where none has one."""

    def of_machine(self, machine_id: str) -> Array:
        """Return the scores of one machine ID's clips."""
        return self.scores[np.array(self.machine_ids) == machine_id]  # type: ignore[no-any-return]

    def domains_of(self, machine_id: str) -> tuple[str, ...]:
        """Return the domains of one machine ID's clips."""
        own = [each == machine_id for each in self.machine_ids]
        return tuple(compress(self.domains, own))


def number_of_folds(n_recordings: int, most_folds: int = MOST_FOLDS) -> int:
    """10 folds from 20 recordings on, 5 from 13 to 19, otherwise each recording on its own.

    There are never more than `most_folds`.
    """
    n = 10 if n_recordings >= 20 else 5 if n_recordings >= 13 else n_recordings
    return min(n, most_folds)


def fold_numbers(recordings: Sequence[Any], most_folds: int = MOST_FOLDS) -> NDArray[np.int64]:
    """Give each clip the number of its fold (n_clips,); clips of one recording share a fold.

    The sorted recordings are permuted by `numpy.random.RandomState(0)`; fold i has every k-th from
    the i-th on. Nothing else decides the folds, so that they are the same in every run.
    """
    names = sorted(set(recordings))
    order = np.random.RandomState(0).permutation(len(names))
    n_folds = number_of_folds(len(names), most_folds)
    fold_of = {names[j]: position % n_folds for position, j in enumerate(order)}
    return np.array([fold_of[name] for name in recordings], dtype=np.int64)


def out_of_fold(
    unit: FitUnit,
    read: Read,
    choice: DetectorChoice,
    *,
    seed: int = 0,
    split_recordings: bool = False,
    most_folds: int | None = None,
) -> OutOfFold:
    """Rate each training clip by a detector and scaler that were fitted without its fold.

    Clips of one recording (`train_groups`) are never split over folds, and clips with equal
    embeddings count as one recording. `split_recordings` treats every clip as a recording of its
    own, for windows of one long recording: false alarms may then be more than promised. There are
    at most `most_folds` folds, a fit each: by default 12, and 3 where a network is trained;
    detectors with an exact way without refitting take it.

    Raises ValueError where there are fewer than 3 clips or only one recording.
    """
    n = len(unit.train_keys)
    if n < FEWEST:
        raise ValueError(
            f"{unit.name} has {n} training clips; a threshold needs at least {FEWEST}, so its "
            "test clips get scores without verdicts"
        )
    vectors, copies = _vectors_and_digests(unit, read, choice)
    recordings, notes = _recordings(unit, copies, split_recordings)
    if most_folds is None:
        most_folds = MOST_TRAININGS if facts_of(choice.name).trains_network else MOST_FOLDS
    folds = fold_numbers(recordings, most_folds)
    scores = None
    if vectors is not None:
        read = _reader_of(vectors, unit.train_keys)
        scores = _without_refitting(unit, vectors, choice, folds, seed)
    if scores is None:
        scores = _by_refitting(unit, read, choice, folds, seed)
    return OutOfFold(
        unit.train_keys,
        unit.train_ids,
        scores,
        len(set(recordings)),
        int(folds.max()) + 1,
        notes,
        unit.train_domains if any(unit.train_domains) else (),
    )


def _vectors_and_digests(
    unit: FitUnit, read: Read, choice: DetectorChoice
) -> tuple[NDArray[Any] | None, list[bytes]]:
    """Read vectors (n_clips, dim) once for all folds, and digest every clip's embedding.

    Sequences and bands are too large to be kept: they are None here, and read again per fold.
    """
    digests: list[bytes] = []
    parts = []
    for start in range(0, len(unit.train_keys), CLIPS_AT_ONCE):
        X = read_for(choice.name, unit.train_keys[start : start + CLIPS_AT_ONCE], read)
        digests += [blake2b(np.ascontiguousarray(x).tobytes(), digest_size=16).digest() for x in X]
        if X.ndim == 2:
            parts.append(X)
    return (np.concatenate(parts) if parts else None), digests


def _reader_of(vectors: NDArray[Any], keys: Sequence[str]) -> Read:
    """Return a function that gives rows of `vectors` by the keys of their clips."""
    row_of = {key: i for i, key in enumerate(keys)}
    return lambda asked: vectors[[row_of[key] for key in asked]]


def _recordings(
    unit: FitUnit, copies: Sequence[bytes], split_recordings: bool
) -> tuple[list[int], tuple[str, ...]]:
    """Give each clip the number of its recording, and note what weakens the promise."""
    groups = unit.train_groups or ("",) * len(unit.train_keys)
    named = [
        (group, "") if group and not split_recordings else ("", key)
        for group, key in zip(groups, unit.train_keys, strict=True)
    ]
    n_named = len(set(named))
    if n_named == 1:
        raise ValueError(
            f"All {len(named)} training clips of {unit.name} are from one recording, "
            f"{groups[0]!r}, so none can be held out and no threshold is computed; record on "
            "another occasion, or allow split_recordings to hold out windows of it, with more "
            "false alarms than promised"
        )
    n_copies = len(copies) - len(set(copies))
    joined = _joined(named, copies) if n_copies else _numbers(named)
    if len(set(joined)) == 1:
        raise ValueError(
            f"The training clips of {unit.name} have too few different embeddings "
            f"({len(set(copies))} of {len(copies)}), so none can be held out and no threshold is "
            "computed; look for copied files or constant features"
        )
    notes = []
    if n_copies:
        notes.append(
            f"{n_copies} training clips have the embedding of another one; they share its fold"
        )
    n_recordings = len(set(joined))
    if split_recordings and any(groups):
        notes.append("recordings were split over folds; expect more false alarms than promised")
    elif n_recordings < len(named):
        notes.append(
            f"{len(named)} training clips are from {n_recordings} recordings; the promise counts "
            "clips"
        )
    return joined, tuple(notes)


def _numbers(named: Sequence[Any]) -> list[int]:
    """Give each recording its number in the order of sorted names."""
    number_of = {name: i for i, name in enumerate(sorted(set(named)))}
    return [number_of[name] for name in named]


def _joined(named: Sequence[Any], copies: Sequence[bytes]) -> list[int]:
    """Give recordings with a copied clip in common one number."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    recording, copy = np.array(_numbers(named)), np.array(_numbers(copies))
    size = recording.max() + 1 + copy.max() + 1
    links = coo_array(
        (np.ones(len(copy)), (recording, recording.max() + 1 + copy)), shape=(size, size)
    )
    component = connected_components(links, directed=False)[1]
    return [int(number) for number in component[recording]]


def _without_refitting(
    unit: FitUnit,
    vectors: NDArray[Any],
    choice: DetectorChoice,
    folds: NDArray[np.int64],
    seed: int,
) -> Array | None:
    """Take the detector's exact way where it has one; None otherwise."""
    scores = scores_out_of_fold(choice.make(seed), vectors, folds)
    if scores is None:
        return None
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise ValueError(
            f"The out-of-fold score of {unit.train_keys[bad[0]]!r} is {-scores[bad[0]]}; "
            "its embedding or the fit is not usable"
        )
    return -scores


def _by_refitting(
    unit: FitUnit, read: Read, choice: DetectorChoice, folds: NDArray[np.int64], seed: int
) -> Array:
    """Fit without each fold in turn and rate its clips."""
    scores = np.empty(len(folds))
    for number in range(folds.max() + 1):
        kept, left = folds != number, folds == number
        part = FitUnit(
            unit.machine_type,
            unit.machine_id,
            tuple(compress(unit.train_keys, kept)),
            tuple(compress(unit.train_ids, kept)),
            tuple(compress(unit.train_keys, left)),
            tuple(compress(unit.train_ids, left)),
            train_domains=tuple(compress(unit.train_domains, kept)),
        )
        try:
            scores[left] = fit_and_score(part, read, choice, seed).scores
        except ValueError as error:
            raise ValueError(
                f"Without fold {number + 1} of {folds.max() + 1}, {unit.name} gets no threshold: "
                f"{error}"
            ) from error
    return scores
