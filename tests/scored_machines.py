"""Test clips of a few machines with random scores, for what is written about them."""

from collections.abc import Sequence

import numpy as np

from detect.fitting import ClipTable, FitUnit, Scores

HOSTILE = [
    "[/red]fan",
    '<script>alert("1")</script>&amp;\' "x',
    "a,b\nc",
    "a\rb",
    "\x1b[31mred\x1b[0m",
    "\u202egnp.wav",
    "=1+2",
    "+cmd",
    "-x",
    "@sum",
    "\tx",
    "'quoted",
    "a/b",
    "a#b",
    "a_b",
    "風 fan",
]
"""Names that a program might obey instead of showing them."""


def scored(
    rng: np.random.Generator,
    machine_type: str = "slider",
    ids: Sequence[str] = ("id_00", "id_02"),
    n: int = 30,
    domains: Sequence[str] = (),
) -> tuple[ClipTable, list[Scores]]:
    """Make `n` test clips per ID, every second anomalous, named as DCASE does."""
    clips, found = [], []
    for machine_id in ids:
        keys = []
        for j in range(n):
            label = ("normal", "anomaly")[j % 2]
            domain = domains[j // 2 % 2] if domains else ""
            prefix = f"{machine_id}_{domain}_test_{label}" if domains else f"{label}_{machine_id}"
            keys.append(f"{machine_type}/test/{prefix}_{j:08d}.wav")
            truth = "anomalous" if j % 2 else "normal"
            clips.append((keys[-1], machine_type, machine_id, "test", truth, domain))
        unit = FitUnit(
            machine_type, machine_id, ("t",), (machine_id,), tuple(keys), (machine_id,) * n
        )
        found.append(Scores(unit, rng.normal(size=n) + np.arange(n) % 2, None, 0.0))
    return ClipTable(*(tuple(column) for column in zip(*clips, strict=True))), found


def one_clip(machine: tuple[str, str], key: str, score: float) -> tuple[ClipTable, Scores]:
    """Make a machine that has a single test clip."""
    table = ClipTable((key,), (machine[0],), (machine[1],), ("test",), ("unknown",))
    unit = FitUnit(*machine, ("t",), (machine[1],), (key,), (machine[1],))
    return table, Scores(unit, np.array([score]), None, 0.0)


def both(tables: Sequence[ClipTable]) -> ClipTable:
    """Put the clips of several tables into one."""
    columns = ("key", "machine_type", "machine_id", "split", "label")
    return ClipTable(*(sum((getattr(t, name) for t in tables), ()) for name in columns))
