"""Stores of shards: each shard of a data set fills a store of its own; they are merged later."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cache.reader import header_at
from cache.store import file_name_of

_SHARD = re.compile(r"(?P<whole>.+)\+(?P<number>[1-9]\d*)of(?P<count>[1-9]\d*)")
LISTED = 5


@dataclass
class Shards:
    """The stores of one data set's shards that are there."""

    paths: list[Path]
    numbers: set[tuple[int, int]]
    """Number and count of each."""

    @property
    def absent(self) -> str:
        """Name the shards that have no store here; "" if there is none."""
        absent = [
            f"{number}/{count}"
            for count in sorted({count for _, count in self.numbers})
            for number in range(1, count + 1)
            if (number, count) not in self.numbers
        ]
        more = f" and {len(absent) - LISTED} more" if len(absent) > LISTED else ""
        return ", ".join(absent[:LISTED]) + more


def shard_name(data_name: str, number: int, count: int) -> str:
    """Name the data of one shard, from 1 to `count`, so that no other shard has its store."""
    return f"{data_name}+{number}of{count}"


def whole_name(data_name: str) -> str:
    """Return the name of the data set that a shard is of; other names as they are."""
    match = _SHARD.fullmatch(data_name)
    return match["whole"] if match else data_name


def shards_by_store(paths: Sequence[Path]) -> dict[Path, Shards]:
    """Group the stores of shards by the store of the whole data set, which is beside them.

    ValueError for a store that is not one of a shard.
    """
    groups: dict[Path, Shards] = {}
    for path in paths:
        header = header_at(path)
        match = _SHARD.fullmatch(header.data_name) if header else None
        if header is None or match is None:
            raise ValueError(
                f"{path} is not the store of a shard, so where its rows belong is not known; "
                "name the store that takes all by --into FILE"
            )
        name = file_name_of(match["whole"], header.encoder, header.pooling, header.fingerprint)
        shards = groups.setdefault(path.absolute().with_name(name), Shards([], set()))
        shards.paths.append(path)
        shards.numbers.add((int(match["number"]), int(match["count"])))
    return groups
