"""From anomaly scores to decisions: p-values, thresholds that keep a promise, verdicts.

Everything is computed from n out-of-fold scores of normal training clips (`detect.out_of_fold`).
The conformal p-value of a clip that scores s is `(1 + #{s_i >= s}) / (n + 1)`: the share of
normal clips that are at least as anomalous, the clip itself counted. Flagging p-values up to a
rate a flags at most that share of new normal clips, on average over training sets, if they are
exchangeable with the scores (Vovk, Gammerman, Shafer 2005). That holds exactly for scores of one
model that has seen none of them; out-of-fold scores come from one model per fold, which is close.
No label takes part; thresholds that use labels are in `detect.oracle`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, log
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detect.detector import last_step

if TYPE_CHECKING:
    from detect.fitting import ClipTable, Scores
    from detect.out_of_fold import OutOfFold

Array = NDArray[np.float64]
Rule = Literal["conformal", "gamma", "domains"]
Verdict = Literal["normal", "suspicious", "anomalous", "unknown"]

FALSE_ALARMS = 0.05
SUSPICIOUS = 3.0
"""A clip is suspicious up to this many times the promised rate."""
FEW_CLIPS = 10
FEWEST_CLIPS = 3
OCSVM_THRESHOLDS = (0.0, 0.2)
"""On the decision value of detectors with a boundary of their own; the One-Class SVM report's."""
ROUNDING = 1e-9


@dataclass(frozen=True)
class Threshold:
    """A score above which a clip is anomalous, and what that promises."""

    value: float
    false_alarm_rate: float
    """Promised: the largest share of new normal clips that is flagged."""
    confidence: float | None
    """Probability, over training sets, that the rate is kept; None: it is kept on average."""
    n: int
    """Out-of-fold scores that it comes from."""
    k: int
    """It is the k-th smallest of them; 0 where the rule is another."""
    rule: Rule = "conformal"
    note: str = ""


@dataclass(frozen=True)
class Decisions:
    """What a threshold says of clips, in their order."""

    threshold: Threshold
    p_values: Array
    """(n_clips,); NaN where a clip has no score."""
    verdicts: tuple[Verdict, ...]
    expected_false_alarms: float
    """Anomalous verdicts to expect, at most, if every clip were normal."""


@dataclass(frozen=True)
class MachineDecisions:
    """The decisions on one machine's test clips, or why there are none."""

    machine_type: str
    machine_id: str
    keys: tuple[str, ...]
    decisions: Decisions | None
    why_not: str = ""


def p_values(scores: ArrayLike, calibration: ArrayLike) -> Array:
    """Conformal p-values of `scores` (n_clips,) against n scores of normals; NaN stays NaN."""
    ascending = np.sort(_calibration(calibration))
    values = np.asarray(scores, dtype=np.float64)
    at_least = len(ascending) - np.searchsorted(ascending, values, side="left")
    return np.where(np.isnan(values), np.nan, (1 + at_least) / (len(ascending) + 1))


def check_promise(
    false_alarms: float | str, confidence: float | None = None, rule: str = "conformal"
) -> float | Literal["auto"]:
    """Return the false-alarm rate as a number, or "auto"; ValueError for what cannot be asked."""
    if rule not in get_args(Rule):
        raise ValueError(
            f"There is no threshold rule {rule!r}; it is {' or '.join(get_args(Rule))}"
        )
    if confidence is not None and not 0 < confidence < 1:
        raise ValueError(f"The confidence is {confidence}, but it must be above 0 and below 1")
    if false_alarms == "auto":
        return "auto"
    try:
        rate = float(false_alarms)
    except ValueError:
        rate = float("nan")
    if not 0 < rate < 1:
        raise ValueError(
            f"The false-alarm rate is {false_alarms}, but it must be a number above 0 and below 1, "
            "as 0.05, or auto"
        )
    return rate


