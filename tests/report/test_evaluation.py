"""Anyone's score files give the figures that scikit-learn and DCASE's rules give."""

import numpy as np
import pytest
from scored_machines import scored
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from detect.results import official_score, results
from report.evaluation import evaluate_score_files
from report.score_files import write_decisions, write_scores


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
    write_scores(tmp_path, table, scores)

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
    write_scores(tmp_path, table, scores, year)
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
        ("a.wav,1\nb.wav,high\n", "line 2: expected a finite number as the score, got 'high'"),
        ("a.wav,nan\n", "line 1: expected a finite number as the score, got 'nan'"),
        ("a.wav,1\na.wav,2\n", "line 2: 'a.wav' is listed twice"),
    ],
)
def test_a_broken_score_file_is_named_with_its_line(content, message, tmp_path):
    (tmp_path / "anomaly_score_fan_id_01.csv").write_text(content)

    with pytest.raises(ValueError, match=message):
        evaluate_score_files(tmp_path)


def test_a_folder_without_score_files_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no anomaly_score_<machine_type>_<machine_id>"):
        evaluate_score_files(tmp_path)


def test_our_own_names_of_machines_come_back(rng, tmp_path):
    parts = [scored(rng, "my/fan_1", ("hall A#1", "id_02"))]
    for table, scores in parts:
        write_scores(tmp_path, table, scores)

    rows, _ = evaluate_score_files(tmp_path)

    machines = [(row.machine_type, row.machine_id) for row in rows if not row.is_summary]
    assert machines == [("my/fan_1", "hall A#1"), ("my/fan_1", "id_02")]


@pytest.mark.parametrize("year", [2020, 2021, 2022])
def test_decision_files_give_the_rates_of_scikit_learn(year, rng, tmp_path):
    domains = ("source", "target") if year > 2020 else ()
    table, scores = scored(rng, ids=("section_00", "section_01"), n=40, domains=domains)
    decided = {
        ("slider", fitted.unit.machine_id): [
            (key, bool(score > 0.5))
            for key, score in zip(fitted.unit.test_keys, fitted.scores, strict=True)
        ]
        for fitted in scores
    }
    write_scores(tmp_path, table, scores, year)
    write_decisions(tmp_path, table, decided, year)

    rows = {row.machine_id: row.decided for row in evaluate_score_files(tmp_path)[0]}

    clips = {machine_id: own for (_, machine_id), own in decided.items()}
    clips["pooled"] = [clip for own in decided.values() for clip in own]
    label_of = dict(zip(table.key, table.label, strict=True))
    for name, own in clips.items():
        truth = [label_of[key] == "anomalous" for key, _ in own]
        flags = [flag for _, flag in own]
        false_alarms = np.mean([flag for flag, t in zip(flags, truth, strict=True) if not t])
        assert rows[name].precision == pytest.approx(precision_score(truth, flags))
        assert rows[name].recall == pytest.approx(recall_score(truth, flags))
        assert rows[name].f1 == pytest.approx(f1_score(truth, flags))
        assert rows[name].false_alarms == pytest.approx(false_alarms)
        assert rows[name].promised_false_alarms is None
    assert rows["mean"] is None


def test_without_decision_files_nothing_was_decided(rng, tmp_path):
    write_scores(tmp_path, *scored(rng))

    rows, _ = evaluate_score_files(tmp_path)

    assert not any(row.decided for row in rows)


def test_decisions_without_labels_are_counted(tmp_path):
    for kind in ("anomaly_score", "decision_result"):
        (tmp_path / f"{kind}_fan_id_00.csv").write_text("id_00_0.wav,1\nid_00_1.wav,0\n")

    row = evaluate_score_files(tmp_path)[0][0]

    assert row.decided.n_decided_anomalous == 1
    assert (row.decided.recall, row.decided.false_alarms) == (None, None)


def test_a_file_that_names_no_machine_is_refused(tmp_path):
    (tmp_path / "anomaly_score_fan.csv").write_text("a.wav,1\n")

    with pytest.raises(ValueError, match="Cannot tell which machine 'anomaly_score_fan"):
        evaluate_score_files(tmp_path)


def test_empty_score_files_are_refused(tmp_path):
    (tmp_path / "anomaly_score_fan_id_00.csv").write_text("")

    with pytest.raises(ValueError, match="score files are all empty"):
        evaluate_score_files(tmp_path)
