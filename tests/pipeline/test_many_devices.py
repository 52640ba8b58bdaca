"""A process per device gives the vectors of one process, and loses nothing when it is killed."""

import mortal_encoder
import numpy as np
import pytest

from cache.store import EmbeddingStore
from pipeline.embedding_only import embed_only
from pipeline.settings import EmbedSettings


def embedded(device: str, cache_dir, **more):
    settings = EmbedSettings(
        encoder=f"{mortal_encoder.NAME},wave", device=device, cache_dir=cache_dir, **more
    )
    return embed_only(settings)


def test_two_processes_give_the_same_bits_and_a_bad_clip_costs_itself(data, tmp_path, monkeypatch):
    bad = next(data.rglob("test/*.wav"))
    bad.write_bytes(b"no sound")
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    (deaths / "one").touch()

    alone = embedded("cpu", tmp_path / "alone")
    monkeypatch.setenv(mortal_encoder.DEATHS, str(deaths))
    with pytest.raises(ChildProcessError, match="the same command goes on from there"):
        embedded("cpu,cpu", tmp_path / "shared")
    shared = embedded("cpu,cpu", tmp_path / "shared")

    assert not list(deaths.iterdir())
    assert [key for key, _ in shared.left_out] == [bad.relative_to(data).as_posix()]
    for one, two in zip(alone.sources, shared.sources, strict=True):
        keys = sorted(one.keys)
        assert one.keys == two.keys
        assert sorted(EmbeddingStore.at(two.path).keys()) == keys
        np.testing.assert_array_equal(one.read(keys), two.read(keys))
