"""Deliver what waits in the outbox: a thread per sink, in order, at least once, for months.

A sink that fails holds up its own messages only. They stay in the outbox and are tried again, less
and less often, until the sink has them. A message that was delivered but not yet removed when the
process was killed is delivered again; its id tells.
"""

from __future__ import annotations

import random
import sqlite3
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ground.text import one_line
from pipeline.exits import UsageError
from pipeline.screen import say
from pipeline.watching import outbox
from pipeline.watching.credentials import Credential, credential
from pipeline.watching.delivery_settings import DeliverySettings
from pipeline.watching.exec_sink import exec_sink
from pipeline.watching.message import Message
from pipeline.watching.mqtt import mqtt_sink
from pipeline.watching.sink import Sink, Undelivered
from pipeline.watching.webhook import webhook_sink

POLL_S = 0.5
"""Seconds between two looks into an empty outbox."""
BUSY_S = 30.0
"""Seconds to wait for another writer of the file."""
MOST_REFUSALS = 5
"""A message that its receiver refuses so often is set aside until the next start."""

Say = Callable[[str, str], None]


@dataclass(frozen=True)
class BackOff:
    """Seconds to wait after failures: they double up to a longest, less up to a half at random."""

    first_s: float = 1.0
    longest_s: float = 60.0

    def after(self, n_failures: int, retry_after_s: float | None) -> float:
        """Wait as long as the receiver asks, where it asks for more."""
        wait = min(self.longest_s, self.first_s * 2.0 ** min(n_failures - 1, 60))
        return max(wait * random.uniform(0.5, 1.0), retry_after_s or 0.0)  # noqa: S311


class Deliveries:
    """The threads that deliver. `names` are the sinks that `outbox.put` takes."""

    def __init__(
        self,
        path: Path,
        sinks: Sequence[Sink],
        *,
        back_off: BackOff = BackOff(),
        tell: Say | None = None,
    ) -> None:
        self.names = [sink.name for sink in sinks]
        self._path = path
        self._closing = threading.Event()
        tell = tell or _say
        self._threads = [
            threading.Thread(
                target=_Delivery(path, sink, back_off, tell, self._closing).run,
                name=f"deliver-{sink.name}",
                daemon=True,
            )
            for sink in sinks
        ]

    def start(self) -> None:
        """Begin to deliver; what waits from an earlier process comes first."""
        for thread in self._threads:
            thread.start()

    def close(self, timeout_s: float) -> int:
        """Deliver what can be delivered at once, and stop; return how many messages still wait.

        Each sink gets one more attempt. What waits is delivered after the next start.
        """
        self._closing.set()
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        with closing(sqlite3.connect(self._path, timeout=BUSY_S)) as connection:
            return sum(outbox.n_waiting(connection, name) for name in self.names)


def _say(kind: str, text: str) -> None:
    say(kind, text, "yellow" if kind == "warning" else "green")


