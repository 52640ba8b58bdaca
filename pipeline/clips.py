"""Clips as columns: what detectors and results know of them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detect.fitting import ClipTable, FitUnit
    from embed.recordings.dataset import DataSet


def table_of(dataset: DataSet) -> ClipTable:
    """Turn clips into columns."""
    from detect.fitting import ClipTable

    columns = ("key", "machine_type", "machine_id", "split", "label", "domain", "group")
    return ClipTable(**{name: tuple(getattr(c, name) for c in dataset.clips) for name in columns})


def clip_table(dataset: DataSet) -> tuple[ClipTable, list[str]]:
    """Turn clips into columns, without the machines that nothing can be fitted to.

    Returns the reason for each such machine. Raises ValueError where no test clip is left.
    """
    table, without_training = trained(table_of(dataset))
    if "test" not in table.split:
        reasons = [
            *without_training,
            *(f"{s.key!r} is left out: {s.reason}" for s in dataset.skipped),
        ]
        first = f"; {reasons[0]}" if reasons else ""
        raise ValueError(
            f"{dataset.root} has no test clip to judge{first}; `learn` makes a model from normal "
            "recordings alone"
        )
    return table, without_training


def training_only(dataset: DataSet) -> DataSet:
    """Leave out all but normal training clips; ValueError where there is none."""
    training = dataset.only(lambda clip: (clip.split, clip.label) == ("train", "normal"))
    if not training.clips:
        raise ValueError(f"{dataset.root} has no normal training recording")
    return training


def without(unit: FitUnit, keys: frozenset[str]) -> FitUnit:
    """Leave clips out of a unit."""
    train = [i for i, key in enumerate(unit.train_keys) if key not in keys]
    test = [i for i, key in enumerate(unit.test_keys) if key not in keys]
    if not train:
        raise ValueError(f"{unit.name}: every training clip has a damaged row in the cache")
    domains = unit.train_domains or ("",) * len(unit.train_keys)
    return replace(
        unit,
        train_domains=tuple(domains[i] for i in train),
        train_keys=tuple(unit.train_keys[i] for i in train),
        train_ids=tuple(unit.train_ids[i] for i in train),
        train_groups=tuple(unit.train_groups[i] for i in train),
        test_keys=tuple(unit.test_keys[i] for i in test),
        test_ids=tuple(unit.test_ids[i] for i in test),
    )


def only(table: ClipTable, keys: frozenset[str]) -> ClipTable:
    """Leave out the clips that have no vector."""
    kept = [i for i, key in enumerate(table.key) if key in keys]
    if len(kept) == len(table.key):
        return table
    columns = {f.name: getattr(table, f.name) for f in fields(table)}
    return replace(table, **{name: tuple(c[i] for i in kept) for name, c in columns.items()})


def trained(table: ClipTable) -> tuple[ClipTable, list[str]]:
    """Leave out the machines that nothing can be fitted to; return the reason for each."""
    rows = list(zip(table.machine_type, table.machine_id, table.split, table.label, strict=True))
    with_training = {row[:2] for row in rows if row[2:] == ("train", "normal")}
    lacking = sorted({row[:2] for row in rows if row[2] == "test"} - with_training)
    keys = frozenset(
        key for key, row in zip(table.key, rows, strict=True) if row[:2] not in lacking
    )
    reason = "it has test clips but no normal training clips; add some, or leave it out with --ids"
    return only(table, keys), [f"{' '.join(machine)}: {reason}" for machine in lacking]
