"""Fuse the anomaly scores of several members: one encoder, pooling and detector each.

Each member's scores become z-scores by the mean m and the deviation s of its own out-of-fold
scores of normal training clips; the fused score is a function of the members' z. The sign of the
out-of-fold scores decides how: where none is negative, as with distances and reconstruction
errors, `z = (ln max(d, 1e-9) - m) / (s + 1e-12)`, m and s those of the logarithms. Where one is
negative, as with log-likelihoods and the One-Class SVM, `z = (d - m) / (s + 1e-12)`. s is the
population deviation.

The fused out-of-fold scores of the training clips calibrate the fusion's threshold and p-values
(`detect.thresholds`). No test score and no label takes part in m, s or the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rule = Literal["mean", "softmax", "min", "rank"]

LEAST_DISTANCE = 1e-9
LEAST_DEVIATION = 1e-12
CONSTANT = 1e-9
"""A deviation below this share of the mean's size is rounding."""


@dataclass(frozen=True)
class MemberScores:
    """One member's anomaly scores, higher being more anomalous; NaN where it has none."""

    name: str
    train_keys: tuple[str, ...]
    out_of_fold: Array
    """(n_train,), of the normal training clips."""
    keys: tuple[str, ...]
    scores: Array
    """(n_clips,), of the clips to judge."""

    def __post_init__(self) -> None:
        for keys, scores in ((self.train_keys, self.out_of_fold), (self.keys, self.scores)):
            if np.shape(scores) != (len(keys),):
                raise ValueError(
                    f"{self.name}: {len(keys)} keys do not go with scores {np.shape(scores)}"
                )
            if len(set(keys)) != len(keys):
                twice = next(key for i, key in enumerate(keys) if key in keys[:i])
                raise ValueError(f"{self.name} has two scores for the clip {twice!r}")


@dataclass(frozen=True)
class Standard:
    """How one member's scores become z-scores."""

    is_logarithm: bool
    mean: float
    deviation: float

    def z(self, scores: Array) -> Array:
        """Return z-scores of the same shape; NaN where there is no finite score."""
        finite = np.where(np.isfinite(scores), scores, np.nan)
        values = np.log(np.maximum(finite, LEAST_DISTANCE)) if self.is_logarithm else finite
        return (values - self.mean) / (self.deviation + LEAST_DEVIATION)

    @property
    def is_constant(self) -> bool:
        return self.deviation <= CONSTANT * max(1.0, abs(self.mean))


@dataclass(frozen=True)
class Fused:
    """Fused scores, higher being more anomalous, and what each member says."""

    train_keys: tuple[str, ...]
    out_of_fold: Array
    """(n_train,); calibrates thresholds and p-values."""
    keys: tuple[str, ...]
    scores: Array
    """(n_clips,); NaN only where no member has a score."""
    members: tuple[str, ...]
    z: Array
    """(n_members, n_clips); NaN where that member has no score."""
    lacking: Mapping[str, tuple[str, ...]]
    """For clips that not every member rated: the members that did not."""
    notes: tuple[str, ...]


def standard_of(out_of_fold: Array) -> Standard:
    """Learn mean and deviation from a member's out-of-fold scores (n_train,)."""
    scores = np.asarray(out_of_fold, dtype=np.float64)
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        return Standard(False, 0.0, 0.0)
    is_logarithm = bool((scores >= 0).all())
    values = np.log(np.maximum(scores, LEAST_DISTANCE)) if is_logarithm else scores
    return Standard(is_logarithm, float(values.mean()), float(values.std()))


