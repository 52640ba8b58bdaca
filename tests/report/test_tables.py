"""Files hold what DCASE and a spreadsheet want; tables can be read at a glance."""

import csv
import json
from io import StringIO

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import roc_auc_score

from detect.fitting import ClipTable, FitUnit, Scores
from detect.results import Result, official_score, results
from report import tables as report
from report.score_files import evaluate_score_files

SUMMARIES = ["mean", "hmean", "pooled"]


def scored(rng, machine_type="slider", ids=("id_00", "id_02"), n=30, domains=()):
    clips, found = [], []
    for machine_id in ids:
        keys = []
        for j in range(n):
            label = ("normal", "anomaly")[j % 2]
            domain = domains[j // 2 % 2] if domains else ""
            prefix = (
                f"{label}_{machine_id}" if not domains else (f"{machine_id}_{domain}_test_{label}")
            )
            keys.append(f"{machine_type}/test/{prefix}_{j:08d}.wav")
            clips.append(
                (
                    keys[-1],
                    machine_type,
                    machine_id,
                    "test",
                    "anomalous" if j % 2 else "normal",
                    domain,
                )
            )
        unit = FitUnit(
            machine_type, machine_id, ("t",), (machine_id,), tuple(keys), (machine_id,) * n
        )
        found.append(Scores(unit, rng.normal(size=n) + np.arange(n) % 2, None, 0.0))
    return ClipTable(*(tuple(column) for column in zip(*clips, strict=True))), found


def printed(table, width=80):
    console = Console(width=width, record=True, file=StringIO())
    console.print(table)
    return console.export_text()


def test_results_csv_has_the_promised_columns_and_six_decimals(rng):
    table, scores = scored(rng)
    rows = results(table, scores)

    lines = list(csv.reader(report.results_csv(rows).splitlines()))

    assert ",".join(lines[0]) == (
        "machine_type,machine_id,n_train,n_normal,n_anomalous,auc,auc_low,auc_high,"
        "pauc,pauc_low,pauc_high"
    )
    assert [line[1] for line in lines[1:]] == ["id_00", "id_02", *SUMMARIES]
    assert lines[1][:5] == ["slider", "id_00", "1", "15", "15"]
    assert all(len(cell.split(".")[1]) == 6 for line in lines[1:] for cell in line[5:])
    assert float(lines[1][5]) == pytest.approx(rows[0].auc, abs=5e-7)


def test_domains_append_two_columns(rng):
    table, scores = scored(rng, ids=("section_00",), domains=("source", "target"))

    text = report.results_csv(results(table, scores, year=2022))

    assert text.splitlines()[0].endswith("pauc_high,auc_source,auc_target")


def test_cells_without_a_figure_are_empty():
    text = report.results_csv([Result("fan", "id_00", 3, 0, 0, note="no labels")])

    assert text.splitlines()[1] == "fan,id_00,3,0,0,,,,,,"


def test_results_json_holds_the_notes_too(rng, tmp_path):
    table, scores = scored(rng)
    report.write_results(tmp_path, results(table, scores), more={"detector": "knn"})

    content = json.loads((tmp_path / "results.json").read_text())

    assert content["detector"] == "knn"
    assert content["results"][-1]["note"] == "scores of separate models are pooled"
    assert 0 < content["official_score"] < 1


def test_score_files_of_2020_are_named_and_filled_as_dcase_wants(rng, tmp_path):
    table, scores = scored(rng)

    paths = report.write_scores(tmp_path, table, scores)

    assert [path.name for path in paths] == [
        "anomaly_score_slider_id_00.csv", "anomaly_score_slider_id_02.csv",
    ]  # fmt: skip
    first = paths[0].read_text().splitlines()
    assert len(first) == 30
    name, value = first[0].split(",")
    assert name == "normal_id_00_00000000.wav"
    assert float(value) == scores[0].scores[0]


def test_score_files_of_2021_are_per_domain_and_of_2022_per_section(rng, tmp_path):
    table, scores = scored(rng, "fan", ("section_00",), domains=("source", "target"))

    in_2021 = report.write_scores(tmp_path / "2021", table, scores, 2021)
    in_2022 = report.write_scores(tmp_path / "2022", table, scores, 2022)

    assert [path.name for path in in_2021] == [
        "anomaly_score_fan_section_00_source_test.csv",
        "anomaly_score_fan_section_00_target_test.csv",
    ]
    assert [path.name for path in in_2022] == ["anomaly_score_fan_section_00_test.csv"]
    assert len(in_2021[0].read_text().splitlines()) + len(
        in_2021[1].read_text().splitlines()
    ) == len(in_2022[0].read_text().splitlines())


def test_a_failed_write_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "results.csv"
    report.write_whole(path, "before")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        report.write_whole(path, "after")

    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_the_table_fits_eighty_columns_and_shows_intervals_and_reasons(rng):
    table, scores = scored(rng)
    rows = [*results(table, scores), Result("slider", "id_04", 9, 0, 0, note="no labels")]

    text = printed(report.results_table(rows))

    for machine_id in ("id_00", "id_02", *SUMMARIES):
        assert f"slider {machine_id}" in text
    row = rows[0]
    assert f"{row.auc:.3f}" in text
    assert f"{row.auc_low:.2f}-{row.auc_high:.2f}" in text
    assert "slider pooled: scores of separate models are pooled" in text
    assert "slider id_04: no labels" in text
    assert "…" not in text


def test_the_table_of_a_data_set_with_domains_gives_the_official_score(rng):
    table, scores = scored(rng, "fan", ("section_00",), domains=("source", "target"))

    text = printed(report.results_table(results(table, scores, year=2023), year=2023), 100)

    assert "official score of DCASE 2023 (harmonic mean): 0." in text
    assert "source" in text


def test_the_leaderboard_is_sorted_and_failures_come_last_with_their_reason(rng):
    entries = []
    for name, shift in (("weak", 0.0), ("strong", 3.0)):
        table, scores = scored(rng)
        moved = [
            Scores(one.unit, one.scores + shift * (np.arange(30) % 2), None, 0.0) for one in scores
        ]
        rows = results(table, moved)
        entries.append(report.leaderboard_entry(rows, encoder="logmel", detector=name))
    entries.insert(0, {"encoder": "logmel", "detector": "broken", "error": "loss is nan"})

    lines = printed(report.leaderboard_table(entries)).splitlines()
    order = [next(w for w in ("strong", "weak", "broken") if w in line) for line in lines[1:]]

    assert order == ["strong", "weak", "broken"]
    assert "loss is nan" in lines[3]
    columns = report.leaderboard_csv(entries).splitlines()[0].split(",")
    assert {"encoder", "detector", "error", "auc_mean", "auc_hmean", "auc_pooled"} <= set(columns)


def test_anyones_official_score_files_are_evaluated_as_scikit_learn_does(rng, tmp_path):
    expected = {}
    for machine_id in ("id_01", "id_03"):
        truth = np.arange(50) < 20
        values = np.round(rng.normal(size=50) + truth, 1)  # with ties
        names = [
            f"{'anomaly' if t else 'normal'}_{machine_id}_{i:08d}.wav" for i, t in enumerate(truth)
        ]
        (tmp_path / f"anomaly_score_ToyCar_{machine_id}.csv").write_text(
            "".join(f"{n},{v}\n" for n, v in zip(names, values, strict=True))
        )
        expected[machine_id] = (
            roc_auc_score(truth, values), roc_auc_score(truth, values, max_fpr=0.1),
        )  # fmt: skip

    found, year = evaluate_score_files(tmp_path)
    rows = {row.machine_id: row for row in found}
    assert year == 2020

    for machine_id, (auc, pauc) in expected.items():
        assert abs(rows[machine_id].auc - auc) < 1e-12
        assert abs(rows[machine_id].pauc - pauc) < 1e-12
        assert rows[machine_id].machine_type == "ToyCar"
    means = np.mean(list(expected.values()), axis=0)
    assert abs(rows["mean"].auc - means[0]) < 1e-12
    assert abs(rows["mean"].pauc - means[1]) < 1e-12


def test_score_files_we_write_are_read_back_to_the_same_figures(rng, tmp_path):
    table, scores = scored(rng)
    report.write_scores(tmp_path, table, scores)

    again, _ = evaluate_score_files(tmp_path)

    assert [r.auc for r in again] == [r.auc for r in results(table, scores)]


@pytest.mark.parametrize(
    ("ids", "year"),
    [
        (("section_00", "section_01"), 2021),
        (("section_00", "section_01"), 2022),
        (("section_00",), 2023),
    ],
)
def test_score_files_with_domains_are_compared_by_the_rules_of_their_year(ids, year, rng, tmp_path):
    table, scores = scored(rng, ids=ids, n=40, domains=("source", "target"))
    report.write_scores(tmp_path, table, scores, year)
    expected = results(table, scores, year=year)

    again, told = evaluate_score_files(tmp_path)

    assert told == year
    for column in ("auc", "pauc", "auc_source", "auc_target", "pauc_source", "pauc_target"):
        assert [getattr(r, column) for r in again] == [getattr(r, column) for r in expected]
    assert official_score(again, told) == official_score(expected, year)
    assert again[0].auc_source is not None
    assert (again[0].pauc_target is None) == (year > 2021)


def test_a_domain_may_end_the_name_of_a_score_file(tmp_path):
    for domain in ("source", "target"):
        clips = (
            f"section_00_{domain}_test_{label}_0000.wav,1\n" for label in ("normal", "anomaly")
        )
        path = tmp_path / f"anomaly_score_fan_section_00_{domain}.csv"
        path.write_text("".join(clips))

    assert evaluate_score_files(tmp_path)[1] == 2021


def test_score_files_without_labels_are_accepted(tmp_path):
    (tmp_path / "anomaly_score_fan_id_01.csv").write_text("id_01_00000000.wav,1.5\n")

    rows, _ = evaluate_score_files(tmp_path)

    assert (rows[0].n_unlabelled, rows[0].auc, rows[0].note) == (1, None, "no labels")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.wav\n", "line 1: expected 'file name,score', got 'a.wav'"),
        ("a.wav,1\nb.wav,high\n", "line 2: expected 'file name,score', got 'b.wav,high'"),
        ("a.wav,1\na.wav,2\n", "lists 'a.wav' twice"),
    ],
)
def test_a_broken_score_file_is_named_with_its_line(content, message, tmp_path):
    (tmp_path / "anomaly_score_fan_id_01.csv").write_text(content)

    with pytest.raises(ValueError, match=message):
        evaluate_score_files(tmp_path)


def test_a_folder_without_score_files_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no anomaly_score_<machine_type>_<machine_id>"):
        evaluate_score_files(tmp_path)


def test_seeds_are_merged_to_mean_and_spread():
    entries = [
        {"encoder": "logmel", "detector": "mlp", "seed": str(seed), "auc_mean": auc}
        for seed, auc in enumerate([0.8, 0.9, 1.0])
    ]

    (merged,) = report.over_seeds(entries)

    assert merged["seeds"] == "3"
    assert merged["auc_mean"] == pytest.approx(0.9)
    assert merged["auc_spread"] == pytest.approx(0.1)
    assert "seed" not in merged
    assert [c.header for c in report.leaderboard_table([merged]).columns][:4] == [
        "encoder",
        "detector",
        "seeds",
        "AUC mean",
    ]


def test_a_failed_seed_keeps_its_reason():
    entries = [
        {"encoder": "logmel", "seed": "0", "auc_mean": 0.8},
        {"encoder": "logmel", "seed": "1", "auc_mean": None, "error": "diverged"},
    ]

    (merged,) = report.over_seeds(entries)

    assert merged["error"] == "diverged"
    assert (merged["auc_mean"], merged["seeds"]) == (0.8, "1")