def conformal_k(n: int, false_alarms: float, confidence: float | None = None) -> int | None:
    """Which of n ascending scores is the threshold; None if n scores cannot promise the rate.

    Without confidence `ceil((n + 1) (1 - a))`. With it the smallest k for which the false-alarm
    rate, which is Beta(n + 1 - k, k) over training sets, is at most `a` with that probability.
    """
    if confidence is None:
        k = n + 1 - floor((n + 1) * false_alarms + ROUNDING)
        return k if k <= n else None
    from scipy.special import betainc

    ks = np.arange(1, n + 1)
    kept = betainc(n + 1 - ks, ks, false_alarms) >= confidence - ROUNDING
    return int(ks[kept][0]) if kept.any() else None


def clips_needed(false_alarms: float, confidence: float | None = None) -> int:
    """Fewest training clips that can promise a false-alarm rate."""
    if confidence is None:
        return ceil(1 / false_alarms - 1 - ROUNDING)
    return ceil(log(1 - confidence) / log(1 - false_alarms) - ROUNDING)


def least_rate(n: int, confidence: float | None = None) -> float:
    """Smallest false-alarm rate that n training clips can promise."""
    if confidence is None:
        return 1 / (n + 1)
    return float(1 - (1 - confidence) ** (1 / n))


def threshold_of(
    out_of_fold_scores: ArrayLike,
    false_alarms: float | str = FALSE_ALARMS,
    confidence: float | None = None,
    rule: Rule = "conformal",
    domains: Sequence[str] = (),
) -> Threshold:
    """Choose the threshold from out-of-fold scores (n,) of normal clips.

    `rule="domains"` is the highest of the conformal thresholds of the domains, where `domains` (n,)
    has that of each clip: it promises the rate in each of them, and no domain of a new clip need
    be known. `rule="gamma"` fits a gamma distribution as DCASE's baselines do, with their
    `false_alarms=0.1`, and promises nothing. `false_alarms="auto"` is 5 %, or the least that n
    clips can promise where that is more; `note` says so. Raises ValueError for a promise that n
    clips cannot keep, with the number needed.
    """
    scores = _calibration(out_of_fold_scores)
    wanted = check_promise(false_alarms, confidence, rule)
    rate = FALSE_ALARMS if wanted == "auto" else wanted
    n = len(scores)
    if rule == "domains":
        return _of_domains(scores_by_domain(scores, domains), false_alarms, confidence)
    if rule == "gamma":
        value, note = gamma_quantile(scores, 1 - rate)
        return Threshold(value, rate, None, n, 0, rule, note)
    k, note = conformal_k(n, rate, confidence), ""
    if k is None:
        least, needed = least_rate(n, confidence), clips_needed(rate, confidence)
        sure = f" with confidence {confidence:g}" if confidence else ""
        if wanted != "auto":
            proposed = ceil(least * 1000) / 1000  # rounded up, so that it can be promised
            raise ValueError(
                f"{n} training clips cannot promise a false-alarm rate of {rate:.3g}{sure}: that "
                f"needs {needed} clips; record more, ask for {proposed:g} or more, or take auto, "
                "which promises what is possible"
            )
        note = (
            f"the threshold promises {100 * least:.3g} % false alarms{sure}, since {100 * rate:g} "
            f"% needs {needed} training clips and there are {n}"
        )
        k, rate = n, least
    return Threshold(float(np.sort(scores)[k - 1]), rate, confidence, n, k, rule, note)


def scores_by_domain(scores: ArrayLike, domains: Sequence[str]) -> dict[str, Array]:
    """Part out-of-fold scores (n,) by domain; clips without one count where none has any."""
    values, of_clip = _calibration(scores), np.array(domains)
    named = sorted({*domains} - {""})
    return {name: values[of_clip == name] for name in named} or {"": values}