def fuse(members: Sequence[MemberScores], rule: Rule = "mean") -> Fused:
    """Fuse members by clip keys; a clip that some members lack is rated by the others.

    `mean`: of the members' z. `softmax`: `log mean exp(z / 2)`, nearer to the largest. `min`: the
    smallest z, which is high only where all members agree. `rank`: the mean over members of the
    share of out-of-fold scores below the clip's, ties half; beyond the lowest and highest of n
    it goes on by 1 / n per unit of z, so that far clips stay in order.

    A member whose out-of-fold scores are all equal is left out and noted. ValueError if none
    remains, or if two members have one name.
    """
    if rule not in RULES:
        raise ValueError(f"There is no fusion rule {rule!r}; it is {', '.join(RULES)}")
    names = [member.name for member in members]
    if len(set(names)) != len(names):
        raise ValueError(f"Two members of the fusion have one name: {', '.join(names)}")
    standards = [standard_of(member.out_of_fold) for member in members]
    pairs = list(zip(members, standards, strict=True))
    used = [(member, standard) for member, standard in pairs if not standard.is_constant]
    notes = [
        f"{member.name} is left out: its out-of-fold scores are all equal"
        for member, standard in pairs
        if standard.is_constant
    ]
    if not used:
        raise ValueError(f"No member can be fused: {'; '.join(notes) or 'there is none'}")
    train_keys = _union([member.train_keys for member, _ in used])
    keys = _union([member.keys for member, _ in used])
    trained = np.stack([s.z(_aligned(train_keys, m.train_keys, m.out_of_fold)) for m, s in used])
    z = np.stack([s.z(_aligned(keys, m.keys, m.scores)) for m, s in used])
    rated = np.flatnonzero(~np.isnan(trained).all(axis=0))
    kept = tuple(train_keys[i] for i in rated)
    trained = trained[:, rated]
    used_names = tuple(member.name for member, _ in used)
    lacking = _lacking(used_names, keys, z)
    n_partly = int(np.isnan(trained).any(axis=0).sum())
    for n, kind in ((len(lacking), "clips"), (n_partly, "training clips")):
        if n:
            notes.append(f"{n} {kind} are not rated by every member")
    combine = RULES[rule]
    fused = combine(z, trained)
    own = combine(trained, trained)
    return Fused(kept, own, keys, fused, used_names, z, lacking, tuple(notes))


def _lacking(names: Sequence[str], keys: Sequence[str], z: Array) -> dict[str, tuple[str, ...]]:
    """Name the members that have no score, for clips that some lack; z (n_members, n_clips)."""
    return {
        key: tuple(name for name, value in zip(names, column, strict=True) if np.isnan(value))
        for key, column in zip(keys, z.T, strict=True)
        if np.isnan(column).any()
    }


def _union(all_keys: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return every key once, those of the first member first."""
    return tuple(dict.fromkeys(key for keys in all_keys for key in keys))


def _aligned(keys: Sequence[str], own_keys: Sequence[str], scores: Array) -> Array:
    """Bring a member's scores into the order of `keys`; NaN where it has none."""
    score_of = dict(zip(own_keys, np.asarray(scores, dtype=np.float64).tolist(), strict=True))
    return np.array([score_of.get(key, np.nan) for key in keys])


def _mean(z: Array, trained: Array) -> Array:
    n = np.sum(~np.isnan(z), axis=0)
    return np.where(n > 0, np.nansum(z, axis=0) / np.maximum(n, 1), np.nan)


def _softmax(z: Array, trained: Array) -> Array:
    from scipy.special import logsumexp

    n = np.sum(~np.isnan(z), axis=0)
    exponents = np.where(np.isnan(z), -np.inf, z / 2)
    with np.errstate(divide="ignore"):
        return np.where(n > 0, logsumexp(exponents, axis=0) - np.log(n), np.nan)


def _min(z: Array, trained: Array) -> Array:
    smallest = np.where(np.isnan(z), np.inf, z).min(axis=0)
    return np.where(np.isinf(smallest), np.nan, smallest)


def _rank(z: Array, trained: Array) -> Array:
    ranks = []
    for own, own_trained in zip(z, trained, strict=True):
        ascending = np.sort(own_trained[~np.isnan(own_trained)])
        n = len(ascending)
        below = np.searchsorted(ascending, own, side="left")
        up_to = np.searchsorted(ascending, own, side="right")
        outside = np.maximum(own - ascending[-1], 0) + np.minimum(own - ascending[0], 0)
        ranks.append(np.where(np.isnan(own), np.nan, ((below + up_to) / 2 + outside) / n))
    return _mean(np.stack(ranks), trained)


RULES: Mapping[str, Callable[[Array, Array], Array]] = {
    "mean": _mean,
    "softmax": _softmax,
    "min": _min,
    "rank": _rank,
}
"""z of the clips (n_members, n_clips) and of the training clips -> fused scores (n_clips,)."""
