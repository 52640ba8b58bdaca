"""The page of a run: `report.html`, one file that needs nothing else and opens anywhere.

Numbers are chosen here, `drawings.py` turns them into shapes, the templates beside this file lay
them out. The page stays small for any number of clips and machines: what is not listed is in the
files beside it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from detect.fitting import ClipTable, Scores
from detect.results import Result
from ground.file_names import file_name
from ground.files import write_whole
from ground.text import visible
from report.drawings import (
    ClipOrder,
    Histogram,
    clip_order,
    histogram,
    roc_path,
    short,
    training_losses,
)
from report.machine_scores import (
    DRAWN_AT_MOST,
    KINDS,
    MachineScores,
    machine_scores,
    worst_first,
)
from report.tables import notes_of
from report.templates import json_block, render, script

if TYPE_CHECKING:
    from detect.thresholds import MachineDecisions
    from detect.training_clips import TrainingOutlier
    from report.embedding_map import EmbeddingMap
    from report.heard_clips import HeardClip

CLIPS_LISTED = 10
"""Clips per machine."""
ROWS_LISTED = 500
CLIPS_SEARCHED = 10_000
"""Test clips that the page's search looks through."""
LEFT_OUT_LISTED = 20
"""Clips left out per kind of reason, and kinds of reasons."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is known of a run."""

    title: str
    table: ClipTable
    scores: Sequence[Scores]
    results: Sequence[Result]
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    errors: Sequence[tuple[str, str]] = ()
    """Clips that were left out, each with the reason."""
    decided: Sequence[MachineDecisions] = ()
    unlike: Sequence[TrainingOutlier] = ()
    method: Sequence[str] = ()
    """What was done, in sentences."""
    heard: Mapping[str, HeardClip] = field(default_factory=dict)
    """Clips to hear, by key."""
    why: Mapping[str, str] = field(default_factory=dict)
    """Why each of them is shown."""
    points: EmbeddingMap | None = None


@dataclass(frozen=True)
class ListedClip:
    """A clip in a list: its rank, its file name, and where on the page it can be heard."""

    rank: int
    name: str
    key: str
    link: str
    score: str
    label: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class MachineCard:
    """What is drawn and listed for one machine."""

    name: str
    anchor: str
    result: Result | None
    histogram: Histogram
    roc: str
    clips: Sequence[ListedClip]
    n_clips: int
    threshold: str
    """Written as a score; "" where nothing was decided."""
    order: ClipOrder
    at_threshold: tuple[float, float] | None
    """Where the threshold is on the ROC curve."""
    confusion: Sequence[tuple[str, int, int]]
    """By label, how many clips were called anomalous, and how many were not."""


@dataclass(frozen=True)
class ShownClip:
    """A clip to hear, with what the tables say of it."""

    clip: HeardClip
    anchor: str
    why: str
    label: str
    score: str
    threshold: str
    verdict: str


@dataclass(frozen=True)
class HeardMachine:
    """The clips of one machine that the page lets people hear."""

    name: str
    clips: Sequence[ShownClip]


@dataclass(frozen=True)
class Dot:
    """A clip on the map."""

    x: float
    y: float
    shape: str
    """A circle, a triangle or a square, as SVG path data."""
    label: str
    machine: int
    says: str
    anchor: str


@dataclass(frozen=True)
class DrawnMap:
    """The map of the embeddings, laid out."""

    dots: Sequence[Dot]
    machines: Sequence[str]
    across: str
    up: str
    about: str


@dataclass(frozen=True)
class LeftOut:
    """Clips that were left out for the same kind of reason; the first ones are listed."""

    listed: Sequence[tuple[str, str]]
    n_more: int


def write_report(folder: Path, run: Run) -> Path:
    """Write `report.html` to a run folder."""
    machines = machine_scores(run.table, run.scores, run.results)
    chosen = sorted(worst_first(machines), key=lambda m: (m.machine_type, m.machine_id))
    rows = _rows(run.results)
    left_out = _left_out(run.errors)
    outliers = _training_outliers(run)
    anchors = {key: f"clip-{number}" for number, key in enumerate(run.heard, start=1)}
    text_of_script, script_hash = script("page.js")
    text = render(
        "report.html.j2",
        title=run.title,
        run=run,
        rows=rows,
        shortened=len(run.results) > ROWS_LISTED,
        unlabelled=any(machine.of("unknown").size for machine in machines),
        headline=_headline(run.results),
        n_clips=sum(len(machine.keys) for machine in machines),
        n_machines=len(machines),
        facts={**run.facts, **_shown_settings(run.settings)},
        cards=[_card(machine, run, anchors) for machine in chosen],
        classes=_classes(chosen),
        heard=_heard(chosen, run, anchors),
        points=_drawn_map(machines, run, anchors),
        clip_data=json_block(_clip_data(machines, run, anchors)),
        n_not_listed=max(0, sum(len(m.keys) for m in machines) - CLIPS_SEARCHED),
        script=text_of_script,
        script_hash=script_hash,
        losses=training_losses(run.scores, chosen),
        outliers=outliers,
        n_outlier_machines=len({clip.machine for clip in run.unlike}),
        left_out=left_out[:LEFT_OUT_LISTED],
        n_left_out_otherwise=sum(len(e.listed) + e.n_more for e in left_out[LEFT_OUT_LISTED:]),
        notes=notes_of(rows),
        decided=any(row.decided for row in rows),
        domains=any(row.auc_source is not None or row.auc_target is not None for row in rows),
    )
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    write_whole(page, text)
    return page


