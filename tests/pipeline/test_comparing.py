"""Runs and grids are compared by their folders; what cannot be compared is refused in one line."""

from __future__ import annotations

import json
import shutil

import pytest

from pipeline.command_line import main
from pipeline.comparing import compare_runs, comparison_facts
from pipeline.exits import DONE, FAILED, USAGE, UsageError


@pytest.fixture
def typed(monkeypatch, capsys):
    """Return a function that runs a command line and returns exit code, output and messages."""

    def run(*words):
        monkeypatch.setattr("sys.argv", ["run_pipeline.py", *map(str, words)])
        code = main()
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_a_grid_is_compared_method_by_method_seeds_as_one(finished):
    result = compare_runs([finished.grid])

    assert result.compared.names == ["iforest", "knn"]
    assert [len(folders) for _, folders in result.folders] == [2, 1]
    assert {row.machine for row in result.compared.rows} == {
        "valve id_00",
        "valve id_02",
        "all machines",
    }


def test_the_run_to_compare_with_can_be_chosen(finished):
    result = compare_runs([finished.grid, finished.single], against="logmel knn")

    assert result.compared.names == ["logmel knn", "logmel iforest", "wave knn"]
    with pytest.raises(UsageError, match="--against nothing"):
        compare_runs([finished.grid], against="nothing")


def test_a_run_that_is_given_twice_is_refused(finished):
    with pytest.raises(UsageError, match="is given twice"):
        compare_runs([finished.single, finished.single / ".." / "single"])
    with pytest.raises(UsageError, match="is given twice"):
        compare_runs([finished.grid, next(finished.grid.glob("*knn*"))])


def test_one_run_alone_is_refused(finished):
    with pytest.raises(UsageError, match="compare needs two runs, and there is one"):
        compare_runs([finished.single])


def test_two_runs_of_one_method_are_named_after_their_folders(finished):
    again = shutil.copytree(finished.single, finished.single.parent / "again")

    compared = compare_runs([finished.single, again]).compared

    assert compared.names == ["single", "again"]
    assert all(row.auc.difference == 0 and row.auc.adjusted == 1 for row in compared.rows)


def test_labels_of_a_manifest_take_the_place_of_those_of_the_runs(finished, tmp_path):
    lines = ["path,machine_type,machine_id,split,label"]
    for i in range(3):
        lines.append(f"gone/normal_id_00_{i:08d}.wav,valve,id_00,test,anomaly")
        lines.append(f"gone/anomaly_id_00_{i:08d}.wav,valve,id_00,test,normal")
    (tmp_path / "labels.csv").write_text("\n".join(lines))

    swapped = compare_runs([finished.grid], labels=tmp_path / "labels.csv").compared

    (row,) = swapped.rows
    before = compare_runs([finished.grid]).compared.rows[0]
    assert row.auc.difference == pytest.approx(-before.auc.difference)
    assert "6 clips without label are left out" in swapped.remarks


def test_score_files_of_another_system_are_compared_with_a_run(finished):
    theirs = finished.single.parent / "theirs"
    theirs.mkdir()
    for path in finished.single.glob("anomaly_score_*.csv"):
        lines = [line.split(",") for line in path.read_text().splitlines()]
        (theirs / path.name).write_text("".join(f"{name},-{score}\n" for name, score in lines))

    result = compare_runs([finished.single, finished.grid, theirs], against="theirs")

    assert result.folders[0] == ("theirs", [theirs])
    row = next(row for row in result.compared.rows if row.name == "wave knn")
    assert (row.n_normal, row.n_anomalous) == (3, 3)
    assert row.auc.first == pytest.approx(1 - row.auc.own)
    with pytest.raises(UsageError, match="is given twice"):
        compare_runs([theirs, theirs])


def test_the_command_prints_sentences_tables_json_and_a_page(finished, typed, tmp_path):
    page = tmp_path / "pages" / "comparison.html"

    code, out, err = typed("compare", finished.grid, finished.single, "--page", page)
    _, as_json, _ = typed("compare", finished.grid, finished.single, "--json")

    assert code == DONE
    assert "wave knn against logmel iforest" in out
    assert str(page) in err
    facts = json.loads(as_json)
    assert facts == json.loads(
        json.dumps(comparison_facts(compare_runs([finished.grid, finished.single])))
    )
    for sentence in facts["sentences"]:
        assert sentence in out
    assert "wave knn against logmel iforest" in page.read_text()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere"], FAILED, "nowhere: no such folder"),
        (["."], FAILED, "is no run folder"),
        ([], USAGE, "Missing argument"),
    ],
)
def test_what_is_no_run_is_said_in_one_line(typed, words, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    found, out, err = typed("compare", *words)

    assert found == code
    assert message in " ".join(err.split())
    assert out == ""
