"""The command `check`: verdicts on the screen, as JSON lines and as CSV."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ground.files import write_whole
from ground.text import json_text, visible
from pipeline.checking import HOP_OF_WINDOW, Checked, Checker, Checks
from pipeline.exits import ANOMALOUS, CLIPS_LEFT_OUT, DONE, UsageError
from pipeline.model import load_model
from pipeline.screen import messages, relay_rooms, results_screen
from pipeline.settings import CheckSettings

STYLES = {"normal": "green", "suspicious": "yellow", "anomalous": "bold red", "unknown": "dim"}
STREAM_WINDOW_S = 10.0


def check_and_print(recordings: str, settings: CheckSettings) -> int:
    """Judge recordings and print the verdicts; return the exit code."""
    relay_rooms(quiet=settings.quiet)
    checker = Checker(
        load_model(settings.model),
        device=settings.device,
        offline=settings.offline,
        trust_classes=settings.trust_classes,
        explains=settings.explain or settings.page is not None,
    )
    if recordings == "-":
        return _check_stream(checker, settings)
    if settings.raw:
        raise UsageError("--raw is for standard input; check - reads it")
    if settings.window is None:
        checks = checker.clips(recordings, machine=settings.machine, workers=settings.workers)
    else:
        hop = settings.hop or settings.window * HOP_OF_WINDOW
        checks = checker.windows(recordings, settings.window, hop, machine=settings.machine)
    if settings.json:
        for row in checks.rows:
            _print_json(row)
    else:
        _print_table(checks, settings)
    if settings.csv:
        _write_csv(settings.csv, checks.rows)
    return exit_code(checks.rows)


def exit_code(rows: Iterable[Checked]) -> int:
    """Return 4 if anything is anomalous, otherwise 3 if anything could not be judged, else 0."""
    verdicts = {row.verdict for row in rows}
    if "anomalous" in verdicts:
        return ANOMALOUS
    return CLIPS_LEFT_OUT if "unknown" in verdicts else DONE


def _check_stream(checker: Checker, settings: CheckSettings) -> int:
    """Judge the windows of standard input, each as it comes; the exit code tells of all."""
    from embed.recordings.streams import RawFormat

    raw = RawFormat.parse(settings.raw) if settings.raw else None
    window = settings.window or STREAM_WINDOW_S
    hop = settings.hop or window * HOP_OF_WINDOW
    rows = []
    for row in checker.stream(sys.stdin.buffer, raw, window, hop, machine=settings.machine):
        rows.append(Checked(row.key, row.machine_type, row.machine_id, row.verdict))
        if settings.json:
            _print_json(row)
        else:
            results_screen().print(_line(row), soft_wrap=True)
        sys.stdout.flush()
    return exit_code(rows)


def _print_json(row: Checked) -> None:
    print(json_text(asdict(row)))  # noqa: T201


def _line(row: Checked) -> Text:
    """One window in one line: time, verdict, score, p-value, reason."""
    when = "" if row.start_s is None else f"{_clock(row.start_s)}-{_clock(row.end_s or 0)}  "
    numbers = "" if row.anomaly_score is None else f"  score {row.anomaly_score:.3f}"
    numbers += "" if row.p_value is None else f"  p {row.p_value:.3f}"
    return Text.assemble(
        when, (f"{row.verdict:<10}", STYLES[row.verdict]), numbers, f"  {visible(row.reason)}"
    )


def _clock(seconds: float) -> str:
    """Write seconds as minutes and seconds, with hours where there are any."""
    whole, tenths = divmod(round(seconds * 10), 10)
    hours, rest = divmod(whole, 3600)
    text = f"{rest // 60:02d}:{rest % 60:02d}" + (f".{tenths}" if tenths else "")
    return f"{hours}:{text}" if hours else text


def _print_table(checks: Checks, settings: CheckSettings) -> None:
    """Print a row per clip or window, the most anomalous of a machine first."""
    rows = _ordered(checks.rows)
    has_times = any(row.start_s is not None for row in rows)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("verdict", "machine", "recording"):
        table.add_column(name, overflow="fold")
    if has_times:
        table.add_column("time", no_wrap=True)
    for name in ("score", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in rows:
        cells = [
            Text(row.verdict, STYLES[row.verdict]),
            Text(visible(row.machine)),
            Text(visible(row.key)),
        ]
        if has_times:
            times = "" if row.start_s is None else f"{_clock(row.start_s)}-{_clock(row.end_s or 0)}"
            cells.append(Text(times))
        cells.append(Text("" if row.anomaly_score is None else f"{row.anomaly_score:.3f}"))
        cells.append(Text("" if row.p_value is None else f"{row.p_value:.3f}"))
        cells.append(Text(visible("; ".join(filter(None, [row.reason, *row.remarks])))))
        table.add_row(*cells)
    results_screen().print(table)
    if not settings.quiet:
        _print_summary(checks)


def _ordered(rows: Sequence[Checked]) -> list[Checked]:
    order = {"anomalous": 0, "suspicious": 1, "normal": 2, "unknown": 3}
    return sorted(rows, key=lambda row: (order[row.verdict], row.p_value or 0.0))


def _print_summary(checks: Checks) -> None:
    """Say how many there are of each verdict, and how many false alarms to expect."""
    counts = {verdict: len(checks.of(verdict)) for verdict in STYLES}
    told = ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n)
    messages.print(f"{len(checks.rows)} judged: {told}")
    if len(checks.rows) > 1 and checks.false_alarms:
        messages.print(
            f"if all of them were normal, at most {checks.expected_false_alarms:.2g} would be "
            "called anomalous on average"
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
