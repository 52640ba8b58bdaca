"""What the state file says of each machine now: for the page and for MQTT.

The tables are those of `state.py`; they are only read here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field

LOOKED_BACK = 5000
"""Windows that are read at the start to find the latest of each machine."""


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


@dataclass
class MachineRecords:
    """Reads the machines again and again; each time only the windows that are new."""

    _last_id: int | None = None
    _latest: dict[str, Window] = field(default_factory=dict)

    def read(self, connection: sqlite3.Connection) -> list[MachineRecord]:
        """Return every machine, by name."""
        if self._last_id is None:
            self._last_id = max(0, last_window_id(connection) - LOOKED_BACK)
        for window in windows_after(connection, self._last_id):
            self._latest[window.machine] = window
            self._last_id = window.id
        alarms = dict(
            connection.execute(
                "SELECT machine, min(started_at) FROM alarms WHERE ended_at = '' GROUP BY machine"
            )
        )
        rows = connection.execute(
            "SELECT machine, source, state, since, level_db, last_audio_at FROM machines "
            "ORDER BY machine"
        )
        return [
            MachineRecord(
                machine=row[0],
                source=row[1],
                state=row[2],
                since=row[3],
                level_db=row[4],
                last_audio_at=row[5],
                alarm_since=alarms.get(row[0], ""),
                latest=self._latest.get(row[0]),
            )
            for row in rows
        ]
