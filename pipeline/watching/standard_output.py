"""The sink that is always there: a line of JSON on standard output for each message."""

from __future__ import annotations

from pipeline.watching.message import Message
from pipeline.watching.sink import Sink, Undelivered


class StandardOutput(Sink):
    """Prints messages, each flushed, so that a pipe sees it at once."""

    name = "stdout"

    def deliver(self, message: Message) -> None:
        """Print a message; Undelivered where nobody reads any more."""
        try:
            print(message.as_json(), flush=True)  # noqa: T201
        except (OSError, ValueError) as error:
            raise Undelivered(f"standard output is closed: {error}") from None
