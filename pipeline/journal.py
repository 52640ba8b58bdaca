"""What happens during a job: events, and clips that are left out."""

from __future__ import annotations

from typing import Any

from ground.text import visible
from pipeline.screen import say

SAID = 50
"""So many clips that are left out are said; a run folder's errors.jsonl lists all."""


class Journal:
    """Says which clips are left out, and remembers them; a run folder writes down everything."""

    def __init__(self) -> None:
        self.left_out: list[tuple[str, str]] = []
        """Clip keys, each with a reason."""
        self._known: set[tuple[str, str]] = set()

    def log(self, event: str, **facts: Any) -> None:
        """Note an event; nothing is kept of it here."""

    def leave_out(self, key: str, reason: str) -> None:
        """Note, once for each reason, that a clip is left out; say so of the first ones."""
        if self.is_known(key, reason):
            return
        self._known.add((key, reason))
        self.left_out.append((key, reason))
        if len(self.left_out) <= SAID:
            say("left out", f"{visible(repr(key))}: {visible(reason)}", "yellow")
        elif len(self.left_out) == SAID + 1:
            say("left out", "more clips, which are not listed here", "yellow")

    def is_known(self, key: str, reason: str) -> bool:
        """Tell whether a clip was left out before for that reason."""
        return (key, reason) in self._known