@dataclass
class _Delivery:
    """One thread: the messages of one sink."""

    path: Path
    sink: Sink
    back_off: BackOff
    tell: Say
    closing: threading.Event
    n_failures: int = 0
    is_marked_well: bool = False
    """Whether the state file says that the sink works; an earlier process may have failed."""
    refusals: tuple[int, int] = (0, 0)
    """The number of the message that was refused last, and how often in a row."""
    problem: str = ""
    n_dropped: int = 0
    has_told_dropped: bool = False
    has_tidied: bool = False

    def run(self) -> None:
        """Deliver until closing is set, and then as long as it succeeds."""
        connection = sqlite3.connect(self.path, timeout=BUSY_S)
        self.sink.open(self.path)
        try:
            while self._step(connection):
                pass
        finally:
            self.sink.close()
            connection.close()

    def _step(self, connection: sqlite3.Connection) -> bool:
        """Deliver a message or wait; tell whether to go on."""
        is_last = self.closing.is_set()
        waiting = None
        try:
            if not self.has_tidied:
                outbox.try_refused_again(connection, self.sink.name)
                self.n_dropped = outbox.n_dropped(connection, self.sink.name)
                self.has_tidied = True
            waiting = outbox.next_of(connection, self.sink.name)
            if waiting is None:
                self.sink.idle(connection)
            else:
                self.sink.deliver(_read(waiting))
                outbox.mark_delivered(connection, self.sink.name, waiting.number)
            self._note_success(connection)
        except Undelivered as failure:
            wait = self._note_failure(connection, failure, waiting)
        except sqlite3.Error as error:
            wait = self._note_failure(connection, Undelivered(f"{self.path}: {error}"), None)
        except Exception as error:
            # A fault must not end the deliveries of months. Its text may hold an address.
            unknown = Undelivered(f"it failed with {type(error).__name__}")
            wait = self._note_failure(connection, unknown, waiting)
        else:
            wait = POLL_S if waiting is None else 0.0
            is_last = is_last and waiting is None
        if not is_last and wait:
            self.closing.wait(wait)
        return not is_last

    def _note_success(self, connection: sqlite3.Connection) -> None:
        if self.problem:
            self.tell("delivered", f"{self.sink.name}: it works again")
            self.problem = ""
        if not self.is_marked_well:
            outbox.mark_well(connection, self.sink.name)
            self.is_marked_well = True
        self.n_failures = 0

    def _note_failure(
        self, connection: sqlite3.Connection, failure: Undelivered, waiting: outbox.Waiting | None
    ) -> float:
        """Tell and keep why a delivery failed; return the seconds until the next attempt.

        A problem is told once, and again when it has become another one.
        """
        self.n_failures += 1
        self.is_marked_well = False
        reason = one_line(failure)
        if reason != self.problem:
            what = "messages are kept, and are tried again"
            self.tell("warning", f"{self.sink.name}: {reason}; {what}")
            self.problem = reason
        try:
            outbox.mark_failed(connection, self.sink.name, reason)
            self._tell_of_dropped(connection)
            if waiting and failure.is_refused:
                self._count_refusal(connection, waiting, reason)
        except sqlite3.Error:
            pass  # the disk is what fails, and that was told
        return self.back_off.after(self.n_failures, failure.retry_after_s)

    def _tell_of_dropped(self, connection: sqlite3.Connection) -> None:
        """Tell, once, that the outbox is full and loses its oldest messages."""
        n_dropped = outbox.n_dropped(connection, self.sink.name)
        if n_dropped > self.n_dropped and not self.has_told_dropped:
            what = f"more than {outbox.MOST:,} messages wait, and the oldest are dropped"
            self.tell("warning", f"{self.sink.name}: {what}")
            self.has_told_dropped = True

    def _count_refusal(
        self, connection: sqlite3.Connection, waiting: outbox.Waiting, reason: str
    ) -> None:
        """Set a message aside that was refused too often, so that it does not hold up others."""
        number, count = self.refusals
        count = count + 1 if number == waiting.number else 1
        self.refusals = (waiting.number, count)
        if count >= MOST_REFUSALS:
            outbox.set_aside(connection, waiting.number, reason)
            what = "it is set aside until the next start, and the next ones are delivered"
            self.tell("warning", f"{self.sink.name}: a message was refused {count} times; {what}")


def _read(waiting: outbox.Waiting) -> Message:
    """Read a message; one that another version wrote, and this one cannot read, is refused."""
    try:
        return Message.from_json(waiting.message_json)
    except ValueError as error:
        raise Undelivered(one_line(error), is_refused=True) from None


def sinks_of(settings: DeliverySettings) -> list[Sink]:
    """Make the sinks that the settings and the environment name.

    UsageError for one that cannot work: no such command, a wrong address, paho-mqtt missing, a
    credential or a certificate that cannot be read.
    """
    sinks: list[Sink] = []
    if settings.exec:
        sinks.append(exec_sink(settings.exec))
    url = Credential(settings.webhook) if settings.webhook else credential("WATCH_WEBHOOK_URL")
    if url:
        sinks.append(
            webhook_sink(
                url,
                tls=_tls(settings.ca_file),
                secret=credential("WATCH_WEBHOOK_SECRET"),
                token=credential("WATCH_WEBHOOK_TOKEN"),
            )
        )
    if settings.mqtt:
        sinks.append(
            mqtt_sink(
                settings.mqtt,
                settings.mqtt_topic,
                tls=_tls(settings.ca_file) if settings.mqtt_tls else None,
                user=credential("WATCH_MQTT_USER"),
                password=credential("WATCH_MQTT_PASSWORD"),
            )
        )
    return sinks


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    """Verify certificates by those of the system, and by those of `ca_file`."""
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
            raise UsageError(f"--ca-file {ca_file} cannot be used: {reason or error}") from None
    return context