def _of_domains(
    by_domain: Mapping[str, Array], false_alarms: float | str, confidence: float | None
) -> Threshold:
    """Choose the highest threshold, which promises what the least certain domain can."""
    parts: dict[str, Threshold] = {}
    for name, scores in by_domain.items():
        if len(scores) < FEWEST_CLIPS:
            raise ValueError(
                f"the domain {name} has {len(scores)} training clips, and a threshold needs "
                f"{FEWEST_CLIPS}; record more, or leave --threshold domains out"
            )
        parts[name] = threshold_of(scores, false_alarms, confidence)
    highest = max(parts.values(), key=lambda threshold: threshold.value)
    notes = [f"{name}: {part.note}".removeprefix(": ") for name, part in parts.items() if part.note]
    return replace(
        highest,
        false_alarm_rate=max(threshold.false_alarm_rate for threshold in parts.values()),
        n=sum(threshold.n for threshold in parts.values()),
        k=0,
        rule="domains",
        note="; ".join(notes),
    )


def _calibration(scores: ArrayLike) -> Array:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"Out-of-fold scores have the shape {values.shape}; expected (n,), n > 0")
    if not np.isfinite(values).all():
        raise ValueError(
            f"{np.sum(~np.isfinite(values))} of {len(values)} out-of-fold scores are not finite"
        )
    return values


def gamma_quantile(scores: Array, quantile: float) -> tuple[float, str]:
    """Quantile of a gamma distribution that is fitted to scores, and which fit it was.

    Shape, location and scale by maximum likelihood, as the code of DCASE's baselines calls
    `scipy.stats.gamma.fit`. Where that fails, or gives a quantile that is not finite or below all
    scores, the location is fixed below the lowest score, and shape and scale come from mean and
    variance. Where all scores are equal, the quantile is that score.
    """
    from scipy.stats import gamma

    if np.ptp(scores) == 0:
        return float(scores[0]), f"no gamma fit: all {len(scores)} scores are equal"
    try:
        with np.errstate(all="ignore"):
            value = float(gamma.ppf(quantile, *gamma.fit(scores)))
        why = f"its {quantile:.3g} quantile is {value:g}"
    except (ValueError, RuntimeError, ArithmeticError) as error:
        value, why = float("nan"), str(error).splitlines()[0]
    if np.isfinite(value) and value > scores.min():
        return value, "gamma fit of shape, location and scale"
    start = float(scores.min() - np.ptp(scores) / len(scores))
    mean, variance = float(scores.mean()) - start, float(scores.var())
    value = float(gamma.ppf(quantile, mean**2 / variance, loc=start, scale=variance / mean))
    return value, f"fallback to the moments of a gamma distribution, since the fit failed: {why}"


def few_clips_warning(n: int, confidence: float | None = None) -> str:
    """Say what fewer than 10 training clips mean; "" from 10 on."""
    if n >= FEW_CLIPS:
        return ""
    if n < FEWEST_CLIPS:
        return (
            f"{n} training clips: scores without verdicts, since a threshold needs {FEWEST_CLIPS}"
        )
    least = 100 * least_rate(n, confidence)
    return f"{n} training clips: no false-alarm rate below {least:.1f} % can be promised"


def decide(
    scores: ArrayLike,
    calibration: ArrayLike,
    threshold: Threshold,
    domains: Sequence[str] = (),
) -> Decisions:
    """Compare scores (n_clips,) with a threshold and the out-of-fold scores it came from.

    Anomalous: above the threshold. Suspicious: a p-value up to three times the promised rate; by
    the rule `domains` it is the largest of those against each domain. A clip without a score (NaN)
    is unknown.
    """
    values = np.asarray(scores, dtype=np.float64)
    parts = {"": calibration}
    if threshold.rule == "domains":
        parts = dict(scores_by_domain(calibration, domains))
    p = np.max([p_values(values, part) for part in parts.values()], axis=0)
    limit = SUSPICIOUS * threshold.false_alarm_rate + ROUNDING
    which = np.select(
        [np.isnan(values), values > threshold.value, p <= limit],
        ["unknown", "anomalous", "suspicious"],
        "normal",
    )
    n_rated = int(np.sum(~np.isnan(values)))
    verdicts: tuple[Verdict, ...] = tuple(which.tolist())
    return Decisions(threshold, p, verdicts, threshold.false_alarm_rate * n_rated)


