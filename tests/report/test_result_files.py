"""Files of results hold what a spreadsheet and a program want."""

import csv
import json

import numpy as np
import pytest
from scored_machines import HOSTILE, both, one_clip, scored

from detect.results import Decided, Result, results
from report.csv_files import read_csv
from report.result_files import results_csv, write_ranking, write_results

SUMMARIES = ["mean", "hmean", "pooled"]


def test_results_csv_has_the_promised_columns_and_six_decimals(rng):
    table, scores = scored(rng)
    rows = results(table, scores)

    lines = list(csv.reader(results_csv(rows).splitlines()))

    assert ",".join(lines[0]) == (
        "machine_type,machine_id,n_train,n_normal,n_anomalous,auc,auc_low,auc_high,"
        "pauc,pauc_low,pauc_high,note"
    )
    assert [line[1] for line in lines[1:]] == ["id_00", "id_02", *SUMMARIES]
    assert lines[1][:5] == ["slider", "id_00", "1", "15", "15"]
    assert all(len(cell.split(".")[1]) == 6 for line in lines[1:] for cell in line[5:11])
    assert float(lines[1][5]) == pytest.approx(rows[0].auc, abs=5e-7)


def test_domains_append_columns(rng):
    table, scores = scored(rng, ids=("section_00",), domains=("source", "target"))

    text = results_csv(results(table, scores, year=2022))

    assert "pauc_high,auc_source,auc_target" in text.splitlines()[0]


def test_cells_without_a_figure_are_empty():
    text = results_csv([Result("fan", "id_00", 3, 0, 0, note="no labels")])

    assert text.splitlines()[1] == "fan,id_00,3,0,0,,,,,,,no labels"


def test_results_json_holds_the_notes_too(rng, tmp_path):
    table, scores = scored(rng)
    write_results(tmp_path, results(table, scores), more={"detector": "knn"})

    content = json.loads((tmp_path / "results.json").read_text())

    assert content["detector"] == "knn"
    assert content["results"][-1]["note"] == "scores of separate models are pooled"
    assert 0 < content["official_score"] < 1


def test_further_columns_of_a_result_follow_where_a_row_fills_them():
    rows = [
        Result("fan", "id_00", 3, 2, 2, 0.5, note="=cmd|' /C calc'!A0"),
        Result("fan", "id_02", 3, 2, 2, 0.5, n_unlabelled=4),
    ]

    heading, first, second = results_csv(rows).splitlines()

    assert heading.endswith("pauc_high,n_unlabelled,note")
    assert first.endswith(",,'=cmd|' /C calc'!A0")
    assert second.endswith(",4,")


def test_names_and_notes_of_results_are_read_back(tmp_path):
    rows = [Result(name, name, 3, 0, 0, note=name) for name in HOSTILE]

    write_results(tmp_path, rows)

    read = read_csv(tmp_path / "results.csv")
    for column in ("machine_type", "machine_id", "note"):
        assert [row[column] for row in read] == HOSTILE


def test_the_ranking_lists_each_machine_with_the_most_anomalous_clip_first(rng, tmp_path):
    table, scores = scored(rng)

    rows = read_csv(write_ranking(tmp_path, table, scores))

    assert [row["rank"] for row in rows] == [str(i) for i in range(1, 31)] * 2
    for fitted, listed in zip(scores, (rows[:30], rows[30:]), strict=True):
        assert [float(row["anomaly_score"]) for row in listed] == sorted(
            fitted.scores.tolist(), reverse=True
        )
    assert "p_value" not in rows[0]


def test_the_ranking_has_p_values_and_verdicts_where_they_are_known(rng, tmp_path):
    table, scores = scored(rng)
    key = scores[0].unit.test_keys[7]
    judged = {("slider", "id_00"): {key: (0.0123, "anomalous")}}

    rows = read_csv(write_ranking(tmp_path, table, scores, judged))

    found = [row for row in rows if row["verdict"]]
    assert [(row["key"], row["p_value"]) for row in found] == [(key, "0.012300")]


def test_one_clip_of_two_machines_is_ranked_for_both(tmp_path):
    parts = [one_clip(("fan", machine_id), "a.wav", 1.5) for machine_id in ("1", "2")]
    judged = {("fan", "1"): {"a.wav": (0.5, "normal")}, ("fan", "2"): {"a.wav": (0.1, "anomalous")}}

    path = write_ranking(tmp_path, both([t for t, _ in parts]), [s for _, s in parts], judged)

    assert [row["verdict"] for row in read_csv(path)] == ["normal", "anomalous"]


def test_hostile_names_of_a_ranking_are_read_back(tmp_path):
    parts = [one_clip((name, name), f"{i}{name}", -1.5) for i, name in enumerate(HOSTILE)]

    path = write_ranking(tmp_path, both([t for t, _ in parts]), [s for _, s in parts])

    rows = read_csv(path)
    assert {row["machine_type"] for row in rows} == set(HOSTILE)
    assert {row["key"] for row in rows} == {f"{i}{name}" for i, name in enumerate(HOSTILE)}
    assert {row["anomaly_score"] for row in rows} == {"-1.5"}


def test_clips_without_a_score_end_the_ranking(rng, tmp_path):
    table, (fitted, _) = scored(rng)
    fitted.scores[3] = np.nan

    rows = read_csv(write_ranking(tmp_path, table, [fitted]))

    assert (rows[-1]["key"], rows[-1]["anomaly_score"]) == (fitted.unit.test_keys[3], "")
    assert all(row["anomaly_score"] for row in rows[:-1])


def test_what_thresholds_decided_follows_with_a_column_per_figure(tmp_path):
    decided = Decided(
        0.05, 12, 0, threshold=1.5, n_calibration=100, false_alarms=0.0625, recall=0.71, note="few"
    )
    rows = [
        Result("fan", "id_00", 3, 80, 5, note="few", decided=decided, decided_target=decided),
        Result("fan", "id_02", 3, 80, 5),
    ]

    write_results(tmp_path, rows)

    first, second = read_csv(tmp_path / "results.csv")
    assert first["promised_false_alarms"] == first["promised_false_alarms_target"] == "0.050000"
    assert (first["n_decided_anomalous"], first["n_decided_suspicious"]) == ("12", "0")
    assert (first["false_alarms"], first["recall"]) == ("0.062500", "0.710000")
    assert first["note"] == "few"
    assert second["recall"] == ""
    assert not {"precision", "decided", "note_target"} & first.keys()
    read = json.loads((tmp_path / "results.json").read_text())["results"]
    assert [Result(**row) for row in read] == rows
