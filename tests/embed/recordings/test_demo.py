"""The demo recordings: the same every time, whole or absent, and neither trivial nor hopeless."""

import json
import os
import time

import numpy as np
import pytest
import soundfile
from sklearn.metrics import roc_auc_score

from detect import DETECTORS, facts_of, make_detector
from detect.detector import anomaly_scores
from embed import make_encoder, make_pooling
from embed.recordings import demo
from embed.recordings.demo import FAULTS, MARKER, RAILS, is_written, record, write_demo_data

VECTOR_DETECTORS = [
    name for name in DETECTORS if facts_of(name).takes == "vectors" and not facts_of(name).needs_ids
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "demo_data"
    calls = []
    start = time.process_time()
    write_demo_data(folder, on_clip=lambda: calls.append(1))
    assert time.process_time() - start < 40  # of CPU: 20 s on two cores
    assert len(calls) == 300
    return folder


@pytest.fixture(scope="module")
def vectors(folder):
    """Vectors of every clip, by pooling and by the kind and machine ID in its name."""
    poolings = ("fluctuation", "mean")
    encoder = make_encoder("logmel")
    rows = {}
    for path in sorted(folder.rglob("*.wav")):
        waveform = soundfile.read(path, dtype="float32")[0]
        encoded = encoder.encode(waveform[None], [make_pooling(name) for name in poolings])
        kind = f"{path.parent.name}/{path.name[:-13]}"
        for pooling, row in zip(poolings, encoded, strict=True):
            rows.setdefault((pooling, kind), []).append(row[0].astype(float))
    return {key: np.stack(parts) for key, parts in rows.items()}


def auc_of_each_id(vectors, pooling, detector):
    aucs = []
    for rail in RAILS:
        train, normal, anomaly = (
            vectors[pooling, f"{kind}_{rail.machine_id}"]
            for kind in ("train/normal", "test/normal", "test/anomaly")
        )
        fitted = make_detector(detector).fit(train)
        scores = anomaly_scores(fitted, np.concatenate([normal, anomaly]))
        aucs.append(roc_auc_score(np.repeat([False, True], [len(normal), len(anomaly)]), scores))
    return aucs


@pytest.fixture
def three_clips(monkeypatch):
    """A demo of one clip per machine ID and kind, for tests of writing."""
    monkeypatch.setattr(demo, "N_TRAIN", 1)
    monkeypatch.setattr(demo, "N_TEST_NORMAL", 1)
    monkeypatch.setattr(demo, "N_TEST_ANOMALOUS", 1)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_demo_has_the_layout_of_dcase_2020(folder):
    for rail in RAILS:
        train = folder / "slider/train"
        test = folder / "slider/test"
        assert len(list(train.glob(f"normal_{rail.machine_id}_????????.wav"))) == 60
        assert len(list(test.glob(f"normal_{rail.machine_id}_????????.wav"))) == 20
        assert len(list(test.glob(f"anomaly_{rail.machine_id}_????????.wav"))) == 20
    assert len(list(folder.rglob("*.wav"))) == 300


def test_every_clip_is_ten_seconds_of_16_bit_mono_that_never_clips(folder):
    for path in sorted(folder.rglob("*.wav"))[::7]:
        about = soundfile.info(path)
        assert (about.samplerate, about.frames, about.channels) == (16_000, 160_000, 1)
        assert about.subtype == "PCM_16"
        peak = np.abs(soundfile.read(path)[0]).max()
        assert 0.02 < peak < 0.9


def test_default_finds_most_faults_of_every_machine_and_not_all(vectors):
    aucs = auc_of_each_id(vectors, "fluctuation", "mahalanobis")

    assert all(0.75 <= auc <= 0.97 for auc in aucs)
    assert len({round(auc, 2) for auc in aucs}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["fluctuation", "mean"])
@pytest.mark.parametrize("detector", VECTOR_DETECTORS)
def test_no_detector_is_perfect_on_all_machines(vectors, detector, pooling):
    assert np.mean(auc_of_each_id(vectors, pooling, detector)) < 0.97


def test_methods_differ_visibly(vectors):
    means = [
        np.mean(auc_of_each_id(vectors, pooling, detector))
        for detector, pooling in (
            ("mahalanobis", "fluctuation"),
            ("mahalanobis", "mean"),
            ("iforest", "mean"),
        )
    ]

    assert means[0] > means[1] + 0.05 > means[2] + 0.1


def test_marker_names_every_fault_with_its_severity(folder):
    faults = json.loads((folder / MARKER).read_text())["faults"]

    assert set(faults) == {p.relative_to(folder).as_posix() for p in folder.rglob("anomaly*.wav")}
    assert {about["fault"] for about in faults.values()} == set(FAULTS)
    assert len({about["severity"] for about in faults.values()}) == 3


@pytest.mark.parametrize("fault", ["", *FAULTS])
def test_a_clip_depends_on_its_seed_alone(fault):
    first, second, other = (record(RAILS[0], fault, 1.0, (0, 0, 0, n)) for n in (5, 5, 6))

    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_writing_twice_gives_the_same_bytes(tmp_path, three_clips):
    write_demo_data(tmp_path / "a")
    write_demo_data(tmp_path / "b")
    write_demo_data(tmp_path / "c", seed=1)

    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


def test_finished_data_is_left_as_it_is(tmp_path, three_clips):
    folder = tmp_path / "demo_data"
    write_demo_data(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    write_demo_data(folder)

    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_interrupted_write_leaves_nothing_and_the_next_one_finishes(tmp_path, three_clips):
    folder = tmp_path / "demo_data"

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo_data(folder, on_clip=interrupt)
    assert list(tmp_path.iterdir()) == []

    write_demo_data(folder)
    assert len(list(folder.rglob("*.wav"))) == 9


def test_leftover_of_a_killed_write_is_cleared_away(tmp_path, three_clips):
    killed, running = tmp_path / ".demo_data.partial-1", tmp_path / ".demo_data.partial-2"
    killed.mkdir()
    running.mkdir()
    os.utime(killed, (0, 0))

    write_demo_data(tmp_path / "demo_data")

    assert not killed.exists()
    assert running.exists()


def test_empty_folder_is_filled(tmp_path, three_clips):
    write_demo_data(tmp_path)

    assert (tmp_path / MARKER).is_file()


def test_folder_with_other_content_is_refused_and_untouched(tmp_path, three_clips):
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(FileExistsError, match="has content of its own"):
        write_demo_data(tmp_path)
    assert contents(tmp_path) == {"thesis.txt": b"mine"}


def test_whether_the_demo_is_written_is_told_without_writing(tmp_path, three_clips):
    assert not is_written(tmp_path / "demo_data")
    write_demo_data(tmp_path / "demo_data")
    assert is_written(tmp_path / "demo_data")

    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "press.wav").touch()
    with pytest.raises(FileExistsError, match=r"has content of its own \(no demo\.json\)"):
        is_written(tmp_path / "own")


def test_demo_of_another_seed_is_refused(tmp_path, three_clips):
    write_demo_data(tmp_path / "demo_data", seed=1)

    with pytest.raises(FileExistsError, match="seed 1, expected version 1 and seed 0"):
        write_demo_data(tmp_path / "demo_data")


def test_damaged_marker_is_named(tmp_path):
    (tmp_path / MARKER).write_text("{")

    with pytest.raises(FileExistsError, match=r"demo\.json cannot be read; delete"):
        write_demo_data(tmp_path)
