"""From fits to results and files: whatever fails is the reason beside the figures there are."""

import json

import pytest

from pipeline.job import run

FLAGS = {"encoder": "logmel", "detector": "knn", "quiet": True}


def test_a_file_that_cannot_be_written_costs_that_file_and_says_so(data, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device", "ranking.csv")

    monkeypatch.setattr("report.result_files.write_ranking", fail)

    job = run(**FLAGS)

    (outcome,) = job.outcomes
    assert job.failed
    assert outcome.reason == (
        "the results of logmel-fluctuation-knn are not complete: ranking.csv: the disk is full; "
        "free some space, or write to another disk"
    )
    assert len(outcome.results) == 5
    assert not (job.folder / "results.json").exists()
    assert '"failed"' in (job.folder / "log.jsonl").read_text()


@pytest.mark.parametrize(("false_alarms", "promised"), [(0.3, 0.3), ("auto", 1 / 11)])
def test_what_is_promised_is_what_was_asked_or_the_least_that_can_be(data, false_alarms, promised):
    job = run(**FLAGS, false_alarms=false_alarms)

    row = job.outcomes[0].results[0]
    assert row.decided.promised_false_alarms <= promised + 1e-9
    assert row.decided.n_calibration == 10


def test_a_rate_that_few_clips_cannot_promise_leaves_scores_without_verdicts(data):
    job = run(**FLAGS, false_alarms=0.01)

    (outcome,) = job.outcomes
    assert {clip["verdict"] for clip in outcome.clips} == {None}
    assert "that needs 99 clips" in outcome.results[0].note
    written = json.loads((job.folder / "results.json").read_text())
    assert written["results"][0]["decided"] is None
