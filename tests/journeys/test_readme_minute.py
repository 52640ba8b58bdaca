"""The minute of the README on a small demo: the job, a model, verdicts, windows, new thresholds."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
import soundfile

from embed.recordings import demo
from embed.recordings.demo import write_demo_data

NORMAL, ANOMALOUS = 12, 3


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A demo of 12 training clips and 3 normal and 3 anomalous test clips per machine."""
    folder = tmp_path_factory.mktemp("demo") / "demo_data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "N_TRAIN", NORMAL)
        patch.setattr(demo, "N_TEST_NORMAL", ANOMALOUS)
        patch.setattr(demo, "N_TEST_ANOMALOUS", ANOMALOUS)
        write_demo_data(folder)
    return folder


@pytest.fixture
def plain(recorded, tmp_path):
    """The same training clips, a folder per machine."""
    for path in sorted((recorded / "slider" / "train").glob("*.wav")):
        machine, number = path.stem.split("_")[2], path.stem[-2:]
        (tmp_path / "recordings" / f"press{machine}").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "recordings" / f"press{machine}" / f"day{number}.wav")
    return tmp_path / "recordings"


def test_a_model_of_a_folder_per_machine_judges_new_clips(plain, recorded, pipeline, tmp_path):
    learned = pipeline("learn", plain, "--model", "press_hall")
    assert learned.code == 0
    assert "press00: 12 recordings, 2.0 minutes; at most 7.69 % false alarms" in learned.text

    bad = recorded / "slider" / "test" / "anomaly_id_00_00000002.wav"
    common = ("--model", "press_hall", "--machine", "press00")
    found = pipeline("check", bad, *common, "--explain", "--csv", "verdicts.csv")
    as_json = pipeline("check", bad, *common, "--explain", "--json")

    assert found.code == as_json.code == 4
    (row,) = [json.loads(line) for line in as_json.out.splitlines()]
    assert row["verdict"] == "anomalous"
    assert row["p_value"] == pytest.approx(1 / 13)
    assert "kHz" in row["reason"]
    with (tmp_path / "verdicts.csv").open(encoding="utf-8", newline="") as file:
        (written,) = csv.DictReader(file)
    assert written["verdict"] == "anomalous"
    assert written["reason"] == row["reason"]


def test_a_run_folder_is_a_model_that_scores_as_the_run_did(recorded, pipeline):
    ran = pipeline("--data", recorded)
    scores = ran.scores("anomaly_score_slider_id_00.csv")

    checked = pipeline(
        "check", recorded / "slider" / "test", "--model", ran.folder,
        "--machine", "slider_id_00", "--json",
    )  # fmt: skip

    found = {}
    for line in checked.out.splitlines():
        row = json.loads(line)
        found[row["key"].rpartition("/")[2]] = row["anomaly_score"]
    own = {name: score for name, score in found.items() if "id_00" in name}
    assert own == pytest.approx({name: scores[name] for name in own}, rel=1e-5)
    assert len(own) == 2 * ANOMALOUS


def test_windows_of_a_long_recording_are_learned_and_judged(plain, recorded, pipeline):
    clips = [soundfile.read(p)[0] for p in sorted((plain / "press00").glob("*.wav"))]
    for path in (plain / "press02", plain / "press04"):
        shutil.rmtree(path)
    bad = soundfile.read(recorded / "slider" / "test" / "anomaly_id_00_00000002.wav")[0]
    soundfile.write("shift.wav", np.concatenate([*clips[:4], bad, *clips[4:8]]), 16_000)

    pipeline("learn", plain, "--model", "hall", "--window", 10)
    found = pipeline("check", "shift.wav", "--model", "hall", "--window", 10, "--hop", 10, "--json")

    rows = [json.loads(line) for line in found.out.splitlines()]
    assert len(rows) == 9
    assert max(rows, key=lambda row: row["anomaly_score"])["start_s"] == 40


def test_new_thresholds_come_from_recordings_that_were_not_learned(recorded, pipeline):
    pipeline("learn", recorded, "--model", "hall")

    again = pipeline("learn", recorded, "--model", "hall", "--recalibrate")

    assert re.search("threshold from 3 new (clips|recordings), before from 12", again.text)
    assert again.code == 3  # the learned ones are left out
