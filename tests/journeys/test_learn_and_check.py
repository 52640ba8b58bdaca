"""From normal recordings to verdicts, by the commands learn and check."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from machine_halls import hall, hum, whistle, write

from embed.recordings import demo

ROOT = Path(__file__).resolve().parents[2]
FAST = ("--encoder", "logmel", "--pooling", "mean", "--detector", "mahalanobis")


def as_raw(samples: np.ndarray) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


@pytest.fixture
def press_hall(pipeline, tmp_path):
    hall(tmp_path / "recordings")
    assert pipeline("learn", "recordings", "--model", "press_hall", *FAST).code == 0
    return tmp_path / "press_hall"


def test_a_person_learns_and_checks(pipeline, tmp_path):
    hall(tmp_path / "recordings")
    write(tmp_path / "tomorrow" / "press7" / "good.wav", hum(500))
    write(tmp_path / "tomorrow" / "press8" / "bad.wav", whistle(501, 210.0))

    learned = pipeline("learn", "recordings", "--model", "press_hall")
    checked = pipeline("check", "tomorrow", "--model", "press_hall", "--explain")

    assert learned.code == 0
    assert "press7: 25 recordings, 0.4 minutes; at most 5 % false alarms" in learned.text
    assert checked.code == 4
    assert "2 judged: 1 anomalous" in checked.text
    assert "louder than usual" in checked.text
    assert "at most 0.1 would be called anomalous" in checked.text


def test_a_good_clip_ends_with_0_and_one_that_cannot_be_judged_with_3(pipeline, press_hall):
    write(Path("new/press7/good.wav"), hum(500))

    assert pipeline("check", "new", "--model", press_hall).code == 0
    Path("new/press7/bad.wav").write_bytes(b"no sound")
    assert pipeline("check", "new", "--model", press_hall).code == 3


def test_mistakes_are_one_line_each(pipeline, press_hall):
    write(Path("new.wav"), hum(500))

    ambiguous = pipeline("check", "new.wav", "--model", press_hall)
    unknown = pipeline("check", "new.wav", "--model", press_hall, "--machine", "pres7")
    no_model = pipeline("check", "new.wav", "--model", "nowhere")
    several = pipeline("learn", "recordings", "--detector", "knn,gmm")

    assert (ambiguous.code, unknown.code, no_model.code, several.code) == (1, 1, 1, 2)
    assert ambiguous.err.splitlines() == [
        "error: the model knows 2 machines; say which one with --machine: press7, press8"
    ]
    assert "did you mean 'press7'?" in unknown.err
    assert no_model.err.splitlines() == ["error: there is no model at 'nowhere'"]
    assert several.err.startswith("error: learn makes one model")


def test_a_run_is_a_model(pipeline, tmp_path):
    for i in range(12):
        write(tmp_path / f"data/fan/train/normal_id_00_{i:08}.wav", hum(i))
    for i in range(3):
        write(tmp_path / f"data/fan/test/anomaly_id_00_{i:08}.wav", whistle(i))
    ran = pipeline("--data", "data", *FAST)
    scores = ran.scores("anomaly_score_fan_id_00.csv")

    checked = pipeline("check", "data/fan/test", "--model", ran.folder, "--json", "-q")

    said = [json.loads(line) for line in checked.out.splitlines()]
    assert checked.code == 4
    for row in said:
        assert row["anomaly_score"] == pytest.approx(scores[Path(row["key"]).name], rel=1e-5)


def test_recordings_are_added_and_thresholds_renewed(pipeline, press_hall):
    hall(Path("more"), ("press7",), n=5, first=100)
    hall(Path("newer"), ("press7",), n=20, first=200)

    added = pipeline("learn", "more", "--model", press_hall, "--add")
    renewed = pipeline("learn", "newer", "--model", press_hall, "--recalibrate")

    assert (added.code, renewed.code) == (0, 0)
    assert "30 recordings, before 25" in added.text
    assert "threshold from 20 new clips, before from 30" in renewed.text
    assert len(list((press_hall / "history").iterdir())) == 2


def started(model: Path, *flags: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "run_pipeline.py"), "check", "-", "--model", str(model)]
    return subprocess.Popen(
        [*command, "--machine", "press7", *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )


def test_each_window_of_a_stream_is_judged_before_the_next_but_one_begins(press_hall):
    process = started(
        press_hall, "--raw", "16000:s16le:1", "--window", "1", "--hop", "0.5", "--json"
    )
    starts = []
    process.stdin.write(as_raw(hum(1)))
    process.stdin.flush()
    starts.append(json.loads(process.stdout.readline())["start_s"])
    for seed in (2, 3):
        process.stdin.write(as_raw(hum(seed, seconds=0.5)))
        process.stdin.flush()
        before = time.monotonic()
        starts.append(json.loads(process.stdout.readline())["start_s"])
        assert time.monotonic() - before < 5  # nothing more is written before it is read

    process.stdin.close()
    assert process.wait(60) in (0, 4)
    assert starts == [0.0, 0.5, 1.0]
    process.stdout.close()
    process.stderr.close()


def test_a_stream_that_ends_in_mid_frame_has_its_windows_and_one_error(press_hall):
    process = started(press_hall, "--raw", "16000:s16le:1", "--window", "1", "--hop", "1")

    out, err = process.communicate(as_raw(np.concatenate([hum(1), hum(2)])) + b"x", timeout=120)

    assert process.returncode == 3
    assert [line.split()[:2] for line in out.decode().splitlines()] == [
        ["00:00-00:01", "normal"],
        ["00:01-00:02", "normal"],
    ]
    assert err.decode().splitlines() == [
        "error: the stream ends in the middle of a frame: 1 of 2 bytes"
    ]


@pytest.mark.slow
def test_a_fault_of_the_demo_is_found_at_its_minute_of_half_an_hour(pipeline, tmp_path):
    rail = demo.RAILS[0]
    normal = [demo.record(rail, "", 0.0, (1, 0, 0, i)) for i in range(40)]
    for i, samples in enumerate(normal):
        write(tmp_path / "recordings" / "rail" / f"{i}.wav", samples, demo.SAMPLE_RATE)
    pieces = [normal[i % 40] for i in range(180)]
    pieces[103] = demo.record(rail, "loose belt", 1.0, (1, 0, 2, 0))
    soundfile.write("half_an_hour.wav", np.concatenate(pieces), demo.SAMPLE_RATE)
    pipeline("learn", "recordings", "--model", "rails")

    checked = pipeline(
        "check", "half_an_hour.wav", "--model", "rails", "--window", 10, "--hop", 10, "--json"
    )

    rows = [json.loads(line) for line in checked.out.splitlines()]
    worst = max(rows, key=lambda row: row["anomaly_score"])
    assert checked.code == 4
    assert (worst["start_s"], worst["verdict"]) == (1030.0, "anomalous")


@pytest.mark.slow
def test_the_real_fan_is_learned_in_the_plain_layout(pipeline, fan, tmp_path):
    for path in fan.rglob("*.wav"):
        place = "fans" if path.parent.name == "train" else "new"
        target = tmp_path / place / "fan1" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path.resolve())
    pipeline("learn", "fans", "--model", "fan")

    checked = pipeline("check", "new", "--model", "fan", "--json")

    flagged = {
        row["key"]
        for row in map(json.loads, checked.out.splitlines())
        if row["verdict"] == "anomalous"
    }
    n_false = sum("normal" in key for key in flagged)
    assert n_false <= 1
    assert len(flagged) - n_false >= 18


def test_nothing_is_written_where_a_model_is_only_read(pipeline, press_hall):
    before = {path: path.stat().st_mtime_ns for path in press_hall.rglob("*")}
    write(Path("new.wav"), hum(7))

    pipeline("check", "new.wav", "--model", press_hall, "--machine", "press7")

    assert {path: path.stat().st_mtime_ns for path in press_hall.rglob("*")} == before
