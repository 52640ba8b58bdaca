"""Recordings of several folders are learned together, and stay apart where names are equal."""

import numpy as np
import pytest
from machine_halls import FAST, hall

from pipeline.journal import Journal
from pipeline.plan import combinations_of
from pipeline.settings import LearnSettings
from pipeline.training_recordings import find_training_recordings


def test_equal_names_of_two_folders_are_two_recordings(tmp_path):
    roots = [
        str(hall(tmp_path / "one", ("press7",), n=3)),
        str(hall(tmp_path / "two", ("press7",), n=3)),
    ]
    settings = LearnSettings(**FAST, cache_dir=tmp_path / "cache", quiet=True)
    (combination,), _ = combinations_of(settings)
    pair = combination.members[0].source

    found = find_training_recordings(settings, roots, [pair], Journal())

    keys = list(found.table.key)
    vectors = found.sources[pair].read(keys[::-1])
    assert keys[0] == "press7/000.wav"
    assert keys[3] == f"{roots[1]}/press7/000.wav"
    assert len(set(keys)) == 6
    np.testing.assert_allclose(vectors[0], vectors[3], rtol=1e-6)  # the same sound twice
    assert found.minutes(keys) == pytest.approx(6 / 60)
    assert len(set(found.hashes(keys))) == 3
