"""What became of one combination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.plan import Combination

if TYPE_CHECKING:
    from detect.results import Result

# ---------------------------------------------------------------------------------------------
# The whole job
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of one combination: its rows of results, or the reason why there are none."""

    combination: Combination
    results: Sequence[Result] = ()
    reason: str = ""
    decisions: Mapping[str, float] = field(default_factory=dict)
    warning: str = ""
    """What a reader of the figures must know, such as random weights."""

    @property
    def entry(self) -> dict[str, Any]:
        """Its line of the leaderboard."""
        from report import leaderboard_entry

        made = self.combination
        seed = {} if made.seed is None else {"seed": str(made.seed)}
        names = {"encoder": made.encoder, "pooling": made.pooling, "detector": made.detector}
        options = {name: str(value) for name, value in made.options}
        entry = leaderboard_entry(self.results, **names, **options, **seed)
        entry |= self.decisions
        if self.warning:
            entry["note"] = "; ".join(filter(None, [self.warning, entry["note"]]))
        return {**entry, "error": self.reason} if self.reason else entry
