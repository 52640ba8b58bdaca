"""What the state file says of each machine now: for the page and for MQTT.

The tables are those of `state.py`; they are only read here.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Window:
    """One window of a machine as it was judged."""

    id: int
    machine: str
    at: str
    """ISO 8601, UTC."""
    score: float | None
    threshold: float | None
    p_value: float | None
    verdict: str


@dataclass(frozen=True)
class MachineRecord:
    """A machine: what it does, its latest window, and the alarm that is going on."""

    machine: str
    source: str
    state: str
    since: str
    level_db: float | None
    last_audio_at: str
    alarm_since: str
    """"" while there is no alarm."""
    sentence: str
    """Of that alarm."""
    latest: Window | None


def windows_after(connection: sqlite3.Connection, id: int) -> Iterator[Window]:
    """Read the windows that were judged after the one with this id, oldest first."""
    rows = connection.execute(
        "SELECT id, machine, at, score, threshold, p_value, verdict FROM windows "
        "WHERE id > ? ORDER BY id",
        (id,),
    )
    return (Window(*row) for row in rows)


def last_window_id(connection: sqlite3.Connection) -> int:
    """Return the id of the newest window, 0 where there is none."""
    return int(connection.execute("SELECT coalesce(max(id), 0) FROM windows").fetchone()[0])


def machine_records(connection: sqlite3.Connection) -> list[MachineRecord]:
    """Return every machine with its latest window and the alarm that is going on, by name."""
    rows = connection.execute(
        "SELECT machines.machine, machines.source, machines.state, since, level_db, last_audio_at, "
        "started_at, message_json, id, at, score, threshold, p_value, verdict FROM machines "
        "LEFT JOIN (SELECT machine, started_at, message_json FROM alarms WHERE ended_at = '') "
        "AS open_alarms ON open_alarms.machine = machines.machine "
        "LEFT JOIN windows ON windows.id = "
        "(SELECT max(id) FROM windows WHERE windows.machine = machines.machine) "
        "ORDER BY machines.machine, started_at"
    )
    records = {}
    for machine, source, state, since, level, heard, alarm_since, text, *window in rows:
        records[machine] = MachineRecord(
            machine=machine,
            source=source,
            state=state,
            since=since,
            level_db=level,
            last_audio_at=heard,
            alarm_since=alarm_since or "",
            sentence=facts_of(text).get("sentence", ""),
            latest=None if window[0] is None else Window(window[0], machine, *window[1:]),
        )
    return list(records.values())


def facts_of(text: str | None) -> dict[str, Any]:
    """Read the JSON of a message; there are no facts where it cannot be read."""
    try:
        message = json.loads(text or "{}")
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}
