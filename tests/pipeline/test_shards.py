"""A shard is the same clips whatever lies beside them, and all shards together are all clips."""

import numpy as np
import pytest

from cache.store import EmbeddingStore
from pipeline.embedding_only import embed_only
from pipeline.exits import UsageError
from pipeline.job import run
from pipeline.settings import EmbedSettings, Settings
from pipeline.shards import only_shard, parse_shard, shard_of
from pipeline.sources import find_dataset


def test_every_clip_is_in_one_shard_and_stays_there_when_files_are_added(data):
    before = find_dataset(Settings())
    new = next(data.rglob("train/*.wav"))
    new.with_name("normal_id_00_00009999.wav").write_bytes(new.read_bytes())
    after = find_dataset(Settings())

    shards = [{clip.key for clip in only_shard(before, f"{i}/3")} for i in (1, 2, 3)]
    shards_after = [{clip.key for clip in only_shard(after, f"{i}/3")} for i in (1, 2, 3)]

    assert sorted(key for keys in shards for key in keys) == [clip.key for clip in before]
    assert all(shards)
    assert all(keys <= later for keys, later in zip(shards, shards_after, strict=True))


def test_a_shard_of_a_key_is_the_same_for_ever():
    assert [shard_of(key, 7) for key in ("a.wav", "fan/b.wav", "ü.wav")] == [4, 5, 6]


def test_shards_of_the_whole_job_fill_what_it_reads(data, capsys):
    whole = embed_only(EmbedSettings(encoder="logmel", pooling="mean", cache_dir=data / "whole"))
    flags = {"encoder": "logmel", "pooling": "mean", "detector": "knn"}
    shards = [embed_only(Settings(**flags, shard=f"{i}/2")).sources for i in (1, 2)]
    capsys.readouterr()

    job = run(**flags)

    paths = {source.path for sources in shards for source in sources}
    assert len(paths) == 2
    assert "embed with" not in capsys.readouterr().err
    assert not job.failed
    ((first,), (second,)) = shards
    for source in (first, second):
        keys = sorted(source.keys)
        np.testing.assert_array_equal(
            EmbeddingStore.at(source.path).read(keys), whole.sources[0].read(keys)
        )


@pytest.mark.parametrize("text", ["3", "0/3", "4/3", "1/0", "a/b", "-1/3", "1/3/5"])
def test_what_is_no_shard_is_a_usage_error(text):
    with pytest.raises(UsageError, match=r"--shard .*: expected NUMBER/COUNT"):
        parse_shard(text)


def test_a_shard_is_not_judged_and_not_imported(data):
    with pytest.raises(UsageError, match="a shard can be embedded, not judged"):
        run(shard="1/2")
    with pytest.raises(UsageError, match="the vectors of --embeddings are there already"):
        embed_only(Settings(shard="1/2", embeddings="theirs.npz"))
