"""What the page shows, as JSON: machines with their scores, alarms, and deliveries."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ground.text import json_text, visible
from pipeline.watching import outbox
from pipeline.watching.machine_records import MachineRecord, facts_of, machine_records
from pipeline.watching.score_history import POINTS, ScoreHistory, first_part, part_s

ALARMS_SHOWN = 30
NEWS_SHOWN = 10
ALARM_KINDS = ("alarm", "alarm_over")
BUSY_S = 5.0


class PageState:
    """Reads the state file; several threads may ask at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._history = ScoreHistory()

    def as_json(self, span: str) -> str:
        """Return all that the page shows over a span; sqlite3.Error where it cannot be read."""
        with self._lock:
            if self._connection is None:
                self._connection = sqlite3.connect(
                    f"{self._path.resolve().as_uri()}?mode=ro",
                    uri=True,
                    timeout=BUSY_S,
                    check_same_thread=False,
                )
            now = datetime.now(UTC)
            self._history.read(self._connection)
            machines = machine_records(self._connection)
            state = {
                "span": span,
                "first_part": first_part(span, now),
                "part_s": part_s(span),
                "n_parts": POINTS,
                "machines": [self._machine(record, span, now) for record in machines],
                "alarms": _alarms(self._connection),
                "news": _news(self._connection),
                "deliveries": [asdict(each) for each in outbox.states(self._connection)],
            }
            return json_text(_shown(state))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _machine(self, record: MachineRecord, span: str, now: datetime) -> dict[str, Any]:
        points = self._history.points(record.machine, span, now)
        return {
            **asdict(record),
            "points": [[p.part, float(f"{p.score:.4g}"), p.severity] for p in points],
        }


def _alarms(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """Return the newest alarms, newest first; a message that cannot be read shows what is known."""
    rows = connection.execute(
        "SELECT id, machine, source, started_at, ended_at, message_json, feedback FROM alarms "
        "ORDER BY rowid DESC LIMIT ?",
        (ALARMS_SHOWN,),
    )
    alarms = []
    for id, machine, source, started_at, ended_at, text, feedback in rows:
        alarms.append(
            {
                **facts_of(text),
                **{"id": id, "machine": machine, "source": source, "at": started_at},
                "ended_at": ended_at,
                "feedback": feedback,
            }
        )
    return alarms


def _news(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """Return what was told last besides alarms, newest first: drift, and sources that failed."""
    messages = map(facts_of, outbox.told(connection))
    return [m for m in messages if m and m.get("kind") not in ALARM_KINDS][:NEWS_SHOWN]


def _shown(value: Any) -> Any:
    """Replace the control characters of all texts, so that none disturbs the page."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {key: _shown(each) for key, each in value.items()}
    return [_shown(each) for each in value] if isinstance(value, list) else value
