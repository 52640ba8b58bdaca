"""A sink: where messages go. One thread uses it, so it may wait, but not for ever."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from pipeline.watching.message import Message


class Undelivered(Exception):  # noqa: N818 - it names the outcome, as the outbox does
    """The receiver does not have the message; the reason is one line without any credential."""

    def __init__(
        self, reason: str, *, retry_after_s: float | None = None, is_refused: bool = False
    ) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        """When the receiver asks to be tried again."""
        self.is_refused = is_refused
        """Whether the receiver is there, but does not take this message."""


class Sink:
    """A receiver of messages. Its name stands in the outbox, so it holds no address."""

    name: str

    def open(self, path: Path) -> None:
        """Prepare for the messages of the outbox in `path`; called once, before all else."""

    def deliver(self, message: Message) -> None:
        """Return once the receiver has the message; Undelivered otherwise."""
        raise NotImplementedError

    def idle(self, connection: sqlite3.Connection) -> None:
        """Do what there is to do while no message waits; may raise Undelivered too."""

    def close(self) -> None:
        """Let go of what is open."""
