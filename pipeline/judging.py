"""Fit every member on every machine and rate the test clips, in parallel, failures isolated."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from detect import facts_of
from ground.files import unsynced
from ground.text import one_line
from pipeline.clips import only, trained, without
from pipeline.interrupts import ignore_interrupts
from pipeline.journal import Journal
from pipeline.many_machines import LOCAL, run_on_cluster
from pipeline.parts import devices_of
from pipeline.plan import Combination, Member
from pipeline.remarks import remark_copies, remark_outliers
from pipeline.screen import progress
from pipeline.settings import Settings
from pipeline.sources import Pair, Source
from pipeline.spool import Spool

if TYPE_CHECKING:
    from detect.fitting import ClipTable, DetectorChoice, FitUnit, Scores
    from detect.out_of_fold import OutOfFold
    from detect.training_clips import TrainingOutlier

SECONDS_ALONE = 3.0
"""Fits run in this process for so long before others are started, which takes seconds itself."""

T = TypeVar("T")


@dataclass(frozen=True)
class Fitted:
    """One unit fitted and rated by one member, or the reason why it is not."""

    unit: FitUnit
    scores: Scores | None = None
    calibration: OutOfFold | str = ""
    """Scores of the training clips by models that have not seen them, or why there are none."""
    reason: str = ""
    """Why there are no scores."""
    damaged: tuple[str, ...] = ()
    """Clips that were left out, since their rows in the cache are damaged."""


@dataclass(frozen=True)
class MemberFits:
    """A member fitted on every machine."""

    member: Member
    source: Source
    table: ClipTable
    """The clips that have a vector, of machines that have training clips."""
    fitted: Sequence[Fitted]
    without_training: Sequence[str] = ()
    """Machines that lost all of their training clips, each with the reason."""
    outliers: Sequence[TrainingOutlier] = ()


Judged = Sequence[MemberFits] | str
"""The fits of a combination's members that can be had, or the reason why there are none."""

Unusable = Mapping[Any, str]
"""Why vectors (by their `Pair`) or a detector (by its name) cannot be had."""


def judge(
    settings: Settings,
    table: ClipTable,
    sources: Mapping[Pair, Source],
    combinations: Sequence[Combination],
    weights: Mapping[str, str],
    unusable: Unusable,
    journal: Journal,
    *,
    spool: Spool,
    tested_only: bool = True,
) -> Iterator[tuple[Combination, Judged]]:
    """Fit and rate all members of all combinations; give each combination once it is done.

    A member that several combinations share is fitted once. `weights` are the paths of the
    networks that detectors hold; `unusable` has the reason for a source or a detector that cannot
    be had, whose members are left out of their combinations. Clips whose rows in the cache are
    damaged are left out and noted. Machines without test clips are left out if `tested_only`.
    The detectors of many fits are kept in `spool`, which is needed until models are written.
    """
    usable = [
        (c, [member for member in c.members if not why_unusable(member, unusable)])
        for c in combinations
    ]
    works: dict[tuple[Any, ...], _Work] = {}
    for combination, members in usable:
        for member in members:
            key = _key(combination, member)
            if key not in works:
                works[key] = _work(
                    settings, table, sources, combination, member, weights, tested_only
                )
    remark_copies(table, sources.values(), journal, quiet=settings.quiet)
    outliers = _outliers(works.values(), journal, quiet=settings.quiet)
    uses = Counter(_key(combination, member) for combination, own in usable for member in own)
    results = _run(list(works.values()), settings, spool)
    done: dict[tuple[Any, ...], MemberFits] = {}
    waiting = iter(works)
    for combination, members in usable:
        keys = [_key(combination, member) for member in members]
        while not all(key in done for key in keys):
            key = next(waiting)
            done[key] = replace(next(results), outliers=outliers[works[key].member.source])
            _note_damaged(done[key], journal)
        reasons = (why_unusable(member, unusable) for member in combination.members)
        yield combination, [done[key] for key in keys] or "; ".join(dict.fromkeys(reasons))
        uses.subtract(keys)
        for key in keys:
            if not uses[key]:
                del done[key]


