"""Embeddings that another tool cached run through the detectors, with or without the audio."""

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest

from detect import facts_of
from embed import POOLINGS, make_pooling

FILES = (
    "matrix_and_names.h5",
    "desed_style.h5",
    "dataset_per_clip.h5",
    "group_per_clip.h5",
    "arrays.npz",
)


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Other tests look at figures; here they would only take their time."""
    monkeypatch.setattr("report.figures.draw_scores", lambda *_: None)
    monkeypatch.setattr("report.figures.draw_roc", lambda *_: None)


def names_of_a_data_set() -> list[str]:
    return [
        *(f"fan/train/normal_id_00_{i:08d}.wav" for i in range(24)),
        *(f"fan/test/normal_id_00_{i:08d}.wav" for i in range(6)),
        *(f"fan/test/anomaly_id_00_{i:08d}.wav" for i in range(6)),
    ]


@pytest.fixture
def log_mel_sequences(tmp_path, rng) -> Path:
    """Another tool's log-mel frames, (n, 200, 128); the anomalous ones are 6 dB louder."""
    names = names_of_a_data_set()
    frames = rng.normal(-60, 5, (len(names), 200, 128)).astype(np.float32)
    frames[30:] += 6
    path = tmp_path / "theirs.h5"
    with h5py.File(path, "w") as file:
        file["features"], file["filenames"] = frames, names
    return path


def only_results(folder: str = "runs") -> list[dict[str, str]]:
    (run,) = Path(folder).iterdir()
    with (run / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_five_layouts_of_one_tool_give_the_same_auc(pipeline, shared_data):
    aucs = {}
    for name in FILES:
        ran = pipeline(
            "--embeddings", shared_data / "imports" / name, "--data", shared_data / "mimii_fan",
            "--out", name,
        )  # fmt: skip
        assert ran.code == 0
        assert "matched 40" in ran.err
        aucs[name] = float(only_results(name)[0]["auc"])

    first = aucs.pop(FILES[0])
    for name, auc in aucs.items():
        assert auc == pytest.approx(first, abs=1e-2 if name == "group_per_clip.h5" else 1e-3)


def test_names_that_tell_all_need_no_data(pipeline, log_mel_sequences):
    ran = pipeline("--embeddings", log_mel_sequences)

    assert ran.code == 0
    assert "theirs-mean-mahalanobis" in ran.out
    assert only_results()[0]["n_train"] == "24"


def test_names_that_do_not_tell_the_split_ask_for_data(pipeline, tmp_path):
    with h5py.File(tmp_path / "bare.h5", "w") as file:
        file["embeddings"], file["filenames"] = np.ones((3, 4), "f4"), ["a.wav", "b.wav", "c.wav"]

    ran = pipeline("--embeddings", "bare.h5")

    assert ran.code == 2
    assert "--data" in ran.err
    assert "'a.wav'" in ran.err


def test_a_file_that_is_not_there_is_a_usage_error(pipeline):
    ran = pipeline("--embeddings", "nowhere.h5")

    assert ran.code == 2
    assert "nowhere.h5: no such file" in ran.err


def test_names_of_other_clips_are_refused_with_examples(pipeline, shared_data, log_mel_sequences):
    with h5py.File("other.h5", "w") as file:
        file["embeddings"] = np.ones((1, 4), "f4")
        file["filenames"] = ["pump/train/normal_id_07_00000099.wav"]

    ran = pipeline("--embeddings", "other.h5", "--data", shared_data / "mimii_fan")

    assert ran.code == 1
    assert "normal_id_07_00000099.wav" in ran.err


def test_imported_log_mel_runs_through_every_pooling(pipeline, log_mel_sequences):
    over_frames = [p for p in POOLINGS if make_pooling(p).source == "frames" and p != "frames"]

    ran = pipeline("--embeddings", log_mel_sequences, "--pooling", ",".join(over_frames))

    assert ran.code == 0, ran.err
    for pooling in over_frames:
        assert f"\n{pooling} " in ran.out


def test_imported_log_mel_runs_through_sequence_detectors(pipeline, log_mel_sequences):
    name = "official_ae"
    assert facts_of(name).takes == "sequences"

    ran = pipeline(
        "--embeddings", log_mel_sequences, "--detector", name, "--set", f"{name}.epochs=1"
    )

    assert ran.code == 0, ran.err
    assert f"theirs-frames-{name}" in ran.out


def test_pooling_an_import_leaves_out_the_padding(pipeline, tmp_path):
    names = names_of_a_data_set()
    with h5py.File("ragged.h5", "w") as file:
        for i, name in enumerate(names):
            file[name] = np.full((3 + i % 4, 8), float(i + 1), "f4")

    ran = pipeline("--embeddings", "ragged.h5", "--detector", "knn", "--set", "knn.k=1")

    assert ran.code == 0, ran.err
    (run,) = Path("runs").iterdir()
    scores = (run / "anomaly_score_fan_id_00.csv").read_text()
    assert "nan" not in scores


def test_one_vector_per_clip_cannot_be_pooled(pipeline, shared_data):
    ran = pipeline(
        "--embeddings", shared_data / "imports" / "arrays.npz", "--pooling", "gwrp",
        "--data", shared_data / "mimii_fan",
    )  # fmt: skip

    assert ran.code == 2
    assert "one vector per clip" in ran.err


def test_clips_without_a_row_are_left_out_and_listed(pipeline, shared_data):
    from cache.foreign import read_import

    theirs = read_import(shared_data / "imports" / "arrays.npz")
    with h5py.File("some.h5", "w") as file:
        file["embeddings"], file["filenames"] = theirs.vectors[2:], list(theirs.names[2:])

    ran = pipeline("--embeddings", "some.h5", "--data", shared_data / "mimii_fan")

    (run,) = Path("runs").iterdir()
    assert ran.code == 3
    assert ran.err.count("left out: ") == 2
    assert (run / "errors.jsonl").read_text().count("no row of that name") == 2
