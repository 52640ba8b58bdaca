"""A model says of a clip what the run said, alone or in company, here or elsewhere."""

import shutil

import numpy as np
import pytest
import soundfile
from machine_halls import RATE, hall, hum, learned, whistle, write

from pipeline.checking import check, load_model
from pipeline.job import run

SYSTEMS = {
    "auto": {},
    "knn": {"encoder": "logmel", "detector": "knn"},
    "per type, prepared": {
        "encoder": "logmel",
        "detector": "gmm",
        "fit_per": "type",
        "normalize": "rms",
    },
    "a detector that needs IDs": {
        "encoder": "logmel",
        "detector": "id_mlp",
        "set": ["id_mlp.epochs=2"],
    },
    "frames": {
        "encoder": "logmel",
        "pooling": "frames",
        "detector": "official_ae",
        "set": ["official_ae.epochs=1"],
    },
    "frames and vectors": {
        "fuse": "logmel/frames/official_ae,logmel/mean/ocsvm",
        "set": ["official_ae.epochs=1"],
    },
}


@pytest.fixture(scope="module")
def dcase(tmp_path_factory):
    root = tmp_path_factory.mktemp("dcase")
    for number, machine in enumerate(("id_00", "id_02")):
        pitch = 120.0 + 90 * number
        for i in range(12):
            write(root / "fan/train" / f"normal_{machine}_{i:08}.wav", hum(i, pitch))
        for i in range(3):
            write(root / "fan/test" / f"normal_{machine}_{i:08}.wav", hum(50 + i, pitch))
            write(root / "fan/test" / f"anomaly_{machine}_{i:08}.wav", whistle(60 + i, pitch))
    return root


def contract(tmp_path, data, **flags):
    """Compare the run's scores and verdicts with those of its model, moved away."""
    job = run(data=data, quiet=True, out=tmp_path / "runs", cache_dir=tmp_path / "cache", **flags)
    (outcome,) = job.outcomes
    assert outcome.reason == ""
    moved = shutil.move(outcome.folder / "model", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "runs")
    shutil.rmtree(tmp_path / "cache")
    said = {clip["key"]: clip for clip in outcome.clips}
    checker = load_model(moved)
    together = {row.key: row for row in checker.check(data).rows}
    alone = [
        (key, checker.check(data / key, machine=f"fan {said[key]['machine_id']}").rows[0])
        for key in sorted(said, reverse=True)[:3]
    ]

    assert len(said) == 12
    for key, row in [*((key, together[key]) for key in said), *alone]:
        assert row.anomaly_score == pytest.approx(said[key]["anomaly_score"], rel=1e-5, abs=1e-8)
        assert row.verdict == said[key]["verdict"]


@pytest.mark.parametrize("flags", SYSTEMS.values(), ids=SYSTEMS)
def test_a_model_scores_a_clip_as_the_run_did(tmp_path, dcase, flags):
    contract(tmp_path, dcase, **flags)


@pytest.mark.slow
def test_a_model_with_a_network_scores_a_clip_as_the_run_did(tmp_path, dcase):
    contract(
        tmp_path, dcase, encoder="ast", detector="unet", weights="random", set=["unet.epochs=2"]
    )


def test_one_member_that_is_left_of_a_fusion_is_scored_as_in_the_run(tmp_path, dcase):
    job = run(
        data=dcase,
        fuse="logmel/mean/mahalanobis,logmel/mean/ocsvm",
        set=["ocsvm.nu=0.9"],
        quiet=True,
        out=tmp_path / "runs",
        cache_dir=tmp_path / "cache",
    )
    said = {clip["key"]: clip["anomaly_score"] for clip in job.outcomes[0].clips}

    rows = load_model(job.folder).check(dcase).rows

    for row in rows:
        if row.key in said:
            assert row.anomaly_score == pytest.approx(said[row.key], rel=1e-5)


def judged(model, path, **options):
    return check(path, model, **{"machine": "press7", **options})


def test_a_model_checks_by_its_method_and_by_the_function(press_hall, tmp_path):
    clip = write(tmp_path / "new.wav", whistle(1))

    by_method = load_model(press_hall).check(clip, machine="press7")

    assert by_method == check(clip, press_hall, machine="press7", device="cpu")
    assert by_method.rows[0].verdict == "anomalous"
    assert by_method.expected_false_alarms == pytest.approx(0.05)


def test_folders_name_their_machines_and_unknown_ones_are_rows(press_hall, tmp_path):
    write(tmp_path / "new" / "press8" / "a.wav", hum(1, 210.0))
    write(tmp_path / "new" / "lathe" / "b.wav", hum(2))

    rows = {row.key: row for row in check(tmp_path / "new", press_hall).rows}

    assert rows["press8/a.wav"].verdict == "normal"
    assert rows["lathe/b.wav"].verdict == "unknown"
    assert "does not know the machine 'lathe'" in rows["lathe/b.wav"].reason


def test_a_clip_that_cannot_be_read_is_a_row_with_its_reason(press_hall, tmp_path):
    write(tmp_path / "new" / "good.wav", hum(1))
    (tmp_path / "new" / "bad.wav").write_bytes(b"no sound")

    rows = {row.key: row for row in judged(press_hall, tmp_path / "new").rows}

    assert rows["good.wav"].verdict == "normal"
    assert rows["bad.wav"].verdict == "unknown"
    assert rows["bad.wav"].reason


