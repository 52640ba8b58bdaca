"""The whole job from Python: tables, scores and files that agree, and a run that repeats."""

import csv
import json
from pathlib import Path

import pytest

from pipeline.exits import UsageError
from pipeline.job import run
from pipeline.run_files import load_run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_files_and_values_of_a_run_agree_down_to_the_verdicts(data):
    job = run(detector="knn", false_alarms=0.2, quiet=True)

    (outcome,) = job.outcomes
    assert not job.failed
    assert load_run(job.folder) == outcome.results
    by_key = {clip["key"]: clip for clip in outcome.clips}
    ranked = rows(job.folder / "ranking.csv")
    assert len(ranked) == len(by_key) == 12
    for row in ranked:
        clip = by_key[row["key"]]
        assert float(row["anomaly_score"]) == clip["anomaly_score"]
        assert float(row["p_value"]) == pytest.approx(clip["p_value"], abs=1e-6)
        assert row["verdict"] == clip["verdict"]
    decided = {}
    for path in job.folder.glob("decision_result_*.csv"):
        with path.open(newline="") as file:
            decided |= {f"{path.stem}/{name}": flag for name, flag in csv.reader(file)}
    assert len(decided) == 12
    n_anomalous = sum(clip["verdict"] == "anomalous" for clip in outcome.clips)
    assert sum(map(int, decided.values())) == n_anomalous
    first, *_ = rows(job.folder / "results.csv")
    assert float(first["promised_false_alarms"]) <= 0.2
    assert {"threshold", "false_alarms", "recall", "precision", "f1", "f1_ev"} <= set(first)


@pytest.mark.parametrize(
    "flags", [{}, {"detector": "iforest", "encoder": "logmel", "set": "iforest.n_estimators=3"}]
)
def test_the_config_of_a_seed_gives_its_figures_again_intervals_included(data, flags):
    grid = run(**flags, seeds=2, quiet=True)

    for outcome in grid.outcomes:
        again = run(config=grid.folder / outcome.combination.name, out="again", quiet=True)
        assert again.outcomes[0].results == outcome.results
        assert again.outcomes[0].clips == outcome.clips
        assert outcome.results[0].auc_low is not None


def test_a_grid_has_a_row_for_auto_beside_the_others_and_refused_ones_have_a_reason(data):
    job = run(system="auto,twfr-gmm", quiet=True)
    assert [entry["system"] for entry in job.entries] == ["auto", "twfr-gmm"]
    assert job.entries[0]["encoder"] == "logmel+spectrum+wave"

    job = run(encoder="logmel,mfcc", pooling="fluctuation", quiet=True)
    assert [bool(entry.get("error")) for entry in job.entries] == [False, True]


def test_a_member_of_two_combinations_is_fitted_once(data, monkeypatch):
    from pipeline import judging

    attempts = []
    attempt = judging._attempt

    def counted(unit, way, tell=None):
        attempts.append((way.read.__self__.path, repr(way.choice), unit.name))
        return attempt(unit, way, tell)

    monkeypatch.setattr(judging, "_attempt", counted)

    run(system="auto", seeds=1, quiet=True)
    assert len(attempts) == len(set(attempts)) == 8

    job = run(encoder="wave", pooling="clip", detector="knn", sweep=["knn.k=1,1"], quiet=True)
    assert len(attempts) == len(set(attempts)) == 10
    assert len(job.entries) == 2


def test_a_short_clip_that_one_member_lacks_is_rated_by_the_others_and_marked(data):
    import numpy as np
    import soundfile

    clip = data / "valve/test/anomaly_id_00_00000000.wav"
    soundfile.write(clip, np.random.default_rng(0).normal(0, 0.05, 1_600), 16_000)

    job = run(quiet=True)

    (outcome,) = job.outcomes
    key = clip.relative_to(data).as_posix()
    assert [each for each, _ in job.left_out] == [key]
    (note,) = [each["note"] for each in outcome.clips if each["key"] == key]
    assert note == "not rated by spectrum/clip/mahalanobis"
    assert "1 clips are not rated by every member" in outcome.warning
    assert key in (job.folder / "report.html").read_text()


def test_an_unknown_flag_is_refused_with_the_nearest(data):
    with pytest.raises(UsageError, match="did you mean 'detector'"):
        run(detectr="knn")


def test_without_thresholds_there_are_scores_and_no_verdicts(data):
    job = run(encoder="logmel", detector="knn", false_alarms="none", quiet=True)

    assert {clip["verdict"] for clip in job.outcomes[0].clips} == {None}
    assert not list(job.folder.glob("decision_result_*"))
    assert "promised_false_alarms" not in rows(job.folder / "results.csv")[0]


def test_dcases_threshold_is_there_for_comparison(data):
    job = run(encoder="logmel", detector="knn", threshold="gamma", quiet=True)

    assert "gamma" in job.outcomes[0].results[0].note
    assert json.loads((job.folder / "results.json").read_text())["results"][0]["decided"]
