"""State files of a watch, made by hand, and messages for its outbox."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.watching import outbox
from pipeline.watching.message import Message
from pipeline.watching.state import STATE_FILE, connect

NOW = datetime.now(UTC).replace(microsecond=0)


def state_file(folder: Path) -> Path:
    """Make a state file without any machine."""
    path = folder / STATE_FILE
    connect(path).close()
    return path


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).isoformat()


def message(id: str, **values: object) -> Message:
    facts = {"kind": "alarm", "machine": "fan id_00", "source": "hall", "at": ago(0)}
    return Message(
        **{"id": id, "sentence": f"fan id_00 sounds anomalous ({id})", **facts, **values}
    )


def put(path: Path, ids: Sequence[str], *sinks: str) -> None:
    with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        for id in ids:
            outbox.put(connection, message(id), sinks)


def states(path: Path) -> dict[str, outbox.SinkState]:
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        return {state.sink: state for state in outbox.states(connection)}


def add_machine(
    path: Path, machine: str, scores: Sequence[float] = (), *, every_s: float = 10, **facts: object
) -> None:
    """Add a machine and its windows, the newest now; scores above 2 are anomalous."""
    row = {"source": "hall", "state": "normal", "since": ago(3600), "level_db": -31.5}
    row |= {"last_audio_at": ago(0), "engine_json": "{}", **facts}
    with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        connection.execute(
            "INSERT OR REPLACE INTO machines VALUES (?, ?, ?, ?, ?, ?, ?)", (machine, *row.values())
        )
        connection.executemany(
            "INSERT INTO windows VALUES (NULL, 'hall', ?, ?, 0, ?, 2.0, 0.5, ?, '')",
            [
                (machine, ago((len(scores) - 1 - i) * every_s), score, verdict_of(score))
                for i, score in enumerate(scores)
            ],
        )


def verdict_of(score: float) -> str:
    return "anomalous" if score > 2 else "normal"


def add_alarm(path: Path, alarm: Message, *, ended_at: str = "", feedback: str = "") -> None:
    values = (alarm.id, alarm.machine, alarm.source, alarm.at, ended_at, alarm.as_json(), feedback)
    with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        connection.execute("INSERT INTO alarms VALUES (?, ?, ?, ?, ?, ?, ?, 10)", values)
