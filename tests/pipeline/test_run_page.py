"""A page that cannot be drawn costs the page, and --figures says which files there are."""

import json

import pytest

from pipeline.exits import UsageError
from pipeline.job import run
from pipeline.run_page import formats_of


def refuse(*_, **__):
    raise RuntimeError("no ink")


def test_a_page_that_fails_costs_the_page_only(data, monkeypatch, capsys):
    for name in ("pipeline.run_page.page_evidence", "report.page.write_report"):
        monkeypatch.setattr(name, refuse)

    job = run(detector="knn", quiet=True)

    assert not job.failed
    assert (job.folder / "results.json").exists()
    assert not (job.folder / "report.html").exists()
    lines = map(json.loads, (job.folder / "log.jsonl").read_text().splitlines())
    reasons = [line["reason"] for line in lines if line["event"] == "failed"]
    assert reasons == ["the page has no clips to hear: no ink", "there is no report.html: no ink"]
    assert "there is no report.html: no ink" in capsys.readouterr().err


def test_a_grid_has_figures_where_they_are_asked_for(data):
    job = run(detector="knn,mahalanobis", figures="svg", quiet=True)

    drawn = sorted(path.name for path in job.folder.glob("*/classes.*"))
    assert drawn == ["classes.svg", "classes.svg"]


@pytest.mark.parametrize(
    ("text", "formats"), [("", None), ("none", ()), ("svg, pdf", ("svg", "pdf"))]
)
def test_formats_are_read(text, formats):
    assert formats_of(text) == formats


@pytest.mark.parametrize("text", ["jpg", "none,png"])
def test_other_formats_are_refused_before_the_work(text):
    with pytest.raises(UsageError, match="expected some of png, svg, pdf, or none"):
        formats_of(text)
