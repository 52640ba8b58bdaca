"""Detectors of many machines lie on disk, and results and model are those of fits in memory."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from detect.detector import last_step
from pipeline import model_writing, spool
from pipeline.job import run
from pipeline.model import read_model
from pipeline.spool import Spool
from report import score_files
from report.evaluation import evaluate_score_files


def test_few_fits_need_no_folder(tmp_path):
    with Spool(tmp_path / "runs") as few:
        assert few.paths(spool.IN_MEMORY) == [None] * spool.IN_MEMORY

    assert not (tmp_path / "runs").exists()


def test_many_have_places_in_folders_of_a_thousand_that_are_gone_in_the_end(tmp_path):
    with Spool(tmp_path) as many:
        paths = many.paths(2001)
        (folder,) = tmp_path.iterdir()

        assert len(set(paths)) == 2001
        assert {path.parent.relative_to(folder).name for path in paths} == {"0", "1", "2"}

    assert not folder.exists()


@pytest.mark.parametrize(("age_s", "is_left"), [(10.0, True), (spool.STALE_S + 10, False)])
def test_only_what_was_long_untouched_is_removed(age_s, is_left, tmp_path):
    leftover = tmp_path / ".fits-killed"
    leftover.mkdir()
    os.utime(leftover, (time.time() - age_s,) * 2)

    with Spool(tmp_path) as many:
        many.paths(1000)

    assert leftover.exists() == is_left


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """Vectors of seven machines, in the folder of work."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    names = [
        f"fan/{split}/{label}_id_{machine:02d}_{i:08d}.wav"
        for machine in range(7)
        for split, label, n in (
            ("train", "normal", 12),
            ("test", "normal", 4),
            ("test", "anomaly", 4),
        )
        for i in range(n)
    ]
    vectors = rng.normal(size=(len(names), 5)) + np.array([["anomaly" in name] for name in names])
    np.savez(tmp_path / "theirs.npz", embeddings=vectors.astype(np.float32), filenames=names)
    return {"embeddings": "theirs.npz", "detector": "mahalanobis", "quiet": True}


def test_a_job_of_many_machines_finds_the_same_and_fills_no_folder(theirs, monkeypatch):
    few = run(**theirs)
    monkeypatch.setattr(spool, "IN_MEMORY", 3)
    for module in (model_writing, score_files):
        monkeypatch.setattr(module, "IN_ONE_FOLDER", 3)

    many = run(**theirs)

    assert many.outcomes[0].results == few.outcomes[0].results
    assert not list(Path("runs").glob(".fits*"))
    scores = sorted(many.folder.glob("scores_*/anomaly_score_*.csv"))
    assert [path.parent.name for path in scores] == [f"scores_{i // 3:03d}" for i in range(7)]
    assert not list(many.folder.glob("anomaly_score_*.csv"))
    assert evaluate_score_files(many.folder) == evaluate_score_files(few.folder)
    model = read_model(many.folder)
    assert [machine.folder.split("/")[2] for machine in model.machines] == [
        f"{i // 3:03d}" for i in range(7)
    ]
    (member,) = model.load(model.machines[6]).members
    assert last_step(member.detector).n_features_in_ == 5