def decide_machines(
    fitted: Scores,
    calibration: OutOfFold | str,
    false_alarms: float | str = FALSE_ALARMS,
    confidence: float | None = None,
    rule: Rule = "conformal",
) -> list[MachineDecisions]:
    """Decide on a unit's test clips, each machine ID by its own out-of-fold scores.

    `calibration` is the reason where there are no such scores. A machine whose promise cannot be
    kept has no decisions and says why; an invalid rate or rule is a ValueError for all.
    """
    check_promise(false_alarms, confidence, rule)
    unit = fitted.unit
    ids = np.array(unit.test_ids)
    found = []
    for machine_id in sorted(set(unit.test_ids)):
        own = np.flatnonzero(ids == machine_id)
        keys = tuple(unit.test_keys[i] for i in own)
        decisions, why_not = None, calibration if isinstance(calibration, str) else ""
        if not isinstance(calibration, str):
            normal = calibration.of_machine(machine_id)
            why_not = few_clips_warning(len(normal)) if len(normal) < FEWEST_CLIPS else ""
            try:
                if not why_not:
                    domains = calibration.domains_of(machine_id)
                    threshold = threshold_of(normal, false_alarms, confidence, rule, domains)
                    decisions = decide(fitted.scores[own], normal, threshold, domains)
            except ValueError as error:
                why_not = str(error)
        found.append(MachineDecisions(unit.machine_type, machine_id, keys, decisions, why_not))
    return found


def proportion_interval(count: int, n: int, coverage: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of a rate of which `count` of n cases were observed."""
    from scipy.special import betaincinv

    if not 0 <= count <= n or n == 0:
        raise ValueError(f"{count} of {n} cases is no proportion")
    tail = (1 - coverage) / 2
    low = betaincinv(count, n - count + 1, tail) if count else 0.0
    high = betaincinv(count + 1, n - count, 1 - tail) if count < n else 1.0
    return float(low), float(high)


def rates(is_anomalous: ArrayLike, is_flagged: ArrayLike) -> dict[str, float]:
    """Accuracy, precision, recall and F1, anomalous being positive; without cases a rate is 0."""
    truth, flagged = np.asarray(is_anomalous, bool), np.asarray(is_flagged, bool)
    hits = int(np.sum(truth & flagged))
    precision = hits / max(1, int(flagged.sum()))
    recall = hits / max(1, int(truth.sum()))
    return {
        "accuracy": float(np.mean(truth == flagged)) if len(truth) else 0.0,
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
    }


def rates_at_boundary(table: ClipTable, scores: Sequence[Scores]) -> dict[str, float]:
    """Rate what a detector's own boundary decides, over all labelled test clips.

    A detector with `offset_`, as scikit-learn's outlier detectors have, gives a decision value:
    its score above that boundary. A clip is flagged below 0, or below 0.2. Empty for detectors
    without a boundary, and for clips without labels.
    """
    label_of = dict(zip(table.key, table.label, strict=True))
    truth: list[bool] = []
    values: list[float] = []
    for fitted in scores:
        boundary = getattr(last_step(fitted.detector), "offset_", None)
        if boundary is None:
            return {}
        for key, _, score in fitted.by_clip():
            if label_of[key] != "unknown":
                truth.append(label_of[key] == "anomalous")
                values.append(-score - float(boundary))
    if not truth:
        return {}
    return {
        f"{name}_at_{threshold:g}": rate
        for threshold in OCSVM_THRESHOLDS
        for name, rate in rates(truth, np.array(values) < threshold).items()
    }
