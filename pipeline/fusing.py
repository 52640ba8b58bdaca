"""The scores of a combination's members become one score per clip, machine by machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ground.text import one_line
from pipeline.judging import Fitted, MemberFits

if TYPE_CHECKING:
    from detect.fitting import FitUnit, Scores
    from detect.out_of_fold import OutOfFold

Unit = tuple[str, str]
"""Machine type and machine ID; the ID is "" where one model is fitted per type."""


@dataclass(frozen=True)
class Fused:
    """A machine's fused scores and what was fitted, or the reason why there are none."""

    unit: FitUnit
    members: Sequence[tuple[str, Fitted]]
    """Each member's name with its fit; those that failed are left out."""
    scores: Scores | None = None
    calibration: OutOfFold | str = ""
    """Fused scores of the training clips, or why there are no thresholds."""
    reason: str = ""
    notes: tuple[str, ...] = ()
    clip_notes: Mapping[str, str] = field(default_factory=dict)
    """By clip key, which members have not rated it."""


def fuse_members(fits: Sequence[MemberFits], rule: str) -> list[Fused]:
    """Fuse the members' scores of every machine; a single member's scores stay as they are."""
    by_unit: dict[Unit, list[tuple[str, Fitted]]] = {}
    for fit in fits:
        for fitted in fit.fitted:
            unit = fitted.unit.machine_type, fitted.unit.machine_id
            by_unit.setdefault(unit, []).append((fit.member.name, fitted))
    if len(fits) == 1:
        return [_alone(members) for members in by_unit.values()]
    ids = {key: machine_id for fit in fits for key, machine_id in _ids(fit)}
    return [_fused(members, rule, ids) for members in by_unit.values()]


def _alone(members: Sequence[tuple[str, Fitted]], *notes: str) -> Fused:
    ((_, fitted),) = members[:1]
    return Fused(fitted.unit, members[:1], fitted.scores, fitted.calibration, fitted.reason, notes)


def _ids(fit: MemberFits) -> Sequence[tuple[str, str]]:
    return list(zip(fit.table.key, fit.table.machine_id, strict=True))


def _fused(members: Sequence[tuple[str, Fitted]], rule: str, ids: Mapping[str, str]) -> Fused:
    """Fuse one machine. Members without scores or out-of-fold scores are left out and noted."""
    from detect.fusion import fuse

    notes = [f"{name} is left out: {fit.reason}" for name, fit in members if fit.scores is None]
    rated = [(name, fit) for name, fit in members if fit.scores is not None]
    if not rated:
        return Fused(members[0][1].unit, [], reason=members[0][1].reason)
    held_out = [(name, fit) for name, fit in rated if not isinstance(fit.calibration, str)]
    if not held_out:
        name, fit = rated[0]
        return _alone(rated, *notes, f"not fused, {name} alone: {fit.calibration}")
    notes += [
        f"{name} is left out: {fit.calibration}"
        for name, fit in rated
        if isinstance(fit.calibration, str)
    ]
    try:
        fused = fuse([_member_scores(name, fit) for name, fit in held_out], rule)  # type: ignore[arg-type]
    except ValueError as error:
        name, _ = held_out[0]
        return _alone(held_out, *notes, f"not fused, {name} alone: {one_line(error)}")
    first = held_out[0][1]
    unit = replace(
        first.unit,
        train_keys=fused.train_keys,
        train_ids=tuple(ids[key] for key in fused.train_keys),
        train_groups=_of_train(held_out, fused.train_keys, "train_groups"),
        train_domains=_of_train(held_out, fused.train_keys, "train_domains"),
        test_keys=fused.keys,
        test_ids=tuple(ids[key] for key in fused.keys),
    )
    fits: list[Any] = [fit for _, fit in held_out]
    scores = replace(
        fits[0].scores,
        unit=unit,
        scores=fused.scores,
        detector=None,
        seconds=sum(fit.scores.seconds for fit in fits),
        history=(),
        warnings=tuple(dict.fromkeys(w for fit in fits for w in fit.scores.warnings)),
    )
    calibration = replace(
        fits[0].calibration,
        keys=fused.train_keys,
        machine_ids=unit.train_ids,
        scores=fused.out_of_fold,
        domains=unit.train_domains if any(unit.train_domains) else (),
        n_recordings=min(fit.calibration.n_recordings for fit in fits),
    )
    lacking = {key: f"not rated by {', '.join(names)}" for key, names in fused.lacking.items()}
    return Fused(unit, held_out, scores, calibration, "", (*notes, *fused.notes), lacking)


def _member_scores(name: str, fit: Fitted) -> Any:
    from detect.fusion import MemberScores

    if fit.scores is None or isinstance(fit.calibration, str):
        raise TypeError(f"{name} has no scores to fuse")
    return MemberScores(
        name, fit.calibration.keys, fit.calibration.scores, fit.unit.test_keys, fit.scores.scores
    )


def _of_train(
    members: Sequence[tuple[str, Fitted]], keys: Sequence[str], column: str
) -> tuple[str, ...]:
    """Collect what the members' units say of training clips, in the order of keys."""
    said = {
        key: value
        for _, fit in members
        for key, value in zip(fit.unit.train_keys, getattr(fit.unit, column), strict=True)
    }
    return tuple(said[key] for key in keys)