def test_nan_samples_cost_their_clip(press_hall, tmp_path):
    bad = hum(1)
    bad[5] = np.nan
    soundfile.write(tmp_path / "nan.wav", bad, RATE, subtype="FLOAT")

    (row,) = judged(press_hall, tmp_path / "nan.wav").rows

    assert (row.verdict, row.anomaly_score) == ("unknown", None)
    assert "NaN" in row.reason


def test_another_sample_rate_and_length_are_remarked(press_hall, tmp_path):
    clip = write(tmp_path / "new.wav", hum(1, seconds=4, rate=8000), 8000)

    (row,) = judged(press_hall, clip).rows

    assert any("recorded at 8000 Hz, the normal clips at 16000 Hz" in r for r in row.remarks)
    assert any("4 s long, the normal clips 1 s" in r for r in row.remarks)


def test_silence_is_remarked(press_hall, tmp_path):
    clip = write(tmp_path / "silent.wav", np.zeros(RATE, np.float32))

    assert any("silent" in r for r in judged(press_hall, clip).rows[0].remarks)


def test_a_clip_that_was_learned_is_remarked(press_hall, shared_hall, tmp_path):
    learned_clip = shared_hall[0] / "press7" / "000.wav"

    (row,) = judged(press_hall, learned_clip).rows
    (new,) = judged(press_hall, write(tmp_path / "new.wav", hum(900))).rows

    assert any("it was learned" in remark for remark in row.remarks)
    assert not any("it was learned" in remark for remark in new.remarks)


def test_a_clip_of_another_machine_is_remarked(press_hall, tmp_path):
    clip = write(tmp_path / "new.wav", hum(3, 210.0))

    (row,) = judged(press_hall, clip).rows

    assert row.verdict == "anomalous"
    assert "it sounds like press8: is it of another machine?" in row.remarks


def test_the_reason_names_the_band_of_the_fault(press_hall, tmp_path):
    clip = write(tmp_path / "new.wav", whistle(1))

    (row,) = judged(press_hall, clip, explain=True).rows

    assert row.reason.startswith("louder than usual by")
    assert "kHz" in row.reason
    assert "the nearest normal clip is press7/" in row.reason


def test_a_window_longer_than_the_clip_is_a_row_with_its_reason(press_hall, tmp_path):
    clip = write(tmp_path / "new.wav", hum(1))

    (row,) = judged(press_hall, clip, window=5.0).rows

    assert row.verdict == "unknown"
    assert "a window is 5.000 s; choose a shorter window" in row.reason


def test_a_long_recording_is_flagged_at_the_right_second(press_hall, tmp_path):
    pieces = [hum(100 + i) for i in range(300)]
    pieces[217] = whistle(5)
    clip = write(tmp_path / "five_minutes.wav", np.concatenate(pieces))

    rows = judged(press_hall, clip, window=1.0, hop=1.0).rows

    worst = max(rows, key=lambda row: row.anomaly_score)
    assert len(rows) == 300
    assert (worst.start_s, worst.end_s, worst.verdict) == (217.0, 218.0, "anomalous")
    assert sum(row.verdict == "anomalous" for row in rows) < 0.15 * len(rows)


def test_a_model_of_windows_cuts_what_it_checks(tmp_path):
    for i in range(4):
        write(tmp_path / "hall" / "press7" / f"{i}.wav", hum(i, seconds=10))
    model = learned(tmp_path, tmp_path / "hall", window=1.0, hop=1.0, normalize="rms")
    clip = write(tmp_path / "new.wav", hum(9, seconds=5))

    assert [row.start_s for row in judged(model, clip).rows] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_window_of_a_model_that_levels_is_scored_as_a_clip_of_its_own(tmp_path):
    recordings = hall(tmp_path / "hall", ("press7",), n=12)
    model = learned(tmp_path, recordings, normalize="rms", denoise=True)
    long = write(tmp_path / "long.wav", np.concatenate([hum(50), hum(51)]))
    alone = write(tmp_path / "alone.wav", hum(51))

    second = judged(model, long, window=1.0, hop=1.0).rows[1]

    (whole,) = judged(model, alone).rows
    assert second.anomaly_score == pytest.approx(whole.anomaly_score, rel=1e-5)


def test_clips_of_several_lengths_are_judged_together_as_alone(press_hall, tmp_path):
    for i in range(6):
        write(tmp_path / "new" / f"{i}.wav", hum(i, seconds=1 + 0.1 * i))

    together = {row.key: row.anomaly_score for row in judged(press_hall, tmp_path / "new").rows}

    for key, score in together.items():
        (alone,) = judged(press_hall, tmp_path / "new" / key).rows
        assert alone.anomaly_score == pytest.approx(score, rel=1e-5)


def test_an_ordinary_learned_model_has_no_more_false_alarms_than_promised(tmp_path):
    model = learned(tmp_path, hall(tmp_path / "hall", ("press7",), n=60))
    new = hall(tmp_path / "new", ("press7",), n=60, first=500)

    checks = check(new, model)

    assert len(checks.of("anomalous")) <= 2 * checks.expected_false_alarms
