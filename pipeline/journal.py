"""What happens during a job: events, and clips that are left out."""

from __future__ import annotations

from typing import Any

from ground.text import visible
from pipeline.screen import say


class Journal:
    """Says which clips are left out, and remembers them; a run folder writes down everything."""

    def __init__(self) -> None:
        self.left_out: list[tuple[str, str]] = []

    def log(self, event: str, **facts: Any) -> None:
        """Note an event; nothing is kept of it here."""

    def leave_out(self, key: str, reason: str) -> None:
        """Note, and say once for each reason, that a clip is left out."""
        if (key, reason) not in self.left_out:
            self.left_out.append((key, reason))
            say("left out", f"{visible(repr(key))}: {reason}", "yellow")
