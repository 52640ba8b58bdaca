"""An evaluation set of DCASE 2026 is judged without labels, and rated once they are published."""

import json

import numpy as np
import pytest
import soundfile

from pipeline.checking import check
from pipeline.exits import UsageError
from pipeline.job import run

RATE = 16_000
ANOMALOUS = {1, 4, 5, 7}
TARGET = {2, 3, 4, 7}
FUSED = "logmel/mean/mahalanobis,logmel/mean/knn"
FAST = {"encoder": "logmel", "pooling": "mean", "detector": "mahalanobis", "quiet": True}


def write(path, seed, level=0.05, n_channels=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = np.random.default_rng(seed).normal(0, level, (RATE // 2, n_channels))
    soundfile.write(path, sound, RATE)


@pytest.fixture(scope="module")
def sander(tmp_path_factory):
    """Write stereo clips of one machine, and the ground truth beside the data."""
    root = tmp_path_factory.mktemp("dcase2026")
    folder = root / "data" / "Sander"
    for i in range(12):
        domain = "target" if i < 3 else "source"
        write(folder / "train" / f"section_00_{domain}_train_normal_{i:04}_noAttribute.wav", i)
    write(folder / "supplemental" / "section_00_source_supplemental_machine_0000.wav", 50)
    write(folder / "supplemental" / "section_00_noise_supplemental_normal_0000.wav", 51)
    for i in range(8):
        write(folder / "test" / f"section_00_{i:04}.wav", 20 + i, 0.08 if i in ANOMALOUS else 0.05)
    for kind, chosen in (("data", ANOMALOUS), ("domain", TARGET)):
        truth = root / f"ground_truth_{kind}" / "ground_truth_Sander_section_00_test.csv"
        truth.parent.mkdir()
        lines = [f"section_00_{i:04}.wav,{int(i in chosen)}\n" for i in range(8)]
        truth.write_text("".join(lines))
    return root


def judged(sander, tmp_path, **flags):
    options = {**FAST, "out": tmp_path / "runs", "cache_dir": sander / "cache", **flags}
    return run(data=sander / "data", **options)


def test_labels_rate_an_evaluation_set_and_change_no_score(sander, tmp_path):
    blind = judged(sander, tmp_path)
    rated = judged(sander, tmp_path, labels=sander)

    (before,), (after,) = blind.outcomes, rated.outcomes
    assert blind.year == rated.year == 2026
    assert before.results[0].auc is None
    assert before.results[0].n_unlabelled == 8
    machine = after.results[0]
    assert (machine.n_normal, machine.n_anomalous, machine.n_train) == (4, 4, 12)
    assert machine.auc == machine.auc_source == machine.auc_target == machine.pauc == 1.0
    assert machine.decided_source.recall is not None
    assert machine.decided_target.recall is not None
    stored = json.loads((after.folder / "results.json").read_text())
    assert (stored["year"], stored["official_score"]) == (2026, 1.0)
    scores = "anomaly_score_Sander_section_00_test.csv"
    assert (before.folder / scores).read_text() == (after.folder / scores).read_text()


@pytest.mark.parametrize(
    "parts",
    [{}, {"encoder": "", "pooling": "", "detector": "", "fuse": FUSED}],
    ids=["one detector", "fused"],
)
def test_thresholds_of_domains_are_the_same_in_the_run_and_in_its_model(parts, sander, tmp_path):
    flags = {name: value for name, value in {**FAST, **parts}.items() if value}
    job = run(
        data=sander / "data",
        labels=sander,
        threshold="domains",
        out=tmp_path / "runs",
        cache_dir=sander / "cache",
        **flags,
    )
    (outcome,) = job.outcomes
    (machine,) = outcome.decided

    checks = check(sander / "data" / "Sander" / "test", model=outcome.folder, machine="Sander")

    decisions = machine.decisions
    assert decisions.threshold.rule == "domains"
    assert decisions.threshold.false_alarm_rate == pytest.approx(1 / 4)  # of 3 target clips
    assert outcome.results[0].decided_target.promised_false_alarms == pytest.approx(1 / 4)
    assert [row.verdict for row in checks.rows] == list(decisions.verdicts)
    p_values = [row.p_value for row in checks.rows]
    np.testing.assert_allclose(p_values, decisions.p_values, rtol=1e-5)


def test_supplemental_clips_of_the_machine_train_it_when_asked(sander, tmp_path, capsys):
    job = judged(sander, tmp_path, supplemental="use", quiet=False)

    assert job.outcomes[0].results[0].n_train == 13
    assert "1 supplemental clip(s) of a machine alone train it too" in capsys.readouterr().err


def test_one_mono_clip_among_stereo_ones_is_left_out_and_named(sander, tmp_path):
    mono = sander / "data" / "Sander" / "test" / "section_00_0099.wav"
    write(mono, 99, n_channels=1)
    try:
        job = judged(sander, tmp_path, channel="w1")
    finally:
        mono.unlink()

    ((key, reason),) = job.left_out
    assert key == "Sander/test/section_00_0099.wav"
    assert reason.startswith("is mono, and --channel w1 needs a near and a far microphone")
    assert job.outcomes[0].results[0].n_train == 12


def test_labels_that_are_not_there_are_a_usage_error(sander, tmp_path):
    with pytest.raises(UsageError, match="there are no labels at"):
        judged(sander, tmp_path, labels=tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no supplemental clip of a machine alone"):
        run(data=sander / "data" / "Sander" / "train", supplemental="use", **FAST)
