"""Whether the scores of normal windows drift away from those that a threshold came from.

Each new score gets a p-value among the scores before it. While all of them are exchangeable, these
p-values are independent and uniform (Vovk, Nouretdinov, Gammerman 2003, "Testing exchangeability
on-line"), so that no bet on them grows on average. The bets are those of the Simple Jumper, a
martingale, and the evidence is its Shiryaev-Roberts statistic (Vovk, Petej, Nouretdinov, Ahlberg,
Carlsson, Gammerman 2021, "Retrain or not retrain: conformal test martingales for change-point
detection"). In n windows without drift it reaches a level c with a probability of at most n / c.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

LEVEL = 1e10
"""Drift is said at this evidence."""
FAINT = 10.0
"""Below this, nothing speaks for drift."""
MOST_SCORES = 5000
"""Scores that new ones are compared with; then no more are added, so that a slow drift is not
taken in. From then on p-values are uniform but for the chance in these scores, and the bound above
holds roughly only; the level leaves room for that."""
BETS = (-1.0, 0.0, 1.0)
"""Slopes of the bets: on small p-values, on none, on large ones."""
JUMP = 0.01
"""Share of the capital that moves between the bets at each step."""


@dataclass
class DriftMartingale:
    """The evidence that the scores of one machine have changed; call `update` for each window."""

    scores: list[float]
    """Ascending: out-of-fold scores of training normals, and the first ones of the watch."""
    shares: list[float] = field(default_factory=lambda: [1 / len(BETS)] * len(BETS))
    """Of the capital, by bet."""
    evidence: float = 0.0
    n_windows: int = 0

    @classmethod
    def over(cls, scores: Iterable[float]) -> DriftMartingale:
        """Begin with scores (n,) in any order; there may be none."""
        return cls(sorted(scores))

    @property
    def is_drift(self) -> bool:
        return self.evidence >= LEVEL

    @property
    def is_faint(self) -> bool:
        return self.evidence < FAINT

    def update(self, score: float) -> bool:
        """Take in the score of one more window; tell whether it joins those to compare with.

        Windows must not overlap. Ties are broken by a draw that depends on their number only.
        """
        draw = Random(self.n_windows).random()  # noqa: S311 - no secret
        below = bisect_left(self.scores, score)
        ties = bisect_right(self.scores, score) - below
        above = len(self.scores) - below - ties
        p_value = (above + draw * (ties + 1)) / (len(self.scores) + 1)
        self._bet(p_value)
        self.n_windows += 1
        if len(self.scores) >= MOST_SCORES:
            return False
        insort(self.scores, score)
        return True

    def _bet(self, p_value: float) -> None:
        """Move the evidence by one p-value, from 0 to 1."""
        mean = sum(self.shares) / len(BETS)
        shares = [(1 - JUMP) * share + JUMP * mean for share in self.shares]
        won = [share * (1 + bet * (p_value - 0.5)) for share, bet in zip(shares, BETS, strict=True)]
        growth = sum(won)
        self.shares = [share / growth for share in won]
        self.evidence = min((1 + self.evidence) * growth, 1e300)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without the scores."""
        return {"shares": self.shares, "evidence": self.evidence, "n_windows": self.n_windows}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], scores: Iterable[float]) -> DriftMartingale:
        """Build the martingale from what `to_dict` gave, and from its scores."""
        return cls(sorted(scores), list(values["shares"]), values["evidence"], values["n_windows"])
