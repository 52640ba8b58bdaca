"""`--shard 2/8`: the clips of one shard, the same ones whatever files are added beside them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.exits import UsageError

if TYPE_CHECKING:
    from embed.recordings.dataset import DataSet


def parse_shard(text: str) -> tuple[int, int]:
    """Read NUMBER/COUNT, the numbers from 1 to the count; UsageError for anything else."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise UsageError(f"--shard {text}: expected NUMBER/COUNT, such as 1/8 to 8/8")
    return number, count


def shard_of(key: str, count: int) -> int:
    """Return the shard, from 1 to `count`, that a clip belongs to: its key alone decides."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % count + 1


def only_shard(dataset: DataSet, text: str) -> DataSet:
    """Keep the clips of one shard, under a name that gives them a store of their own."""
    from cache.shards import shard_name

    number, count = parse_shard(text)
    kept = dataset.only(lambda clip: shard_of(clip.key, count) == number)
    return replace(kept, name=shard_name(dataset.name, number, count))
