"""Stores of shards find the store of their whole data set, and say which of them is absent."""

import numpy as np
import pytest
from small_stores import KEYS, content, open_store, stored_rows

from cache.shards import shard_name, shards_by_store, whole_name
from cache.store import EmbeddingStore
from cache.transfer import merge_stores


def shard(directory, number: int, count: int, pooling: str = "mean") -> EmbeddingStore:
    own = open_store(directory, data_name=shard_name("dev_data", number, count), pooling=pooling)
    keys = KEYS[number - 1 :: count]
    own.append(keys, stored_rows()[number - 1 :: count], [content(key) for key in keys])
    own.merge()
    return own


def test_shards_are_merged_into_the_store_that_a_run_of_all_clips_opens(tmp_path):
    paths = [shard(tmp_path, number, 3).path for number in (1, 2, 3)]
    whole = open_store(tmp_path)

    ((into, shards),) = shards_by_store(paths).items()
    merged = merge_stores(shards.paths, into)

    assert (into, shards.absent) == (whole.path, "")
    assert merged.header.data_name == "dev_data"
    np.testing.assert_array_equal(EmbeddingStore.at(whole.path).read(KEYS), stored_rows())


def test_each_pooling_has_its_own_whole_and_absent_shards_are_named(tmp_path):
    paths = [shard(tmp_path, 2, 9, pooling).path for pooling in ("mean", "max")]

    groups = shards_by_store(paths)

    assert [len(shards.paths) for shards in groups.values()] == [1, 1]
    assert {shards.absent for shards in groups.values()} == {"1/9, 3/9, 4/9, 5/9, 6/9 and 3 more"}


def test_a_store_that_is_no_shard_belongs_nowhere(tmp_path):
    own = open_store(tmp_path)
    own.append(KEYS, stored_rows(), [content(key) for key in KEYS])

    assert whole_name("dev_data") == "dev_data"
    with pytest.raises(ValueError, match="not the store of a shard"):
        shards_by_store([own.path])
