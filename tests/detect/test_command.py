"""`python -m detect` lists detectors and evaluates vectors of any origin."""

import subprocess
import sys

import numpy as np
import pytest

from detect import DETECTORS


def run(*arguments):
    command = [sys.executable, "-m", "detect", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_list_names_every_detector():
    listed = run("list").stdout

    assert [line.split()[0] for line in listed.splitlines()] == list(DETECTORS)


def test_evaluate_prints_the_auc_of_vectors_in_an_npz(tmp_path, rng):
    train, normal = rng.normal(size=(40, 4)), rng.normal(size=(10, 4))
    test = np.concatenate([normal, normal + 50])
    path = tmp_path / "pumps.npz"
    np.savez(path, train=train, test=test, is_anomalous=np.arange(20) >= 10)

    printed = run("evaluate", path, "-d", "mahalanobis,knn").stdout

    assert printed.count("pumps id_00") == 2
    assert printed.count("1.000") == 4


@pytest.mark.parametrize(
    ("arrays", "arguments", "message"),
    [
        ({"train": np.eye(3)}, (), "lacks is_anomalous, test; it has"),
        (
            {"train": np.eye(3), "test": np.eye(3), "is_anomalous": np.arange(3) > 1},
            ("-d", "mahalonobis"),
            "There is no detector 'mahalonobis'",
        ),
    ],
)
def test_what_a_user_can_cause_ends_in_one_line(arrays, arguments, message, tmp_path):
    path = tmp_path / "vectors.npz"
    np.savez(path, **arrays)

    finished = run("evaluate", path, *arguments)

    assert finished.returncode == 1
    assert message in finished.stderr
    assert len(finished.stderr.splitlines()) == 1


def test_a_missing_file_is_a_usage_error():
    finished = run("evaluate", "nowhere.npz")

    assert finished.returncode == 2
    assert "nowhere.npz" in finished.stderr
