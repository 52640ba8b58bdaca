"""What a watch knows, in one SQLite file: it survives `kill -9` at any moment.

All that follows from one file or one window is written by one transaction: the file is judged, its
windows, the states of machines, alarms, and the messages in the outbox. So none of it is there
without the rest.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ground.text import json_text
from pipeline.watching import outbox
from pipeline.watching.message import Message

STATE_FILE = "watch.sqlite"
SCHEMA = 1
MOST_WINDOWS = 5000
"""Windows kept per machine: half a day of windows of 10 s."""
MOST_ALARMS = 10_000
BUSY_S = 30.0
"""Seconds to wait for another writer of the file."""

TABLES = (
    """CREATE TABLE files (
        source TEXT NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL, judged_at TEXT NOT NULL, PRIMARY KEY (source, path))
        WITHOUT ROWID""",
    """CREATE TABLE windows (
        id INTEGER PRIMARY KEY, source TEXT NOT NULL, machine TEXT NOT NULL, at TEXT NOT NULL,
        start_s REAL NOT NULL, score REAL, threshold REAL, p_value REAL, verdict TEXT NOT NULL,
        state TEXT NOT NULL)""",
    "CREATE INDEX windows_of_machine ON windows (machine, id)",
    """CREATE TABLE alarms (
        id TEXT PRIMARY KEY, machine TEXT NOT NULL, source TEXT NOT NULL,
        started_at TEXT NOT NULL, ended_at TEXT NOT NULL DEFAULT '', message_json TEXT NOT NULL,
        feedback TEXT NOT NULL DEFAULT '', window_s REAL NOT NULL)""",
    "CREATE INDEX alarms_open ON alarms (machine) WHERE ended_at = ''",
    """CREATE TABLE machines (
        machine TEXT PRIMARY KEY, source TEXT NOT NULL, state TEXT NOT NULL, since TEXT NOT NULL,
        level_db REAL, last_audio_at TEXT NOT NULL, engine_json TEXT NOT NULL)""",
    "CREATE TABLE drift_scores (machine TEXT NOT NULL, score REAL NOT NULL)",
    "CREATE INDEX drift_scores_of_machine ON drift_scores (machine)",
    # messages of quiet hours, in their order
    "CREATE TABLE held (number INTEGER PRIMARY KEY, message_json TEXT NOT NULL)",
)


def iso(seconds: float) -> str:
    """Write seconds since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class FileVersion:
    """A file of a source, and what tells one version of it from the next."""

    source: str
    path: str
    """Below the folder of the source."""
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class WindowRow:
    """One window as it was judged."""

    source: str
    machine: str
    at: float
    start_s: float
    score: float | None
    threshold: float | None
    p_value: float | None
    verdict: str
    state: str
    """Of the machine, after this window."""


@dataclass(frozen=True)
class MachineRow:
    """What is known of a machine: in words for a page, and as the engine reads it again."""

    source: str
    state: str
    since: float
    level_db: float | None
    last_audio_at: float | None
    engine: Mapping[str, Any]


