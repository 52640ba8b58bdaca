"""Whether a clip sounds like another machine of the model than the one that it is said to be."""

from __future__ import annotations

from collections.abc import Mapping

OWN_UNLIKELY = 3.0
OTHER_ORDINARY = 1.0


def better_machine(z: Mapping[str, float], own: str) -> str | None:
    """Name the machine that a clip fits clearly better than its own, or None.

    `z` holds, by machine, the clip's anomaly score in deviations from the mean of that machine's
    out-of-fold training scores. Another machine fits clearly better where the clip is at least 3
    deviations off for its own and at most 1 for the other: unlike what its own machine does, and
    one of the usual clips of the other. The best of several is named. An unknown `own` is a
    KeyError.
    """
    if z[own] < OWN_UNLIKELY:
        return None
    others = {machine: value for machine, value in z.items() if machine != own}
    if not others:
        return None
    best = min(others, key=lambda machine: (others[machine], machine))
    return best if others[best] <= OTHER_ORDINARY else None