def _shown_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Leave out settings without a value; write lists and switches in words."""
    shown = {}
    for name, value in settings.items():
        if isinstance(value, bool):
            shown[name] = "yes" if value else "no"
        elif isinstance(value, (list, tuple)):
            shown[name] = ", ".join(map(str, value))
        else:
            shown[name] = "" if value is None else str(value)
    return {name: text for name, text in shown.items() if text}


def _rows(results: Sequence[Result]) -> list[Result]:
    """Choose the rows: machines unless they are very many, and summaries of several."""
    n_machines = Counter(row.machine_type for row in results if not row.is_summary)
    shown = [row for row in results if not row.is_summary or n_machines[row.machine_type] != 1]
    if len(shown) > ROWS_LISTED:
        shown = [row for row in shown if row.is_summary]
    return shown[-ROWS_LISTED:]  # the averages over all types are last


def _headline(rows: Sequence[Result]) -> Result | None:
    """Choose the row worth large figures: the mean, if there is one type; else none."""
    means = [row for row in rows if row.machine_id == "mean"]
    return means[0] if len(means) == 1 and means[0].auc is not None else None


def _verdicts(machine: MachineScores, run: Run) -> dict[str, str]:
    """Return the verdicts on a machine's test clips, by key."""
    return {
        key: verdict
        for each in run.decided
        if each.decisions
        and (each.machine_type, each.machine_id) == (machine.machine_type, machine.machine_id)
        for key, verdict in zip(each.keys, each.decisions.verdicts, strict=True)
    }


def _card(machine: MachineScores, run: Run, anchors: Mapping[str, str]) -> MachineCard:
    """Draw one machine and list its most anomalous clips."""
    verdict_of = _verdicts(machine, run)
    clips = zip(machine.keys, machine.labels, machine.scores.tolist(), strict=True)
    listed = [
        _listed(rank, key, anchors.get(key, ""), short(score), label, verdict_of.get(key, ""))
        for rank, (key, label, score) in zip(range(1, CLIPS_LISTED + 1), clips, strict=False)
    ]
    decided = machine.result.decided if machine.result else None
    roc = roc_path(machine)
    at = None
    if roc and decided and decided.false_alarms is not None and decided.recall is not None:
        at = round(100 * decided.false_alarms, 1), round(100 - 100 * decided.recall, 1)
    return MachineCard(
        name=machine.name,
        anchor=file_name(machine.machine_type, machine.machine_id),
        result=machine.result,
        histogram=histogram(machine),
        roc=roc,
        clips=listed,
        n_clips=len(machine.keys),
        threshold=_threshold(machine),
        order=clip_order(machine),
        at_threshold=at,
        confusion=_confusion(machine, verdict_of),
    )


def _threshold(machine: MachineScores) -> str:
    """Write a machine's threshold; "" where nothing was decided."""
    decided = machine.result.decided if machine.result else None
    return "" if decided is None or decided.threshold is None else short(decided.threshold)


def _confusion(machine: MachineScores, verdict_of: Mapping[str, str]) -> list[tuple[str, int, int]]:
    """Count the labelled clips of each kind that were called anomalous, and that were not."""
    if not verdict_of:
        return []
    counts: Counter[tuple[str, bool]] = Counter(
        (label, verdict_of.get(key) == "anomalous")
        for key, label in zip(machine.keys, machine.labels, strict=True)
    )
    labels = [label for label in ("normal", "anomalous") if label in machine.labels]
    return [(label, counts[label, True], counts[label, False]) for label in labels]


def _classes(machines: Sequence[MachineScores]) -> list[dict[str, Any]]:
    """Count the clips of each machine by label, and how wide its bar is in percent."""
    most = max((len(machine.keys) for machine in machines), default=1)
    return [
        {
            "name": machine.name,
            "n_train": machine.result.n_train if machine.result else "",
            "width": round(100 * len(machine.keys) / most, 1),
            **{kind: len(machine.of(kind)) for kind in KINDS},
        }
        for machine in machines
    ]