@dataclass
class Outcome:
    """All that follows from one file or window, or from the passing of time."""

    file: FileVersion | None = None
    windows: list[WindowRow] = field(default_factory=list)
    machines: dict[str, MachineRow] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    window_s: dict[str, float] = field(default_factory=dict)
    """Seconds of a window, by the id of the alarm."""
    drift_scores: list[tuple[str, float]] = field(default_factory=list)
    """Machine and score."""
    forget_drift_of: set[str] = field(default_factory=set)
    """Machines whose earlier drift scores are of another model."""
    problem: str = ""
    """Why something of it was not judged."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the state of a watch, and create it where there is none.

    ValueError for a file that is none, or that a newer version wrote; OSError where it cannot be
    opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA:
            raise ValueError(
                f"{path} has the schema version {version}, and this version reads {SCHEMA}; "
                "update this program, or watch with another --out"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if version < SCHEMA:
            connection.execute("BEGIN IMMEDIATE")
            for table in TABLES:
                connection.execute(table)
            outbox.create_table(connection)
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
            connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raise OSError(f"{path} cannot be opened: {error}") from None
    except sqlite3.DatabaseError as error:
        raise ValueError(f"{path} is not the state of a watch: {error}") from None
    return connection


@dataclass(frozen=True)
class WatchState:
    """Reads and writes the state; one thread uses it."""

    connection: sqlite3.Connection

    def is_judged(self, file: FileVersion) -> bool:
        """Tell whether this version of a file was judged."""
        row = self.connection.execute(
            "SELECT 1 FROM files WHERE source = ? AND path = ? AND size = ? AND mtime_ns = ?",
            (file.source, file.path, file.size, file.mtime_ns),
        ).fetchone()
        return row is not None

    def machines(self) -> dict[str, MachineRow]:
        """Read the machines as they were left."""
        rows = self.connection.execute("SELECT machine, source, engine_json FROM machines")
        return {
            machine: MachineRow(source, "", 0.0, None, None, json.loads(engine))
            for machine, source, engine in rows
        }

    def drift_scores(self, machine: str) -> list[float]:
        """Read the scores that the drift of a machine is measured by, beside those of training."""
        rows = self.connection.execute(
            "SELECT score FROM drift_scores WHERE machine = ?", (machine,)
        )
        return [score for (score,) in rows]

    def write(self, outcome: Outcome, sinks: Sequence[str], *, is_quiet: bool = False) -> None:
        """Write an outcome as a whole; sqlite3.Error where that fails, and nothing is written.

        Messages wait for their sinks, or for the end of the quiet hours.
        """
        with self._transaction():
            self._write_rows(outcome)
            for message in outcome.messages:
                self._write_alarm(message, outcome)
                if is_quiet:
                    self.connection.execute(
                        "INSERT INTO held (message_json) VALUES (?)", (message.as_json(),)
                    )
                else:
                    outbox.put(self.connection, message, sinks)

    def release_held(self, sinks: Sequence[str]) -> list[Message]:
        """Hand the messages of the quiet hours to the sinks; return them."""
        with self._transaction():
            rows = self.connection.execute("SELECT message_json FROM held ORDER BY number")
            messages = [Message.from_json(text) for (text,) in rows]
            for message in messages:
                outbox.put(self.connection, message, sinks)
            self.connection.execute("DELETE FROM held")
        return messages

    def has_held(self) -> bool:
        """Tell whether messages wait for the end of the quiet hours."""
        return self.connection.execute("SELECT 1 FROM held LIMIT 1").fetchone() is not None

    def forget_files(self, before: float, is_there: Callable[[str, str], bool]) -> int:
        """Forget files that were judged before a time and are gone; return how many."""
        rows = self.connection.execute(
            "SELECT source, path FROM files WHERE judged_at < ?", (iso(before),)
        ).fetchall()
        gone = [(source, path) for source, path in rows if not is_there(source, path)]
        with self._transaction():
            self.connection.executemany("DELETE FROM files WHERE source = ? AND path = ?", gone)
        return len(gone)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def _write_rows(self, outcome: Outcome) -> None:
        """Write all but the messages; the caller commits."""
        execute, many = self.connection.execute, self.connection.executemany
        if outcome.file:
            f = outcome.file
            judged_at = datetime.now(UTC).isoformat(timespec="milliseconds")
            execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)",
                (f.source, f.path, f.size, f.mtime_ns, judged_at),
            )
        many(
            "INSERT INTO windows (source, machine, at, start_s, score, threshold, p_value, verdict,"
            " state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (w.source, w.machine, iso(w.at), w.start_s, w.score, w.threshold, w.p_value,
                 w.verdict, w.state)
                for w in outcome.windows
            ],
        )  # fmt: skip
        many("DELETE FROM drift_scores WHERE machine = ?", [(m,) for m in outcome.forget_drift_of])
        many("INSERT INTO drift_scores VALUES (?, ?)", outcome.drift_scores)
        for machine, row in outcome.machines.items():
            heard = "" if row.last_audio_at is None else iso(row.last_audio_at)
            execute(
                "INSERT OR REPLACE INTO machines VALUES (?, ?, ?, ?, ?, ?, ?)",
                (machine, row.source, row.state, iso(row.since), row.level_db, heard,
                 json_text(dict(row.engine))),
            )  # fmt: skip
        many(
            "DELETE FROM windows WHERE machine = ?1 AND id <= (SELECT id FROM windows "
            "WHERE machine = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            [(machine, MOST_WINDOWS) for machine in {w.machine for w in outcome.windows}],
        )

    def _write_alarm(self, message: Message, outcome: Outcome) -> None:
        """Keep an alarm, the oldest beyond `MOST_ALARMS` going, or note that it is over."""
        if message.kind == "alarm":
            self.connection.execute(
                "INSERT OR IGNORE INTO alarms (id, machine, source, started_at, message_json, "
                "window_s) VALUES (?, ?, ?, ?, ?, ?)",
                (message.id, message.machine, message.source, message.at, message.as_json(),
                 outcome.window_s.get(message.id, 0.0)),
            )  # fmt: skip
            self.connection.execute(
                "DELETE FROM alarms WHERE rowid <= (SELECT rowid FROM alarms ORDER BY rowid DESC "
                "LIMIT 1 OFFSET ?)",
                (MOST_ALARMS,),
            )
        elif message.kind == "alarm_over":
            self.connection.execute(
                "UPDATE alarms SET ended_at = ? WHERE id = ?", (message.at, alarm_of(message.id))
            )

    def _transaction(self) -> Any:
        return _transaction(self.connection)


def over_id(alarm_id: str) -> str:
    """Return the id of the message that an alarm is over."""
    return f"{alarm_id}-over"


def alarm_of(over: str) -> str:
    """Return the id of the alarm that a message of the kind alarm_over is about."""
    return over.removesuffix("-over")


@dataclass(frozen=True)
class Alarm:
    """An alarm as it is kept."""

    id: str
    message: Message
    window_s: float
    """Seconds of a window, whose sounds its flac holds one after the other."""
    feedback: str


def find_alarm(connection: sqlite3.Connection, name: str) -> Alarm:
    """Find an alarm by its id, or by the beginning of it; ValueError where not exactly one is."""
    rows = connection.execute(
        "SELECT id, message_json, window_s, feedback FROM alarms "
        "WHERE substr(id, 1, length(?1)) = ?1 LIMIT 3",
        (name,),
    ).fetchall()
    rows = [row for row in rows if row[0] == name] or rows
    if len(rows) != 1:
        which = "no alarm" if not rows else "more than one alarm"
        raise ValueError(f"there is {which} whose id begins with {name!r}{_newest(connection)}")
    alarm_id, message_json, window_s, feedback = rows[0]
    return Alarm(alarm_id, Message.from_json(message_json), window_s, feedback)


def note_feedback(connection: sqlite3.Connection, alarm_id: str, word: str) -> None:
    """Keep what a person says of an alarm: normal or anomalous."""
    with _transaction(connection):
        connection.execute("UPDATE alarms SET feedback = ? WHERE id = ?", (word, alarm_id))


def _newest(connection: sqlite3.Connection) -> str:
    rows: Iterable[tuple[str]] = connection.execute(
        "SELECT id FROM alarms ORDER BY rowid DESC LIMIT 3"
    )
    ids = ", ".join(alarm_id for (alarm_id,) in rows)
    return f"; the newest are {ids}" if ids else "; no alarm is kept"


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write as a whole or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
