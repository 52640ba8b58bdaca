"""What is printed is read at 80 columns, and JSON has all that the tables have."""

import json

import pytest

from detect import DETECTORS
from embed import ENCODERS, POOLINGS
from pipeline.job import run
from pipeline.printing import job_facts, print_job, print_registries
from pipeline.settings import Settings
from pipeline.systems import SYSTEMS

REGISTRIES = {
    "encoders": ENCODERS, "poolings": POOLINGS, "detectors": DETECTORS, "systems": SYSTEMS,
}  # fmt: skip


@pytest.fixture
def terminal(monkeypatch):
    """Be a terminal of 80 columns without colours."""
    from rich.console import Console

    monkeypatch.setattr(
        "pipeline.printing.results_screen",
        lambda: Console(width=80, highlight=False, force_terminal=True, color_system=None),
    )


@pytest.mark.usefixtures("terminal")
def test_the_list_breaks_no_word_and_no_name_at_80_columns(capsys):
    print_registries(REGISTRIES, as_json=False)

    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    words = {word for line in lines for word in line.split()}
    expected = {
        word
        for registry in REGISTRIES.values()
        for name, row in registry.items()
        for word in (name, *row.about.split())
    }
    assert expected <= words


def test_the_list_as_json_has_every_name(capsys):
    print_registries(REGISTRIES, as_json=True)

    listed = json.loads(capsys.readouterr().out)
    assert {kind: len(rows) for kind, rows in listed.items()} == {
        kind: len(registry) for kind, registry in REGISTRIES.items()
    }


@pytest.mark.usefixtures("terminal")
def test_tables_fit_80_columns_and_keep_names_whole(data, capsys):
    flags = {"encoder": "logmel", "pooling": "mean,quiet", "detector": "mahalanobis_shared,knn"}
    grid = run(**flags, quiet=True)
    single = run(quiet=True)
    capsys.readouterr()

    print_job(grid, Settings(quiet=True))
    print_job(single, Settings(quiet=True))

    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert out.count("mahalanobis_shared") == 2
    assert "valve id_00" in out
    assert "oracle order" in out


def test_json_of_a_grid_has_refused_combinations_and_the_scores_of_clips(data, capsys):
    job = run(encoder="logmel,mfcc", pooling="fluctuation", detector="knn", quiet=True)
    capsys.readouterr()

    print_job(job, Settings(json=True, scores=True, quiet=True))

    printed = json.loads(capsys.readouterr().out)
    fitted, refused = printed["runs"]
    assert len(fitted["scores"]) == 12
    assert {"key", "anomaly_score", "p_value", "verdict"} <= set(fitted["scores"][0])
    assert fitted["results"][0]["decided"]["promised_false_alarms"] is not None
    assert "needs log-mel in dB" in refused["error"]
    assert "scores" not in job_facts(job, with_scores=False)["runs"][0]
