"""What fails while machines are judged costs what it must, and is said."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from detect import DETECTORS
from ground.registry import Row
from pipeline.job import run

ROOT = Path(__file__).resolve().parents[2]


def damage(store: Path, row: int) -> str:
    """Change bytes of one row's vector; return the clip's key."""
    with h5py.File(store) as file:
        key = file["filenames"][row].decode()
        vectors = file["embeddings"]
        at = vectors.id.get_offset() + row * vectors.dtype.itemsize * vectors.shape[1]
    with store.open("r+b") as raw:
        raw.seek(at)
        raw.write(b"\x55\xaa\x55\xaa")
    return key


def test_a_damaged_row_costs_that_clip_and_the_other_pooling_nothing(data):
    flags = {"encoder": "logmel", "pooling": "mean,max", "detector": "knn", "quiet": True}
    before = run(**flags)
    (store,) = Path("embeddings").glob("*-mean-*.h5")
    key = damage(store, 0)

    after = run(**flags)

    assert [clip for clip, _ in after.left_out] == [key]
    assert "verify" in after.left_out[0][1]
    (line,) = (after.folder / "errors.jsonl").read_text().splitlines()
    assert json.loads(line)["key"] == key
    assert not after.failed
    clips = {outcome.combination.name: outcome.clips for outcome in after.outcomes}
    whole = {outcome.combination.name: outcome.clips for outcome in before.outcomes}
    assert clips["logmel-max-knn"] == whole["logmel-max-knn"]
    n_lost = len(whole["logmel-mean-knn"]) - len(clips["logmel-mean-knn"])
    n_train = [r.n_train for r in after.outcomes[0].results if not r.is_summary]
    assert n_lost + 20 - sum(n_train) == 1


def test_a_damaged_row_of_a_member_leaves_the_clip_to_the_others(data):
    flags = {"fuse": "logmel/mean/knn,wave/clip/knn", "quiet": True}
    n_clips = len(run(**flags).outcomes[0].clips)
    (store,) = Path("embeddings").glob("*-logmel-mean-*.h5")
    row = next(i for i in range(32) if "test" in key_of(store, i))
    key = damage(store, row)

    job = run(**flags)

    (outcome,) = job.outcomes
    assert [clip for clip, _ in job.left_out] == [key]
    assert len(outcome.clips) == n_clips
    assert {clip["key"]: clip.get("note") for clip in outcome.clips}[key] == (
        "not rated by logmel/mean/knn"
    )
    ranking = (job.folder / "ranking.csv").read_text()
    assert ranking.splitlines()[0].endswith(",note")
    assert ranking.count("not rated by logmel/mean/knn") == 1


def key_of(store: Path, row: int) -> str:
    with h5py.File(store) as file:
        return file["filenames"][row].decode()


class Fails:
    """A detector that cannot be fitted."""

    def fit(self, X: np.ndarray, y: object = None) -> "Fails":
        raise MemoryError

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class Constant(Fails):
    """A detector to which all clips are alike."""

    def fit(self, X: np.ndarray, y: object = None) -> "Constant":
        return self

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        return np.zeros(len(X))


@pytest.fixture
def odd_detectors(monkeypatch):
    monkeypatch.setitem(DETECTORS, "fails", Row(f"{__name__}:Fails", "fails"))
    monkeypatch.setitem(DETECTORS, "constant", Row(f"{__name__}:Constant", "constant"))


@pytest.mark.usefixtures("odd_detectors")
def test_a_fit_that_runs_out_of_memory_is_one_line_of_its_combination(data):
    job = run(encoder="logmel", pooling="mean", detector="fails,knn", quiet=True)

    failed, fitted = job.outcomes
    assert job.failed
    assert failed.reason.splitlines() == [
        "fails on valve id_00: MemoryError; fails on valve id_02: MemoryError"
    ]
    assert not fitted.reason


@pytest.mark.usefixtures("odd_detectors")
@pytest.mark.parametrize("member", ["wave/clip/fails", "wave/clip/constant"])
def test_a_member_that_fails_or_says_nothing_is_left_out_of_the_fusion_and_said(data, member):
    (alone,) = run(fuse="logmel/mean/knn,spectrum/clip/knn", quiet=True).outcomes
    (with_it,) = run(fuse=f"logmel/mean/knn,{member},spectrum/clip/knn", quiet=True).outcomes

    assert [clip["anomaly_score"] for clip in with_it.clips] == [
        clip["anomaly_score"] for clip in alone.clips
    ]
    assert f"{member} is left out" in with_it.warning


@pytest.mark.usefixtures("odd_detectors")
def test_equal_scores_are_said_where_the_auc_is_shown(data):
    (outcome,) = run(encoder="logmel", detector="constant", quiet=True).outcomes

    assert {row.auc for row in outcome.results if not row.is_summary} == {0.5}
    assert all("scores are equal" in row.note for row in outcome.results if not row.is_summary)


@pytest.mark.parametrize("rule", ["mean", "softmax", "min", "rank"])
def test_every_rule_of_fusion_gives_finite_scores_and_verdicts(data, rule):
    (outcome,) = run(
        fuse="logmel/mean/knn,wave/clip/gmm", set=f"auto.rule={rule}", quiet=True
    ).outcomes

    assert np.isfinite([clip["anomaly_score"] for clip in outcome.clips]).all()
    assert {clip["verdict"] for clip in outcome.clips} <= {"normal", "suspicious", "anomalous"}


def test_ctrl_c_during_parallel_fits_prints_no_traceback_of_a_worker(data, tmp_path):
    slow = (
        "import sys, pipeline.judging as j, run_pipeline\n"
        "j.SECONDS_ALONE = 0\n"
        "sys.argv = ['run_pipeline.py', '--detector', 'official_ae', '--workers', '2',\n"
        "            '--set', 'official_ae.epochs=100000', '--false-alarms', 'none']\n"
        "sys.exit(run_pipeline.main())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", slow],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    deadline = time.monotonic() + 60
    while sum(map(leaves_ctrl_c_to_its_parent, children_of(process.pid))) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Traceback" not in err
    assert "the same command goes on from here" in err


def leaves_ctrl_c_to_its_parent(pid: str) -> bool:
    """Whether a process has begun: two workers do, and the two trackers beside them."""
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return bool(int(status["SigIgn"], 16) >> (signal.SIGINT - 1) & 1)


def children_of(pid: int) -> list[str]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return listed.read_text().split() if listed.exists() else []
