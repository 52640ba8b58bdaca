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
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from detect.fitting import ClipTable, Scores
from detect.results import Result
from ground.file_names import file_name
from ground.files import write_whole
from report.drawings import Histogram, histogram, roc_path, short, training_losses
from report.machine_scores import DRAWN_AT_MOST, MachineScores, machine_scores, worst_first
from report.tables import notes_of
from report.templates import render

if TYPE_CHECKING:
    from detect.thresholds import MachineDecisions
    from detect.training_clips import TrainingOutlier

CLIPS_LISTED = 10
"""Clips per machine."""
ROWS_LISTED = 500
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
    data_root: Path | None = None
    """Where the recordings are, so that clips lead to them."""


@dataclass(frozen=True)
class ListedClip:
    """A clip in a list: its rank, its file name, and where it leads."""

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
        cards=[_card(machine, run) for machine in chosen],
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


def _card(machine: MachineScores, run: Run) -> MachineCard:
    """Draw one machine and list its most anomalous clips."""
    verdict_of = {
        key: verdict
        for each in run.decided
        if each.decisions
        and (each.machine_type, each.machine_id) == (machine.machine_type, machine.machine_id)
        for key, verdict in zip(each.keys, each.decisions.verdicts, strict=True)
    }
    clips = zip(machine.keys, machine.labels, machine.scores.tolist(), strict=True)
    listed = [
        _listed(rank, key, run.data_root, short(score), label, verdict_of.get(key, ""))
        for rank, (key, label, score) in zip(range(1, CLIPS_LISTED + 1), clips, strict=False)
    ]
    decided = machine.result.decided if machine.result else None
    threshold = decided.threshold if decided else None
    return MachineCard(
        name=machine.name,
        anchor=file_name(machine.machine_type, machine.machine_id),
        result=machine.result,
        histogram=histogram(machine),
        roc=roc_path(machine),
        clips=listed,
        n_clips=len(machine.keys),
        threshold="" if threshold is None else short(threshold),
    )


def _training_outliers(run: Run) -> dict[str, list[ListedClip]]:
    """List training clips far from the others, by machine: an error in the data, or a fault."""
    found: dict[str, list[ListedClip]] = {}
    for clip in run.unlike:
        if clip.machine not in found and len(found) == DRAWN_AT_MOST:
            continue
        listed = found.setdefault(clip.machine, [])
        if len(listed) < CLIPS_LISTED:
            distance = f"{clip.distance:.1f}"
            listed.append(_listed(len(listed) + 1, clip.key, run.data_root, distance))
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
    rank: int, key: str, data_root: Path | None, score: str, label: str = "", verdict: str = ""
) -> ListedClip:
    link = "" if data_root is None else f"{data_root.absolute().as_uri()}/{quote(key)}"
    return ListedClip(rank, PurePosixPath(key).name, key, link, score, label, verdict)