def _heard(
    machines: Sequence[MachineScores], run: Run, anchors: Mapping[str, str]
) -> list[HeardMachine]:
    """Gather the clips to hear by machine, in the order in which they were chosen."""
    shown = []
    for machine in machines:
        verdict_of = _verdicts(machine, run)
        facts = {
            key: (label, score)
            for key, label, score in zip(
                machine.keys, machine.labels, machine.scores.tolist(), strict=True
            )
        }
        clips = [
            ShownClip(
                clip,
                anchors[key],
                run.why.get(key, ""),
                facts[key][0],
                short(facts[key][1]),
                _threshold(machine),
                verdict_of.get(key, ""),
            )
            for key, clip in run.heard.items()
            if key in facts
        ]
        if clips:
            shown.append(HeardMachine(machine.name, clips))
    return shown


def _drawn_map(
    machines: Sequence[MachineScores], run: Run, anchors: Mapping[str, str]
) -> DrawnMap | None:
    """Lay out the map: clips to hear last, so that they lie above the others."""
    if run.points is None:
        return None
    facts = {
        key: (number, label, score)
        for number, machine in enumerate(machines)
        for key, label, score in zip(
            machine.keys, machine.labels, machine.scores.tolist(), strict=True
        )
    }
    placed = zip(run.points.keys, run.points.points.tolist(), strict=True)
    dots = []
    for key, (x, y) in placed:
        if key not in facts:
            continue
        number, label, score = facts[key]
        name = PurePosixPath(key).name
        says = f"{machines[number].name}: {name}, {label}, score {short(score)}"
        dots.append(Dot(x, y, _shape(label, x, y), label, number, says, anchors.get(key, "")))
    dots.sort(key=lambda dot: bool(dot.anchor))
    about, names = run.points.about, [machine.name for machine in machines]
    return DrawnMap(dots, names, run.points.across, run.points.up, about[0].upper() + about[1:])


def _shape(label: str, x: float, y: float) -> str:
    """Draw a circle for a normal clip, a triangle for an anomalous one, else a square."""
    if label == "anomalous":
        return f"M{x:g},{y - 6:g}l5.4,9.6h-10.8z"
    if label == "normal":
        return f"M{x - 4:g},{y:g}a4,4 0 1 0 8,0a4,4 0 1 0 -8,0z"
    return f"M{x - 3.6:g},{y - 3.6:g}h7.2v7.2h-7.2z"


def _clip_data(
    machines: Sequence[MachineScores], run: Run, anchors: Mapping[str, str]
) -> dict[str, Any]:
    """Gather what the search looks through: of very many clips the most anomalous ones."""
    n_each = CLIPS_SEARCHED // max(1, len(machines))
    verdicts = ["", "normal", "suspicious", "anomalous", "unknown"]
    left = CLIPS_SEARCHED - sum(min(len(m.keys), n_each) for m in machines)
    listed = []
    for machine in machines:
        verdict_of = _verdicts(machine, run)
        n_shown = min(len(machine.keys), n_each + left)
        left -= max(0, n_shown - n_each)
        clips = zip(machine.keys, machine.labels, machine.scores.tolist(), strict=True)
        rows = [
            [
                visible(key),
                short(score),
                KINDS.index(label),
                verdicts.index(verdict_of.get(key, "")),
                *([anchors[key]] if key in anchors else []),
            ]
            for key, label, score in islice(clips, n_shown)
        ]
        listed.append({"name": visible(machine.name), "clips": rows})
    return {"machines": listed, "labels": KINDS, "verdicts": verdicts}


def _training_outliers(run: Run) -> dict[str, list[ListedClip]]:
    """List training clips far from the others, by machine: an error in the data, or a fault."""
    found: dict[str, list[ListedClip]] = {}
    for clip in run.unlike:
        if clip.machine not in found and len(found) == DRAWN_AT_MOST:
            continue
        listed = found.setdefault(clip.machine, [])
        if len(listed) < CLIPS_LISTED:
            distance = f"{clip.distance:.1f}"
            listed.append(_listed(len(listed) + 1, clip.key, "", distance))
    return found


def _left_out(errors: Iterable[tuple[str, str]]) -> list[LeftOut]:
    """Gather clips whose reasons differ in the clip's name and in numbers only."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for key, reason in errors:
        kinds.setdefault(re.sub(r"\d+", "#", reason.replace(key, "")), []).append((key, reason))
    return [
        LeftOut(clips[:LEFT_OUT_LISTED], max(0, len(clips) - LEFT_OUT_LISTED))
        for clips in kinds.values()
    ]


def _listed(
    rank: int, key: str, link: str, score: str, label: str = "", verdict: str = ""
) -> ListedClip:
    return ListedClip(rank, PurePosixPath(key).name, key, link, score, label, verdict)
