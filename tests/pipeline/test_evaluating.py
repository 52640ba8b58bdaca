"""Scores that are there are evaluated again: of runs, grids and score files, without recordings."""

from __future__ import annotations

import json
import shutil

import pytest

from pipeline.evaluating import evaluate
from pipeline.printing import print_evaluation
from pipeline.run_files import load_run


def test_a_run_is_evaluated_to_its_own_results(finished):
    evaluation = evaluate(finished.single)

    (run,) = evaluation.runs
    assert not evaluation.is_grid
    assert list(run.rows) == load_run(finished.single)


def test_a_grid_is_evaluated_to_its_leaderboard(finished, capsys):
    evaluation = evaluate(finished.grid)
    print_evaluation(evaluation, "grid", as_json=False)
    print_evaluation(evaluation, "grid", as_json=True)

    table, _, facts = capsys.readouterr().out.partition("{")
    assert "iforest" in table
    assert [run["detector"] for run in json.loads("{" + facts)["runs"]] == [
        "iforest",
        "iforest",
        "knn",
    ]
    for run in evaluation.runs:
        assert list(run.rows) == load_run(run.folder)


def test_labels_that_come_later_are_used(finished, tmp_path):
    labels = tmp_path / "labels.csv"
    keys = [f"{kind}_id_00_{i:08d}.wav" for kind in ("normal", "anomaly") for i in range(3)]
    lines = [f"{key},valve,id_00,test,{'normal' if 'anom' in key else 'anomaly'}" for key in keys]
    labels.write_text("\n".join(["path,machine_type,machine_id,split,label", *lines]))
    before = load_run(finished.single)[0].auc

    (run,) = evaluate(finished.single, labels).runs

    assert run.rows[0].auc == pytest.approx(1 - before)
    assert run.rows[1].auc is None


def test_score_files_of_any_names_take_their_labels_from_a_manifest(tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    scores = {"k1.wav": 0.1, "k2.wav": 0.9, "k3.wav": 0.3}
    text = "".join(f"{name},{score}\n" for name, score in scores.items())
    (folder / "anomaly_score_fan_id_00.csv").write_text(text)
    (folder / "decision_result_fan_id_00.csv").write_text("k1.wav,0\nk2.wav,1\n")
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "path,machine_type,machine_id,split,label\n"
        "x/k1.wav,fan,id_00,test,normal\nx/k2.wav,fan,id_00,test,anomaly\n"
    )

    (run,) = evaluate(folder, labels).runs

    row = run.rows[0]
    assert (row.n_normal, row.n_anomalous, row.n_unlabelled, row.auc) == (1, 1, 1, 1.0)
    assert row.decided.recall == 1.0
    labels.write_text("path,machine_type,machine_id,split,label\nx/a.wav,fan,id_00,test,normal\n")
    with pytest.raises(ValueError, match=r"names none of the test clips; first 'k1.wav'"):
        evaluate(folder, labels)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a.wav,nan\n", "line 1: expected a finite number as the score, got 'nan'"),
        ("a.wav,1\na.wav,2\n", "line 2: 'a.wav' is listed twice"),
    ],
)
def test_a_score_file_with_nan_or_a_clip_twice_is_refused(tmp_path, lines, message):
    (tmp_path / "anomaly_score_fan_id_00.csv").write_text(lines)

    with pytest.raises(ValueError, match=message):
        evaluate(tmp_path)


def test_a_grid_with_a_part_that_is_half_written_is_evaluated_without_it(finished):
    part = next(finished.grid.glob("*knn*"))
    shutil.rmtree(part / "model")
    (part / "results.json").write_text("{")

    evaluation = evaluate(finished.grid)

    assert len(evaluation.runs) == 2
    assert "results.json" in evaluation.entries[-1]["error"]


def test_a_combination_that_was_refused_is_listed_with_its_reason(finished):
    board = finished.grid / "leaderboard.csv"
    heading, *rows = board.read_text().splitlines()
    refused = {"encoder": "wave", "detector": "lstm_ae", "error": "takes sequences"}
    cells = [refused.get(name, "") for name in [*heading.split(","), "error"]]
    lines = [f"{heading},error", *(f"{row}," for row in rows), ",".join(cells)]
    board.write_text("\n".join(lines) + "\n")

    evaluation = evaluate(finished.grid)

    assert evaluation.unfinished == [("wave lstm_ae", "takes sequences")]
    assert evaluation.entries[-1]["detector"] == "lstm_ae"
    assert evaluation.entries[-1]["error"] == "takes sequences"