def _outliers(
    works: Iterable[_Work], journal: Journal, *, quiet: bool
) -> dict[Pair, list[TrainingOutlier]]:
    """List the training clips that are unlike the rest, once for each source."""
    first_of = {work.member.source: work for work in reversed(list(works))}
    return {
        pair: remark_outliers(work.units, work.source, journal, quiet=quiet)
        for pair, work in first_of.items()
    }


def why_unusable(member: Member, unusable: Unusable) -> str:
    """Return the reason why a member's vectors or its detector cannot be had, or ""."""
    return unusable.get(member.detector.name) or unusable.get(member.source) or ""


def _note_damaged(fits: MemberFits, journal: Journal) -> None:
    for fitted in fits.fitted:
        for key in fitted.damaged:
            journal.leave_out(
                key,
                f"it has a damaged row in the cache; "
                f"`python -m cache verify {fits.source.path} --repair` removes damaged rows, and "
                "the next run computes them again",
            )


def _key(combination: Combination, member: Member) -> tuple[Any, ...]:
    """Name a fit: the same member, scope and seed are fitted once."""
    settings = combination.settings
    return member, combination.fit_per, settings.seed, settings.scaler


@dataclass(frozen=True)
class _Work:
    """A member to be fitted, and how."""

    member: Member
    source: Source
    table: ClipTable
    units: Sequence[FitUnit]
    choice: DetectorChoice
    seed: int
    holds_out: bool
    """Whether out-of-fold scores are computed."""
    without_training: Sequence[str]

    def way_to_fit(self, unit: FitUnit) -> _Way:
        """Leave out what is of other units."""
        read = self.source.reader_of([*unit.train_keys, *unit.test_keys])
        return _Way(read, self.choice, self.seed, self.holds_out)


@dataclass(frozen=True)
class _Way:
    """How one unit is fitted; it is sent to another process, so it holds nothing of the others."""

    read: Callable[[Sequence[str]], Any]
    choice: DetectorChoice
    seed: int
    holds_out: bool


def _work(
    settings: Settings,
    table: ClipTable,
    sources: Mapping[Pair, Source],
    combination: Combination,
    member: Member,
    weights: Mapping[str, str],
    tested_only: bool,
) -> _Work:
    """Prepare a member: its vectors, its machines, and its detector with all options."""
    from detect.fitting import DetectorChoice, units

    source, name = sources[member.source], member.detector.name
    own, without_training = trained(only(table, source.keys))
    network = {"weights": weights[name]} if name in weights else {}
    device = ""
    if facts_of(name).trains_network:
        device = devices_of(settings)[0] if settings.engine == LOCAL else "cpu"
    return _Work(
        member=member,
        source=source,
        table=own,
        units=units(own, combination.fit_per, tested_only=tested_only),  # type: ignore[arg-type]
        choice=DetectorChoice(
            name,
            {**network, **dict(member.detector.options)},
            combination.settings.scaler or "standard",
            device,
        ),
        seed=combination.settings.seed,
        holds_out=settings.false_alarms != "none" or len(combination.members) > 1,
        without_training=without_training,
    )


def _run(works: Sequence[_Work], settings: Settings, spool: Spool) -> Iterator[MemberFits]:
    """Fit all members on all machines, with one bar over all of them."""
    # processes would each set up the same GPU anew
    on_gpu = any(work.choice.device.startswith("cuda") for work in works)
    workers = 1 if on_gpu else settings.workers or os.cpu_count() or 1
    n_tasks = sum(len(work.units) for work in works)
    # a cluster may have no folder in common
    paths = iter(spool.paths(n_tasks) if settings.engine == LOCAL else [None] * n_tasks)
    tasks = (
        partial(_attempt_and_keep, next(paths), unit, work.way_to_fit(unit))
        for work in works
        for unit in work.units
    )
    with progress("fit and score", n_tasks, "fits", quiet=settings.quiet) as advance:
        attempts = _in_order(tasks, n_tasks, workers, advance.tell, settings.engine)
        for work in works:
            fitted = []
            for attempt in itertools.islice(attempts, len(work.units)):
                fitted.append(attempt)
                advance()
            yield MemberFits(work.member, work.source, work.table, fitted, work.without_training)


