"""A finished run is read back as it was, and what is not one is refused with the reason."""

from __future__ import annotations

import json

import pytest

from pipeline.finished_run import columns_of, find_runs, names_of, read_finished_run, telling_apart
from pipeline.run_files import load_run


def test_a_grid_is_its_combinations_and_seeds_share_a_name(finished):
    found = find_runs(finished.grid)

    assert found.is_grid
    assert names_of(found.runs) == ["iforest", "iforest", "knn"]
    columns = columns_of(found.runs)
    assert [own["detector"] for own in columns] == ["iforest", "iforest", "knn"]
    assert [own["seed"] for own in columns] == ["0", "1", "0"]


def test_a_run_has_its_results_clips_and_verdicts(finished):
    run = read_finished_run(finished.single)

    assert run.results == load_run(finished.single)
    assert len(run.clips) == 12
    assert {clip.label for clip in run.clips} == {"normal", "anomalous"}
    of_id_00, of_id_02 = run.decided()
    assert of_id_00.decisions.threshold.value == run.results[0].decided.threshold
    assert len(of_id_02.decisions.verdicts) == 6


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("results.json", "has no results.json: the run failed, was interrupted"),
        ("ranking.csv", "has no ranking.csv"),
        ("config.toml", "has no config.toml"),
    ],
)
def test_a_run_folder_that_is_half_written_is_refused(finished, missing, message):
    (finished.single / missing).unlink()

    with pytest.raises(ValueError, match=message):
        find_runs(finished.single)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.toml", "settings = 3"),
        ("config.toml", "[settings"),
        ("results.json", "[]"),
        ("results.json", '{"results": '),
        ("ranking.csv", "key\na.wav\n"),
        ("model/model.json", '{"settings": []}'),
        ("model/model.json", '{"members": [3]}'),
        ("model/model.json", "\x00"),
    ],
)
def test_a_damaged_file_is_named(finished, name, content):
    (finished.single / name).write_text(content)

    with pytest.raises(ValueError, match=name):
        find_runs(finished.single)


def test_a_run_without_its_model_is_read(finished):
    (finished.single / "model" / "model.json").unlink()

    assert read_finished_run(finished.single).fit_per == "id"


def test_what_a_grid_could_not_finish_is_listed_with_the_reason(finished):
    part = next(finished.grid.glob("*knn*"))
    (part / "results.json").unlink()

    found = find_runs(finished.grid)

    assert len(found.runs) == 2
    ((name, reason),) = found.unfinished
    assert name == part.name
    assert "has no results.json" in reason


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no run folder"):
        find_runs(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        find_runs(tmp_path / "nowhere")


def test_settings_that_follow_from_others_tell_nothing_apart():
    methods = [
        {"encoder": "logmel", "pooling": "fluctuation", "normalize": "none"},
        {"encoder": "mfcc", "pooling": "mean", "normalize": "none"},
        {"encoder": "mfcc", "pooling": "mean", "normalize": "rms"},
    ]

    assert telling_apart(methods) == ["encoder", "normalize"]


def test_a_run_of_before_has_the_year_2020(finished):
    file = finished.single / "results.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "year": None}))

    assert read_finished_run(finished.single).year == 2020
