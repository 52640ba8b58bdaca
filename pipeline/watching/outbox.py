"""Messages that wait to be delivered: a table beside the alarms, so that no crash parts the two.

A message is put in by the transaction that raises the alarm, and goes when its sink has it. Each
sink gets its messages in the order in which they were put in.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.watching.message import Message

MOST = 10_000
"""Messages kept per sink. The oldest makes room for a new one, and is counted as dropped."""
REMEMBERED = 100
"""Messages that are remembered for the page, delivered or not."""

TABLES = (
    """CREATE TABLE IF NOT EXISTS outbox (
        number INTEGER PRIMARY KEY, sink TEXT NOT NULL, id TEXT NOT NULL,
        message_json TEXT NOT NULL, refused TEXT NOT NULL DEFAULT '', UNIQUE (sink, id))""",
    "CREATE INDEX IF NOT EXISTS outbox_next ON outbox (sink, refused, number)",
    """CREATE TABLE IF NOT EXISTS sinks (
        sink TEXT PRIMARY KEY, delivered INTEGER NOT NULL DEFAULT 0,
        dropped INTEGER NOT NULL DEFAULT 0, failing_since TEXT NOT NULL DEFAULT '',
        problem TEXT NOT NULL DEFAULT '')""",
    """CREATE TABLE IF NOT EXISTS told (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, message_json TEXT NOT NULL)""",
)


@dataclass(frozen=True)
class Waiting:
    """A message in the outbox."""

    number: int
    message_json: str


@dataclass(frozen=True)
class SinkState:
    """How the deliveries to one sink go."""

    sink: str
    waiting: int
    refused: int
    """Set aside, because the receiver did not take them."""
    delivered: int
    dropped: int
    failing_since: str
    """ISO 8601, UTC; "" while deliveries succeed."""
    problem: str


def create_table(connection: sqlite3.Connection) -> None:
    """Create the tables of the outbox where they are missing; the caller commits."""
    for table in TABLES:
        connection.execute(table)


def put(connection: sqlite3.Connection, message: Message, sinks: Sequence[str]) -> None:
    """Add a message for each sink, in the transaction of the caller, who commits.

    A message whose id waits already is not added again. Beyond `MOST` the oldest of the sink goes.
    """
    text = message.as_json()
    connection.execute(
        "INSERT OR IGNORE INTO told (id, message_json) VALUES (?, ?)", (message.id, text)
    )
    connection.execute(
        "DELETE FROM told WHERE number <= (SELECT max(number) FROM told) - ?", (REMEMBERED,)
    )
    for sink in sinks:
        connection.execute("INSERT OR IGNORE INTO sinks (sink) VALUES (?)", (sink,))
        connection.execute(
            "INSERT INTO outbox (sink, id, message_json) VALUES (?, ?, ?) "
            "ON CONFLICT (sink, id) DO NOTHING",
            (sink, message.id, text),
        )
        dropped = connection.execute(
            "DELETE FROM outbox WHERE sink = ? AND number IN (SELECT number FROM outbox "
            "WHERE sink = ? ORDER BY number DESC LIMIT -1 OFFSET ?)",
            (sink, sink, MOST),
        ).rowcount
        if dropped:
            connection.execute(
                "UPDATE sinks SET dropped = dropped + ? WHERE sink = ?", (dropped, sink)
            )


def next_of(connection: sqlite3.Connection, sink: str) -> Waiting | None:
    """Return the oldest message that waits for a sink, None where none does."""
    row = connection.execute(
        "SELECT number, message_json FROM outbox "
        "WHERE sink = ? AND refused = '' ORDER BY number LIMIT 1",
        (sink,),
    ).fetchone()
    return None if row is None else Waiting(*row)


def mark_delivered(connection: sqlite3.Connection, sink: str, number: int) -> None:
    """Remove a message that its sink has, and commit."""
    with connection:
        connection.execute("DELETE FROM outbox WHERE number = ?", (number,))
        connection.execute("UPDATE sinks SET delivered = delivered + 1 WHERE sink = ?", (sink,))


def mark_well(connection: sqlite3.Connection, sink: str) -> None:
    """Note that a sink works again, and commit."""
    with connection:
        connection.execute(
            "UPDATE sinks SET failing_since = '', problem = '' WHERE sink = ?", (sink,)
        )


def mark_failed(connection: sqlite3.Connection, sink: str, problem: str) -> None:
    """Note why a sink fails and since when, and commit."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with connection:
        connection.execute("INSERT OR IGNORE INTO sinks (sink) VALUES (?)", (sink,))
        connection.execute(
            "UPDATE sinks SET problem = ?, "
            "failing_since = CASE failing_since WHEN '' THEN ? ELSE failing_since END "
            "WHERE sink = ?",
            (problem, now, sink),
        )


def set_aside(connection: sqlite3.Connection, number: int, reason: str) -> None:
    """Keep a message that its receiver refuses out of the way of the others, and commit."""
    with connection:
        connection.execute("UPDATE outbox SET refused = ? WHERE number = ?", (reason, number))


def try_refused_again(connection: sqlite3.Connection, sink: str) -> None:
    """Let the messages that were set aside wait again, and commit."""
    with connection:
        connection.execute(
            "UPDATE outbox SET refused = '' WHERE sink = ? AND refused != ''", (sink,)
        )


def told(connection: sqlite3.Connection) -> list[str]:
    """Return the messages that were put in last, as JSON, newest first."""
    rows = connection.execute("SELECT message_json FROM told ORDER BY number DESC")
    return [text for (text,) in rows]


def states(connection: sqlite3.Connection) -> list[SinkState]:
    """Tell how the deliveries to each sink go, by name."""
    rows = connection.execute(
        "SELECT sinks.sink, count(number) - count(nullif(refused, '')), "
        "count(nullif(refused, '')), delivered, dropped, failing_since, problem "
        "FROM sinks LEFT JOIN outbox ON outbox.sink = sinks.sink "
        "GROUP BY sinks.sink ORDER BY sinks.sink"
    )
    return [SinkState(*row) for row in rows]


def n_waiting(connection: sqlite3.Connection, sink: str) -> int:
    """Count the messages that wait for a sink."""
    query = "SELECT count(*) FROM outbox WHERE sink = ? AND refused = ''"
    return int(connection.execute(query, (sink,)).fetchone()[0])


def n_dropped(connection: sqlite3.Connection, sink: str) -> int:
    """Count the messages that made room for others before a sink had them."""
    query = "SELECT coalesce(sum(dropped), 0) FROM sinks WHERE sink = ?"
    return int(connection.execute(query, (sink,)).fetchone()[0])