def _in_order(
    tasks: Iterator[Callable[..., T]],
    n_tasks: int,
    workers: int,
    tell: Callable[[str], None],
    engine: str = LOCAL,
) -> Iterator[T]:
    """Run tasks and yield what they return, in their order; in parallel once that pays.

    Worker processes take seconds to start, so short grids never start them. Tasks of this
    process tell how they are getting on.
    """
    started, on_one_core = time.monotonic(), _limit_of_threads(n_tasks)
    for n_done, task in enumerate(tasks):
        if workers > 1 and time.monotonic() - started > SECONDS_ALONE:
            rest = itertools.chain([task], tasks)
            yield from _in_parallel(rest, min(workers, n_tasks - n_done), engine)
            return
        with on_one_core():
            done = task(tell=tell)
        yield done


def _in_parallel(tasks: Iterable[Callable[..., T]], workers: int, engine: str) -> Iterator[T]:
    """Run tasks in processes of this machine or of a cluster; yield results in their order."""
    if engine != LOCAL:
        yield from run_on_cluster(list(tasks), engine)
        return
    from joblib import Parallel, delayed

    parallel = Parallel(workers, return_as="generator", initializer=ignore_interrupts)
    yield from parallel(delayed(task)() for task in tasks)


def _limit_of_threads(n_tasks: int) -> Callable[[], AbstractContextManager[Any]]:
    """Return what keeps matrix products on one core, where there is more than one fit.

    Small products on several threads wait for each other: beside other work a Cholesky factor of
    180 clips took 98 ms by the clock on two threads and 0.4 ms on one. Worker processes have one
    each.
    """
    if n_tasks == 1:
        return nullcontext
    import scipy.linalg  # noqa: F401  has a BLAS of its own, which must be there to be limited
    from threadpoolctl import ThreadpoolController

    return partial(ThreadpoolController().limit, limits=1, user_api="blas")


def _attempt_and_keep(
    path: Path | None, unit: FitUnit, way: _Way, tell: Callable[[str], None] | None = None
) -> Fitted:
    """Fit and rate a machine, its detector kept at `path` where there is one.

    It stays in memory if it cannot be written; the model that it belongs to says why.
    """
    fitted = _attempt(unit, way, tell)
    if path is None or fitted.scores is None:
        return fitted
    from detect.saving import keep_detector

    with suppress(OSError), unsynced():
        kept = keep_detector(fitted.scores.detector, path)  # type: ignore[arg-type]
        return replace(fitted, scores=replace(fitted.scores, detector=kept))
    return fitted


def _attempt(unit: FitUnit, way: _Way, tell: Callable[[str], None] | None = None) -> Fitted:
    """Fit and rate a machine; a failure is its reason, so that the others go on.

    Clips whose rows in the cache are damaged are left out.
    """
    from detect.fitting import fit_and_score

    try:
        scores = fit_and_score(unit, way.read, way.choice, way.seed, tell)
        return Fitted(unit, scores, _held_out(unit, way))
    except Exception as error:  # whatever a detector raises is this machine's row, with its reason
        damaged = frozenset(getattr(error, "keys", ()) if isinstance(error, OSError) else ())
        if damaged & {*unit.train_keys, *unit.test_keys}:
            fitted = _attempt(without(unit, damaged), way, tell)
            return replace(fitted, damaged=(*fitted.damaged, *sorted(damaged)))
        reason, which = one_line(error), f"{way.choice.name} on {unit.name}"
        return Fitted(unit, reason=reason if reason.startswith(which) else f"{which}: {reason}")


def _held_out(unit: FitUnit, way: _Way) -> OutOfFold | str:
    """Rate the training clips by models without them, or say why that cannot be."""
    from detect.out_of_fold import out_of_fold

    if not way.holds_out:
        return "no thresholds were asked for"
    try:
        return out_of_fold(unit, way.read, way.choice, seed=way.seed)
    except Exception as error:  # a threshold that cannot be costs the verdicts, not the scores
        return one_line(error)
