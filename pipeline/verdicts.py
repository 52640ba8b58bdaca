"""The command `check`: verdicts on the screen, as JSON lines, as CSV and as a page."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ground.files import write_whole
from ground.text import json_text, visible
from pipeline.checking import Checker, Checks, Evidence
from pipeline.exits import ANOMALOUS, CLIPS_LEFT_OUT, DONE, UsageError
from pipeline.explaining import SAMPLE_RATE
from pipeline.model import read_model
from pipeline.rating import Checked
from pipeline.screen import messages, relay_rooms, results_screen, say
from pipeline.settings import CheckSettings

if TYPE_CHECKING:
    from report.check_page import JudgedClip

STYLES = {"anomalous": "bold red", "suspicious": "yellow", "normal": "green", "unknown": "dim"}
"""Verdicts, the worst first, and their colours."""
WORST_WINDOWS = 10
"""Windows of a recording that are printed."""


def check_and_print(recordings: str, settings: CheckSettings) -> int:
    """Judge recordings and print the verdicts; return the exit code."""
    _check_flags(recordings, settings)
    relay_rooms(quiet=settings.quiet)
    if settings.page is None:
        checks = _check(recordings, settings)
        return checks if isinstance(checks, int) else exit_code(checks.rows)
    from pipeline.page_evidence import rebuilt_of
    from report.check_page import Findings, write_check_page

    findings = Findings()

    def keep(evidence: Evidence) -> None:
        findings.add(
            _judged(evidence.row),
            evidence.waveform,
            SAMPLE_RATE,
            evidence.frames,
            evidence.profile.sounds,
            evidence.reason,
            rebuilt_of(evidence.errors),
        )

    checks = _check(recordings, settings, keep)
    if isinstance(checks, int):
        return checks
    title = f"{Path(recordings).name or recordings}, judged by {settings.model}"
    clips = [_judged(row) for row in checks.rows]
    write_check_page(settings.page, title, clips, findings, checks.thresholds, _notes(checks))
    if not settings.quiet:
        messages.print(f"written to {settings.page}")
    return exit_code(checks.rows)


def _check_flags(recordings: str, settings: CheckSettings) -> None:
    """Raise UsageError for flags that do not go together."""
    if recordings != "-" and settings.raw:
        raise UsageError("--raw is for standard input; check - reads it")
    if recordings == "-" and (settings.page or settings.csv):
        raise UsageError("--page and --csv are written at the end; a stream has --json")
    if settings.hop and not settings.window:
        raise UsageError("--hop is the step of windows; give their length with --window")
    for flag, seconds in (("--window", settings.window), ("--hop", settings.hop)):
        if seconds is not None and not 0 < seconds < float("inf"):
            raise UsageError(f"{flag} {seconds:g}: expected seconds above 0")


def _check(recordings: str, settings: CheckSettings, keep: Any = None) -> Checks | int:
    """Judge and print; a stream gives its exit code, since its windows are not kept."""
    checker = Checker(
        read_model(settings.model),
        device=settings.device,
        offline=settings.offline,
        workers=settings.workers,
        trust_classes=settings.trust_classes,
        explains=settings.explain or settings.page is not None,
        quiet=settings.quiet,
        on_evidence=keep,
    )
    if recordings == "-":
        return _check_stream(checker, settings)
    checks = checker.check(
        recordings, machine=settings.machine, window=settings.window, hop=settings.hop
    )
    if settings.json:
        for row in checks.rows:
            _print_json(row)
    else:
        _print_tables(checks)
        if not settings.quiet:
            for note in _notes(checks):
                messages.print(note)
    if settings.csv:
        _write_csv(settings.csv, checks.rows)
    return checks


def exit_code(rows: Iterable[Checked]) -> int:
    """Return 4 if anything is anomalous, otherwise 3 if anything could not be judged, else 0."""
    verdicts = {row.verdict for row in rows}
    if "anomalous" in verdicts:
        return ANOMALOUS
    return CLIPS_LEFT_OUT if "unknown" in verdicts else DONE


def _check_stream(checker: Checker, settings: CheckSettings) -> int:
    """Judge the windows of standard input, each as it comes; the exit code tells of all.

    What is wrong with the stream is an error, after the windows before it.
    """
    from embed.recordings.streams import RawFormat

    raw = RawFormat.parse(settings.raw) if settings.raw else None
    codes = {DONE}
    stream = checker.stream(
        sys.stdin.buffer, raw, machine=settings.machine, window=settings.window, hop=settings.hop
    )
    for row in stream:
        codes.add(exit_code([row]))
        if settings.json:
            _print_json(row)
        elif row.start_s is None:
            say("error", row.reason, "red")
        else:
            results_screen().print(_line(row), soft_wrap=True)
        sys.stdout.flush()
    return max(codes)


def _print_json(row: Checked) -> None:
    print(json_text(asdict(row)))  # noqa: T201


def _line(row: Checked) -> Text:
    """One window in one line: time, verdict, score, p-value, why."""
    return Text.assemble(
        f"{_when(row)}  ",
        (f"{row.verdict:<10}", STYLES[row.verdict]),
        f"  score {_figure(row.anomaly_score)}  p {_figure(row.p_value)}  {_why(row)}",
    )


def _when(row: Checked) -> str:
    from report.check_page import clock

    return "" if row.start_s is None else f"{clock(row.start_s)}-{clock(row.end_s or 0)}"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _why(row: Checked) -> str:
    return visible("; ".join(filter(None, [row.reason, *row.remarks])))


def _print_tables(checks: Checks) -> None:
    """Print a row per clip, the most anomalous first; of long recordings the worst windows."""
    clips = [row for row in checks.rows if row.start_s is None]
    if clips:
        results_screen().print(_table(clips))
    by_recording: dict[tuple[str, str], list[Checked]] = {}
    for row in checks.rows:
        if row.start_s is not None:
            by_recording.setdefault((row.key, row.machine), []).append(row)
    for (key, machine), windows in by_recording.items():
        n_anomalous = sum(row.verdict == "anomalous" for row in windows)
        text = f"{key}, {machine}: {len(windows)} windows, {n_anomalous} anomalous; the worst:"
        results_screen().print(Text(visible(text)), soft_wrap=True)
        results_screen().print(_table(_worst_first(windows)[:WORST_WINDOWS], of_windows=True))


def _table(rows: Sequence[Checked], *, of_windows: bool = False) -> Table:
    """Lay out clips, or the windows of one recording."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("verdict", "time") if of_windows else ("verdict", "machine", "recording"):
        table.add_column(name, overflow="fold", no_wrap=name == "time")
    for name in ("score", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in rows if of_windows else _worst_first(rows):
        names = [_when(row)] if of_windows else [visible(row.machine), visible(row.key)]
        numbers = [_figure(row.anomaly_score), _figure(row.p_value)]
        cells = map(Text, (*names, *numbers, _why(row)))
        table.add_row(Text(row.verdict, STYLES[row.verdict]), *cells)
    return table


def _worst_first(rows: Sequence[Checked]) -> list[Checked]:
    """Order by verdict, then by p-value, then by score."""
    order = {verdict: number for number, verdict in enumerate(STYLES)}
    return sorted(
        rows,
        key=lambda row: (order[row.verdict], row.p_value or 0.0, -(row.anomaly_score or 0.0)),
    )


def _notes(checks: Checks) -> list[str]:
    """Say how many there are of each verdict, and how many false alarms to expect."""
    counts = {verdict: len(checks.of(verdict)) for verdict in STYLES}
    counted = ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n)
    notes = [f"{len(checks.rows)} judged: {counted}"]
    if len(checks.rows) > 1 and checks.false_alarms:
        notes.append(
            f"if all of them were normal, at most {checks.expected_false_alarms:.2g} would be "
            "called anomalous on average"
        )
    return notes


def _judged(row: Checked) -> JudgedClip:
    """Turn a verdict into a line of the page."""
    from report.check_page import JudgedClip

    return JudgedClip(
        key=row.key,
        machine=row.machine,
        verdict=row.verdict,
        score=row.anomaly_score,
        p_value=row.p_value,
        start_s=row.start_s,
        end_s=row.end_s,
        reason=row.reason,
        remarks=row.remarks,
    )


def _write_csv(path: Path, rows: Sequence[Checked]) -> None:
    """Write a row per clip or window, marked so that a spreadsheet runs no formula."""
    from report.csv_files import cell_of, csv_text

    names = ["verdict", "machine_type", "machine_id", "key", "start_s", "end_s"]
    names += ["anomaly_score", "p_value", "reason", "remarks"]

    def cells(row: Checked) -> list[str]:
        values: dict[str, Any] = {**asdict(row), "remarks": "; ".join(row.remarks)}
        return [cell_of(values[name]) for name in names]

    write_whole(path, csv_text([names, *map(cells, rows)]))
